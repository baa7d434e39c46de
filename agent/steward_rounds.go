package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"qosctl/framework"
	"qosctl/qos"
)

// lookEvery is the least time between two looks at all jobs that events of a framework ask for.
const lookEvery = time.Second

// stewardLoop keeps the frameworks and our jobs in agreement: it does what is still to be done, and understands what others changed
// there. Each framework has rounds of its own, so that one that does not answer holds up nobody but itself.
func (a *Agent) stewardLoop(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	var all []*steward
	for kind := range a.ports {
		s := &steward{agent: a, kind: kind, soon: make(chan struct{}, 1), look: make(chan struct{}, 1)}
		all = append(all, s)
		wg.Go(func() { s.loop(ctx) })
	}
	tick := time.NewTicker(a.poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			a.expire(time.Now())
		case <-a.kickLook:
			for _, s := range all {
				kick(s.look)
			}
		case <-a.kickSteward:
			for _, s := range all {
				kick(s.soon)
			}
		}
	}
}

// steward looks after the jobs of one framework.
type steward struct {
	agent *Agent
	kind  qos.Framework
	soon  chan struct{} // do what is pressing
	look  chan struct{} // look at all jobs
}

// loop does a round at each poll, at each hint of the framework, and when a series begins.
func (s *steward) loop(ctx context.Context) {
	tick := time.NewTicker(s.agent.poll)
	defer tick.Stop()
	var looked time.Time
	for {
		start, stop := s.nextStart(time.Now())
		all := true
		select {
		case <-ctx.Done():
			stop()
			return
		case <-tick.C:
		case <-s.look:
			if !pause(ctx, time.Until(looked.Add(lookEvery))) {
				stop()
				return
			}
		case <-s.soon:
			all = false
		case <-start:
			all = false
		}
		stop()
		now := time.Now()
		if all {
			looked = now
		}
		s.round(ctx, all, now)
	}
}

// nextStart is an alarm for the next series that begins; stop releases it.
func (s *steward) nextStart(now time.Time) (alarm <-chan time.Time, stop func()) {
	var next time.Time
	for _, j := range s.agent.jobs.all() {
		begin := j.spec().SeriesStart() // never changes: no lock
		if s.kind != qos.Chronos || j.spec().Framework != s.kind || !begin.After(now) {
			continue
		}
		if next.IsZero() || begin.Before(next) {
			next = begin
		}
	}
	if next.IsZero() {
		return nil, func() {}
	}
	t := time.NewTimer(next.Sub(now))
	return t.C, func() { t.Stop() }
}

// round tends the framework's jobs. Once it was not available, the rest waits for the next round.
func (s *steward) round(ctx context.Context, all bool, now time.Time) {
	if c := s.agent.cluster; c != nil && !c.mesh.Settled() {
		return // others may have taken over what this node thinks it owns
	}
	for _, j := range s.agent.jobs.all() {
		if ctx.Err() != nil {
			return
		}
		if j.spec().Framework != s.kind || !all && !s.agent.pressing(j, now) {
			continue
		}
		if errors.Is(s.agent.tend(ctx, j, now), framework.ErrUnavailable) {
			return
		}
	}
}

// pressing says whether there is something to be done for a job, not only to be looked at.
func (a *Agent) pressing(j *job, now time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.steward().Pending != qos.ActNone || j.row.Local.Move != nil || j.passedOn() && len(j.steward().Hosts) > 0 || j.live == nil && !j.busy && j.openTask() == nil && wantsStart(j.spec(), j.status(), now)
}

// stewardSoon asks for what is pressing to be done.
func (a *Agent) stewardSoon() { kick(a.kickSteward) }

// lookSoon asks for a look at all jobs in their frameworks.
func (a *Agent) lookSoon() { kick(a.kickLook) }

func kick(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // one is waiting already
	}
}

// watchFrameworks turns their events into looks.
func (a *Agent) watchFrameworks(ctx context.Context) error {
	for _, p := range a.ports {
		a.spawn(func(ctx context.Context) { p.Watch(ctx, a.lookSoon) })
	}
	<-ctx.Done()
	return nil
}
