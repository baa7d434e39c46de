package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"qosctl/agent/api"
	"qosctl/container"
	"qosctl/qos"
)

// place is one container of a job's output: an incarnation of an execution.
type place struct{ execution, part int }

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.execution, q.execution), cmp.Compare(p.part, q.part))
}

// cursor is where an output stream stands: bytes of each output of one container that were handed out.
type cursor struct {
	place
	off [2]int64 // stdout, stderr
}

var streams = [2]container.Stream{container.Stdout, container.Stderr}

func (c cursor) String() string {
	return fmt.Sprintf("%d.%d:%d:%d", c.execution, c.part, c.off[0], c.off[1])
}

func parseCursor(s string) (c cursor, err error) {
	if s == "" {
		return c, nil
	}
	n, err := fmt.Sscanf(s, "%d.%d:%d:%d", &c.execution, &c.part, &c.off[0], &c.off[1])
	if err != nil || n != 4 || c.execution < 0 || c.part < 0 || c.off[0] < 0 || c.off[1] < 0 || c.String() != s {
		return cursor{}, refuse(codeInvalid, "cursor %q: want the cursor of the last line received", s)
	}
	return c, nil
}

// outputs streams what a job writes, container after container.
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
		case st.place.execution > 0:
			if st.place != c.place {
				off := [2]int64{}
				if st.goesOn {
					off = c.off
				}
				c = cursor{st.place, off}
			}
			if err := o.copy(ctx, &c, st.container); err != nil {
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
	place     place // to read; execution 0: none yet
	container string
	goesOn    bool // the container is the one that the cursor stands in
	exit      *int
	cause     string
	over      bool
	rev       uint64
}

// look finds the container to read for a cursor; drained: all of the cursor's own was sent.
func (o *outputs) look(c cursor, drained bool) standing {
	j := o.job
	j.mu.Lock()
	defer j.mu.Unlock()
	st := standing{rev: j.rev, over: j.status().Phase.Terminal() && j.live == nil && !j.busy}
	first, last := place{1, 1}, j.lastPlace()
	if o.task != "" {
		t := j.task(o.task)
		if t == nil {
			return st
		}
		first, st.exit, st.cause = t.begin(), t.Exit, t.Cause
		for _, later := range j.after(o.task) {
			if end := j.before(later.begin()); end.compare(last) < 0 {
				last = end
			}
		}
	}
	want := c.place
	if drained {
		want = j.behind(c.place)
	}
	for _, least := range []place{first, {last.execution - keepContainers + 1, 1}} {
		if want.compare(least) < 0 {
			want = least
		}
	}
	if want.compare(last) <= 0 {
		st.place, st.container = want, j.containerAt(want)
		st.goesOn = want != c.place && j.containerAt(c.place) == st.container
	}
	return st
}

// begin is the first container that a task carries.
func (t task) begin() place { return place{t.First, max(1, t.Part)} }

// parts is how many containers an execution has had.
func (j *job) parts(execution int) int {
	if e := j.status().Execution; e != nil && e.Index == execution {
		return max(1, e.Account.Live.N)
	}
	for _, r := range j.status().Runs {
		if r.Index == execution {
			return max(1, r.Parts)
		}
	}
	return 1
}

// lastPlace is the newest container that has been made. The caller holds j.mu.
func (j *job) lastPlace() place {
	e := j.status().Execution
	if e == nil {
		return place{}
	}
	p := place{e.Index, max(1, e.Account.Live.N)}
	if j.busy { // it is just being made
		return j.before(p)
	}
	return p
}

func (j *job) before(p place) place {
	if p.part > 1 {
		return place{p.execution, p.part - 1}
	}
	return place{p.execution - 1, j.parts(p.execution - 1)}
}

func (j *job) behind(p place) place {
	if p.part < j.parts(p.execution) {
		return place{p.execution, p.part + 1}
	}
	return place{p.execution + 1, 1}
}

// containerAt is the id of the container at a place. The way back makes two incarnations share one.
func (j *job) containerAt(p place) string {
	id := containerID(j.spec().ID, p.execution, p.part)
	e := j.status().Execution
	if e == nil || e.Index != p.execution {
		return id
	}
	for i, entry := range e.Account.Entries {
		if i == (qos.Incarnation{N: p.part, Node: j.nodeAt(p)}) && entry.Container != "" {
			return entry.Container
		}
	}
	return id
}

// nodeAt is the node of the container at a place; "": it is not known. Of two that were made at once it is that of the one that lives,
// or lived last.
func (j *job) nodeAt(p place) string {
	e, node := j.status().Execution, ""
	if e == nil || e.Index != p.execution {
		return ""
	}
	for _, i := range e.Account.Incarnations() {
		switch {
		case i == e.Account.Live && i.N == p.part:
			return i.Node
		case i.N == p.part:
			node = i.Node
		}
	}
	return node
}

// nextPlace is where the next container of a job will stand. The caller holds j.mu.
func nextPlace(j *job) (execution, part int) {
	if j.saved() {
		return j.status().Execution.Index, j.status().Execution.Account.Next()
	}
	return nextIndex(j.status()), 1
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
	at := c.place
	watcher.Go(func() { o.untilTakenOver(ctx, at, cancel) })
	defer watcher.Wait()
	defer cancel()
	for i, s := range streams {
		if o.only != "" && o.only != s {
			continue
		}
		r, err := o.open(ctx, at, id, s, c.off[i])
		if errors.Is(err, container.ErrNotFound) {
			break // removed since: what it wrote is gone with it
		}
		if err != nil {
			errs[i] = err
			cancel() // the other one would be read to the container's end before anybody learns of this
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

// untilTakenOver ends the copying of a container that another task has taken over, or is to.
func (o *outputs) untilTakenOver(ctx context.Context, at place, cancel context.CancelFunc) {
	for o.task != "" && ctx.Err() == nil {
		o.job.mu.Lock()
		later, rev := o.job.after(o.task), o.job.rev
		left := o.job.task(o.task).Left
		o.job.mu.Unlock()
		if left || len(later) > 0 && later[0].begin().compare(at) <= 0 {
			cancel()
			return
		}
		waitChange(ctx, o.job, rev)
	}
}

// open reads one container's output; of one that was removed, what was collected of it.
func (o *outputs) open(ctx context.Context, at place, id string, s container.Stream, off int64) (io.ReadCloser, error) {
	o.job.mu.Lock()
	node := o.job.nodeAt(at)
	o.job.mu.Unlock()
	if node != "" && node != o.agent.node && o.agent.cluster != nil {
		return o.agent.openElsewhere(ctx, node, o.job.spec().ID, id, s, off)
	}
	if !o.follow {
		done, cancel := context.WithCancel(ctx)
		cancel() // read what is there, do not wait for more
		ctx = done
	}
	r, err := o.agent.engineOf(o.job).Logs(ctx, id, s, off)
	if errors.Is(err, container.ErrNotFound) {
		return o.agent.openCollected(id, s, off)
	}
	return r, err
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
