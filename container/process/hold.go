package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"qosctl/cgroup"
)

// A quota below the request is a loan that the container gives to its neighbours, and only an agent that lives can call it in. So an
// agent holds a lock as long as it lives, however it ends; shims that find it free for holdGrace give their container its request back.
const (
	holdPeriod = 5 * time.Second
	holdGrace  = 30 * time.Second // longer than an agent takes to be started again
)

// heldName is the file whose lock says that an agent lives: beside the directory of the containers, not in it.
func heldName(containers string) string { return filepath.Clean(containers) + ".held" }

// Hold says that this process looks after the engine's containers, until it ends or closes the engine. Another process that does is an error.
func (e *Engine) Hold() error {
	f, err := os.OpenFile(heldName(e.o.Dir), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("hold containers: %w", err)
	}
	for deadline := time.Now().Add(time.Second); ; { // a shim that looks has it for a moment
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			break
		}
		t := time.NewTimer(time.Millisecond)
		<-t.C
	}
	if err != nil {
		return errors.Join(fmt.Errorf("hold containers: another agent does: %w", err), f.Close())
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.held = f
	return nil
}

// held says whether an agent lives. Where none ever held the containers there is nothing to give back.
func held(containers string) bool {
	f, err := os.OpenFile(heldName(containers), os.O_RDONLY, 0)
	if err != nil {
		return true
	}
	defer f.Close() //nolint:errcheck // only looked
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

// callIn gives the container its request back once no agent has lived for holdGrace, until ctx ends.
func (s *shim) callIn(ctx context.Context) {
	t := time.NewTicker(holdPeriod)
	defer t.Stop()
	alive := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			if held(filepath.Dir(s.dir)) {
				alive = now
				continue
			}
			if now.Sub(alive) < holdGrace {
				continue
			}
			if err := s.restore(); err != nil && !errors.Is(err, cgroup.ErrGone) {
				s.log.Warn("give the request back", "err", err)
			}
		}
	}
}

// restore raises a quota below the request to the request: what the shares say, which only follow what Mesos sold.
func (s *shim) restore() error {
	l, err := s.cg.OpenLimits(s.run.Group)
	if err != nil {
		return err
	}
	defer l.Close() //nolint:errcheck // written or not, each write says
	in, err := l.CPUs()
	if err != nil {
		return err
	}
	request, err := l.Shares()
	if err != nil || s.conf.Spec.Limits.Shares <= 0 || in < 0 || in >= request-0.005 {
		return err
	}
	if _, err := l.SetCPUs(request); err != nil {
		return err
	}
	s.log.Warn("no agent lives: given its request back", "from", in, "to", request)
	return nil
}
