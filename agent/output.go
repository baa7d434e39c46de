package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"qosctl/agent/api"
	"qosctl/container"
)

// cursor is where an output stream stands: bytes of each output of one execution that were handed out.
type cursor struct {
	execution int
	off       [2]int64 // stdout, stderr
}

var streams = [2]container.Stream{container.Stdout, container.Stderr}

func (c cursor) String() string { return fmt.Sprintf("%d:%d:%d", c.execution, c.off[0], c.off[1]) }

func parseCursor(s string) (c cursor, err error) {
	if s == "" {
		return c, nil
	}
	n, err := fmt.Sscanf(s, "%d:%d:%d", &c.execution, &c.off[0], &c.off[1])
	if err != nil || n != 3 || c.execution < 0 || c.off[0] < 0 || c.off[1] < 0 || c.String() != s {
		return cursor{}, refuse(codeInvalid, "cursor %q: want the cursor of the last line received", s)
	}
	return c, nil
}

// outputs streams what a job writes, execution after execution.
type outputs struct {
	agent  *Agent
	job    *job
	task   string           // of this stand-in's task; "": of all that is kept
	only   container.Stream // "": both
	follow bool
	send   func(api.Output) error // one call at a time
}

// run sends from a cursor on. For a task it ends with the line that carries the task's exit code; without follow, when all kept was sent.
func (o *outputs) run(ctx context.Context, c cursor) error {
	drained := false
	for ctx.Err() == nil {
		st := o.look(c, drained)
		switch {
		case st.index > 0:
			if st.index != c.execution {
				c = cursor{execution: st.index}
			}
			if err := o.copy(ctx, &c, containerID(o.job.spec().ID, c.execution)); err != nil {
				return err
			}
			drained = true
		case st.exit != nil:
			return o.send(api.Output{Exit: st.exit, Reason: st.cause, Cursor: c.String()})
		case !o.follow || st.over:
			return nil
		default:
			waitChange(ctx, o.job, st.rev)
		}
	}
	return ctx.Err()
}

// standing is what there is to send behind a cursor.
type standing struct {
	index int // execution to read; 0: none yet
	exit  *int
	cause string
	over  bool
	rev   uint64
}

// look finds the execution to read for a cursor; drained: all of the cursor's own was sent.
func (o *outputs) look(c cursor, drained bool) standing {
	j := o.job
	j.mu.Lock()
	defer j.mu.Unlock()
	st := standing{rev: j.rev, over: j.status().Phase.Terminal() && j.live == nil && !j.busy}
	first, last := 1, 0
	if e := j.status().Execution; e != nil {
		last = e.Index
		if j.busy { // its container is just being made
			last--
		}
	}
	if o.task != "" {
		t := j.task(o.task)
		if t == nil {
			return st
		}
		first, st.exit, st.cause = t.First, t.Exit, t.Cause
		for _, later := range j.after(o.task) {
			last = min(last, later.First-1)
		}
	}
	want := c.execution
	if drained {
		want++
	}
	if want = max(want, first, last-keepContainers+1); want <= last {
		st.index = want
	}
	return st
}

// copy sends one container's outputs until both are read to their end.
func (o *outputs) copy(ctx context.Context, c *cursor, id string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		mu      sync.Mutex
		wg      sync.WaitGroup
		watcher sync.WaitGroup
		errs    [2]error
	)
	execution := c.execution
	watcher.Go(func() { o.untilTakenOver(ctx, execution, cancel) })
	defer watcher.Wait()
	defer cancel()
	for i, s := range streams {
		if o.only != "" && o.only != s {
			continue
		}
		r, err := o.open(ctx, id, s, c.off[i])
		if errors.Is(err, container.ErrNotFound) {
			break // removed since: what it wrote is gone with it
		}
		if err != nil {
			errs[i] = err
			break
		}
		wg.Go(func() {
			defer r.Close()
			errs[i] = o.pump(r, s, func(n int) string {
				c.off[i] += int64(n)
				return c.String()
			}, &mu)
			if errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

// untilTakenOver ends the copying of an execution that another task has taken over.
func (o *outputs) untilTakenOver(ctx context.Context, execution int, cancel context.CancelFunc) {
	for o.task != "" && ctx.Err() == nil {
		o.job.mu.Lock()
		later, rev := o.job.after(o.task), o.job.rev
		o.job.mu.Unlock()
		if len(later) > 0 && later[0].First <= execution {
			cancel()
			return
		}
		waitChange(ctx, o.job, rev)
	}
}

func (o *outputs) open(ctx context.Context, id string, s container.Stream, off int64) (io.ReadCloser, error) {
	if !o.follow {
		done, cancel := context.WithCancel(ctx)
		cancel() // read what is there, do not wait for more
		return o.agent.engine.Logs(done, id, s, off)
	}
	return o.agent.engine.Logs(ctx, id, s, off)
}

// pump sends what r gives; advance moves the cursor by so many bytes and returns it.
func (o *outputs) pump(r io.Reader, s container.Stream, advance func(int) string, mu *sync.Mutex) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			mu.Lock()
			sendErr := o.send(api.Output{Stream: string(s), Data: buf[:n], Cursor: advance(n)})
			mu.Unlock()
			if sendErr != nil {
				return sendErr
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, context.Canceled):
			return nil
		case err != nil:
			return fmt.Errorf("read %s: %w", s, err)
		}
	}
}
