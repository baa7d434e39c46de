package process

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"qosctl/cgroup"
	"qosctl/container"
)

// lookAgain is how often a container is looked at that no process can be waited for: one that was not started yet.
const lookAgain = 100 * time.Millisecond

// Wait returns when the container has exited: when its shim is gone, and its payload if the shim was killed.
func (e *Engine) Wait(ctx context.Context, id string) (container.Exit, error) {
	for {
		l, err := e.look(id)
		switch {
		case err != nil:
			return container.Exit{}, fmt.Errorf("wait: %w", err)
		case l.state == container.Exited:
			return l.exit, nil
		case l.pidfd >= 0:
			err = e.proc.ends.await(ctx, l.pidfd)
		case l.by != identity{}:
			err = e.proc.poll(ctx, l.by)
		case !l.gone:
			err = after(ctx, lookAgain)
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return container.Exit{}, fmt.Errorf("wait for container %s: %w", id, err)
		}
	}
}

// sight is what a waiter needs of a container.
type sight struct {
	state container.State
	exit  container.Exit
	pidfd int      // of whose end is to be waited for; -1: none
	by    identity // the same where the kernel has no pidfd; zero: nobody
	gone  bool     // it has ended since it was looked at
}

// Herald has ended called when the container's end can be waited for no longer than a moment: see container.Herald. Until then it costs a
// pidfd and an entry of an epoll, where Wait would hold a goroutine.
func (e *Engine) Herald(id string, ended func()) error {
	s, err := e.look(id)
	switch {
	case err != nil:
		return fmt.Errorf("wait: %w", err)
	case s.state == container.Exited, s.gone:
		ended()
		return nil
	case s.pidfd < 0:
		return fmt.Errorf("container %s has no process yet: %w", id, container.ErrNotSupported)
	}
	if err := e.proc.ends.join(s.pidfd, waiter{ended: ended}); err != nil {
		return fmt.Errorf("wait for container %s: %w", id, err)
	}
	return nil
}

// look finds out what a waiter has to wait for.
func (e *Engine) look(id string) (*sight, error) {
	r, err := e.load(id)
	if err != nil {
		return nil, err
	}
	s := &sight{state: r.state, exit: r.exit, pidfd: -1}
	var who identity
	switch {
	case r.state != container.Running || !r.hasRun:
		return s, nil
	case r.shim != 0 && r.shim == r.run.Shim.PID:
		who = r.run.Shim
	case r.shim == 0:
		who = r.run.identity
	default:
		return s, nil
	}
	if s.pidfd, err = e.proc.open(who); err != nil {
		s.by = who
	}
	s.gone = err == nil && s.pidfd < 0
	return s, nil
}

// after waits for d, or for the end of ctx.
func after(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Stop sends SIGTERM to all processes of the container, as Mesos' executor does, and after grace kills what is left.
func (e *Engine) Stop(ctx context.Context, id string, grace time.Duration) error {
	r, err := e.load(id)
	if err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	switch {
	case r.state == container.Exited:
		return nil
	case r.state == container.Created && !r.starting:
		return fmt.Errorf("stop container %s: %w", id, container.ErrNotRunning)
	}
	if err = e.terminate(r.cgroup()); err != nil {
		return fmt.Errorf("stop container %s: %w", id, err)
	}
	soft, cancel := context.WithTimeout(ctx, grace)
	_, err = e.Wait(soft, id)
	cancel()
	if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	e.log.Info("grace is over, killing", "container", id, "grace", grace)
	if err = e.o.Cgroups.Kill(ctx, r.cgroup()); err != nil && !errors.Is(err, cgroup.ErrGone) {
		return fmt.Errorf("stop container %s: %w", id, err)
	}
	_, err = e.Wait(ctx, id)
	return err
}

// terminate sends SIGTERM to all that is in a cgroup. A second look catches what was forked during the first; what a handler starts
// after the first, to save something, is left alone.
func (e *Engine) terminate(path string) error {
	began, sent := bootTicks(), map[int]bool{}
	for look := range 2 {
		pids, err := e.o.Cgroups.Procs(path)
		if errors.Is(err, cgroup.ErrGone) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, pid := range pids {
			id, err := e.proc.identify(pid)
			if err != nil || sent[pid] || look > 0 && id.Start >= began {
				continue
			}
			if err = unix.Kill(pid, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("send SIGTERM to process %d: %w", pid, err)
			}
			sent[pid] = true
		}
	}
	return nil
}

// userHZ is the unit of times in /proc/PID/stat, the same on every architecture that Go runs on.
const userHZ = 100

// bootTicks is now as the start times of processes have it.
func bootTicks() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0 // then the second look signals nobody
	}
	return uint64(ts.Nano()) / (1e9 / userHZ)
}
