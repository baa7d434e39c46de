package agent

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/qos"
)

// restart lets another agent follow, which has other ways to its frameworks.
func (n *node) restart(poll time.Duration, ports map[qos.Framework]port) {
	n.t.Helper()
	n.end()
	a, err := New(Options{Config: n.cfg, Version: "test"})
	if err != nil {
		n.t.Fatal(err)
	}
	ready, done := make(chan struct{}), make(chan error, 1)
	a.ports, a.poll, a.ready = ports, poll, func() { close(ready) }
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- a.Run(ctx) }()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		n.t.Fatalf("agent ended: %v", err)
	}
	n.agent = a
	n.stop = func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Errorf("agent ended: %v", err)
		}
	}
}

// deaf is a framework that never answers a look.
type deaf struct{ *fakePort }

func (deaf) Look(ctx context.Context, _ qos.Spec) (sight, error) {
	<-ctx.Done()
	return sight{}, ctx.Err()
}

// A framework that does not answer does not keep the jobs of the other one from being started.
func TestOneDeafFramework(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	good := newFakePort()
	n.restart(100*time.Millisecond, map[qos.Framework]port{qos.Marathon: deaf{n.port}, qos.Chronos: good})
	n.submit(idA, sleeper)
	n.submit(idB, `{"name":"s","command":"true","schedule":"R3//PT1M","cpus":0.2,"mem":32,"qos":{"duration":1,"desv_deadline":0.2,"deadline":60}}`)
	comes(t, "the Chronos job is started", func() bool {
		good.mu.Lock()
		defer good.mu.Unlock()
		return good.starts > 0
	})
}

// One look that does not find a job proves nothing; that it stays away does.
func TestVanishedJobIsLookedForTwice(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, sleeper)
	j := n.agent.jobs.get(idA)
	missing := func() bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		return !j.missing.IsZero()
	}
	n.port.set(func() { delete(n.port.jobs, "/long") })
	comes(t, "missed", missing)
	n.port.set(func() { n.port.jobs["/long"] = idA })
	comes(t, "found again", func() bool { return !missing() })
	if v, err := n.client().Job(t.Context(), idA); err != nil || v.Phase != qos.PhasePending {
		t.Fatalf("%s after one look that did not find it: %v", v.Phase, err)
	}
	n.port.set(func() { delete(n.port.jobs, "/long") })
	comes(t, "missed", missing)
	begin := time.Now()
	n.await(idA, "cancelled", inPhase(qos.PhaseCancelled))
	if d := time.Since(begin); d < n.agent.gap()-100*time.Millisecond {
		t.Errorf("given up after %s", d)
	}
}

// switchable is a framework in which a job can be disabled.
type switchable struct {
	*fakePort
	off atomic.Bool
}

func (s *switchable) Look(ctx context.Context, spec qos.Spec) (sight, error) {
	v, err := s.fakePort.Look(ctx, spec)
	v.Stopped, v.Active = s.off.Load(), true
	return v, err
}

// A series that was disabled between two iterations waits, and goes on in the same stand-in.
func TestSuspendedSeriesGoesOn(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	p := &switchable{fakePort: n.port}
	n.restart(100*time.Millisecond, map[qos.Framework]port{qos.Chronos: p})
	n.submit(idA, `{"name":"s","command":"test -e go || exit 1","schedule":"R2//PT1M","cpus":0.2,"mem":32,"qos":{"duration":1,"desv_deadline":0.2,"deadline":600}}`)
	n.claim(idA, "t1")
	n.await(idA, "between two iterations", inPhase(qos.PhaseEnded)) // it failed: the next one comes after a back-off
	p.off.Store(true)
	v := n.await(idA, "suspended", inPhase(qos.PhaseSuspended))
	stays(t, 3*time.Second, "suspended", func() bool { return n.agent.jobs.get(idA).phase() == qos.PhaseSuspended })
	p.off.Store(false)
	n.await(idA, "on its next iteration", func(j api.Job) bool { return j.Index > v.Index })
}

func (j *job) phase() qos.Phase {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.status().Phase
}

// A series begins when it is due, not at the next poll.
func TestSeriesBeginsWhenItIsDue(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.restart(time.Hour, map[qos.Framework]port{qos.Chronos: n.port})
	start := time.Now().Add(2 * time.Second)
	n.submit(idA, fmt.Sprintf(`{"name":"s","command":"true","schedule":"R3/%s/PT1M","cpus":0.2,"mem":32,"qos":{"duration":1,"desv_deadline":0.2,"deadline":60}}`,
		start.UTC().Format("2006-01-02T15:04:05.000Z")))
	started := func() bool {
		n.port.mu.Lock()
		defer n.port.mu.Unlock()
		return n.port.starts > 0
	}
	if started() {
		t.Error("started before it is due")
	}
	comes(t, "started", started)
	if d := time.Since(start); d < -10*time.Millisecond || d > 2*time.Second {
		t.Errorf("started %s after it was due", d)
	}
}
