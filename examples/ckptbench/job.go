package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"qosctl/container"
	"qosctl/e2e/programs"
)

// enough lines show that the job runs.
const enough = 50

// jobArgs is what the job is called with.
func jobArgs(mib int) []string {
	return []string{programs.Job, "counter", "-every", "1ms", "-mib", strconv.Itoa(mib)}
}

// await reads a container's output from its beginning until there are more lines than so many.
func (h *host) await(ctx context.Context, id string, lines int) (int, error) {
	r, err := h.engine.Logs(ctx, id, container.Stdout, 0)
	if err != nil {
		return 0, fmt.Errorf("read output: %w", err)
	}
	defer r.Close() //nolint:errcheck // only read
	buf, seen := make([]byte, 64<<10), 0
	for seen <= lines {
		n, err := r.Read(buf)
		seen += bytes.Count(buf[:n], []byte("\n"))
		if err != nil {
			return seen, fmt.Errorf("container %s: %d lines of output: %w", id, seen, err)
		}
	}
	return seen, nil
}

// output is all that an exited container has printed.
func (h *host) output(ctx context.Context, id string) ([]byte, error) {
	r, err := h.engine.Logs(ctx, id, container.Stdout, 0)
	if err != nil {
		return nil, fmt.Errorf("read output: %w", err)
	}
	b, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("read output of container %s: %w", id, err)
	}
	return b, nil
}

// downtime is the longest gap in an output that must be whole.
func downtime(out []byte, begin time.Time) (time.Duration, error) {
	list, err := programs.Lines(bytes.NewReader(out))
	if err != nil {
		return 0, err
	}
	for len(list) > 1 && list[1].At.Before(begin) { // what was before does not matter
		list = list[1:]
	}
	gap, _ := programs.Gap(list)
	return gap, nil
}

// start creates and starts a job, and waits until it runs.
func (h *host) start(ctx context.Context, s container.Spec) error {
	if err := h.engine.Create(ctx, s); err != nil {
		return err
	}
	if err := h.engine.Start(ctx, s.ID); err != nil {
		return err
	}
	_, err := h.await(ctx, s.ID, enough)
	return err
}

// end removes containers.
func (h *host) end(ctx context.Context, ids ...string) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer stop()
	var errs []error
	for _, id := range ids {
		err := h.engine.Stop(ctx, id, 0)
		if err == nil || errors.Is(err, container.ErrNotRunning) {
			err = h.engine.Remove(ctx, id)
		}
		if !errors.Is(err, container.ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// collector reads a pipe to its end.
type collector struct {
	wait sync.WaitGroup
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{} // something has come; at most one word waits in it
	err  error
}

func collect(r io.ReadCloser) *collector {
	c := &collector{more: make(chan struct{}, 1)}
	c.wait.Go(func() {
		defer close(c.more)
		defer r.Close() //nolint:errcheck // only read
		buf := make([]byte, 64<<10)
		for {
			n, err := r.Read(buf)
			c.mu.Lock()
			c.buf.Write(buf[:n])
			c.mu.Unlock()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					c.err = err
				}
				return
			}
			select {
			case c.more <- struct{}{}:
			default:
			}
		}
	})
	return c
}

// await waits until the pipe has brought so many lines.
func (c *collector) await(ctx context.Context, lines int) error {
	for {
		c.mu.Lock()
		n := bytes.Count(c.buf.Bytes(), []byte("\n"))
		c.mu.Unlock()
		if n > lines {
			return nil
		}
		select {
		case _, ok := <-c.more:
			if !ok {
				return fmt.Errorf("the job has ended after %d lines: %w", n, errors.Join(errors.New("no more output"), c.err))
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// all is what the pipe has brought, once its writers are gone.
func (c *collector) all() ([]byte, error) {
	c.wait.Wait()
	return c.buf.Bytes(), c.err
}
