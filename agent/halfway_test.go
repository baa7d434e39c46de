package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/ckpt"
	"qosctl/container"
	"qosctl/qos"
)

// TestHalfACheckpointIsCompleted: the container has ended, and what is left to do fails for a while. The job is suspended once that is done.
func TestHalfACheckpointIsCompleted(t *testing.T) {
	t.Parallel()
	k := &fakeKeeper{halfway: fmt.Errorf("%w: disk full", ckpt.ErrStopped)}
	tries := 0
	k.complete = func(r ckpt.Ref) (ckpt.Manifest, error) {
		if tries++; tries < 3 {
			return ckpt.Manifest{}, errors.New("disk full")
		}
		m := ckpt.Manifest{Job: r.Job, Sequence: r.Sequence, Execution: 1, Incarnation: 1, CPU: time.Second, Container: ckpt.Container{ID: containerID(r.Job, 1, 1)}}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.list, k.halfway = append(k.list, m), nil
		return m, nil
	}
	n := testDocker(t, k, nil)
	n.submit(idA, dockerJob(`echo begun; exec sleep 1000`))
	s, _ := n.claim(idA, "t1")
	n.await(idA, "running", func(j api.Job) bool { return j.Progress > 0 })
	stop(t, s, "t1")
	if _, _, code := n.read(s, "t1"); code != 143 {
		t.Errorf("code %d", code)
	}
	v := n.await(idA, "suspended, or let go on since", func(j api.Job) bool {
		return j.Phase == qos.PhaseSuspended || j.Phase == qos.PhasePending && j.Progress > 0
	})
	if tries != 3 || v.Tally.Failed != 0 || v.Progress != 1 {
		t.Errorf("after %d tries: %+v", tries, v)
	}
	n.claim(idA, "t2")
	v = n.await(idA, "restored", func(j api.Job) bool { return j.Phase == qos.PhaseRunning && j.Allocation > 0 })
	if len(k.restored) != 1 || v.Account.Entries[v.Account.Live].Base != time.Second {
		t.Errorf("restored %v, %+v", k.restored, v.Account)
	}
}

// TestAFrozenJobIsLetGoOn: its checkpoint is whole, and it could not be thawed. That is tried until it runs on; nothing is taken of it meanwhile.
func TestAFrozenJobIsLetGoOn(t *testing.T) {
	t.Parallel()
	k := &fakeKeeper{halfway: fmt.Errorf("%w: Docker is away", ckpt.ErrStopped)}
	tries := 0
	k.complete = func(r ckpt.Ref) (ckpt.Manifest, error) {
		if tries++; tries < 3 {
			return ckpt.Manifest{}, errors.New("Docker is away")
		}
		m := ckpt.Manifest{Job: r.Job, Sequence: r.Sequence, Execution: 1, Incarnation: 1, CPU: time.Second, Kept: true, Container: ckpt.Container{ID: containerID(r.Job, 1, 1)}}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.list, k.halfway = append(k.list, m), nil
		return m, nil
	}
	n := testDocker(t, k, nil)
	n.submit(idA, dockerJob(`echo begun; exec sleep 1000`))
	n.claim(idA, "t1")
	n.await(idA, "running", func(j api.Job) bool { return j.Progress > 0 })
	m, err := n.client().Checkpoint(t.Context(), idA, api.CheckpointRequest{})
	if err != nil || m.Sequence != 1 {
		t.Errorf("got %+v, %v", m, err)
	}
	j := n.agent.jobs.get(idA)
	j.mu.Lock()
	defer j.mu.Unlock()
	if st := j.status(); tries != 3 || st.Phase != qos.PhaseRunning || st.Saved == nil || st.Saved.Sequence != 1 || j.live.saving {
		t.Errorf("after %d tries: %+v", tries, st)
	}
}

// earlyExit says that a container has ended when a test sends its exit.
type earlyExit struct {
	engine
	exits chan container.Exit
}

func (e earlyExit) Wait(ctx context.Context, id string) (container.Exit, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		x   container.Exit
		err error
	}
	ended := make(chan result, 1)
	go func() { x, err := e.engine.Wait(ctx, id); ended <- result{x, err} }()
	select {
	case x := <-e.exits:
		return x, nil
	case r := <-ended:
		return r.x, r.err
	}
}

// TestACheckpointThatIsTakenBack: the container had ended, and was restored where it was when the rest failed. That was no end of the job.
func TestACheckpointThatIsTakenBack(t *testing.T) {
	t.Parallel()
	exits := make(chan container.Exit)
	var n *node
	k := &fakeKeeper{}
	k.take = func(ctx context.Context, _ int) error {
		exits <- container.Exit{Code: 137, Signal: 9, Finished: time.Now()}
		j := n.agent.jobs.get(idA)
		for noted := false; !noted && pause(ctx, time.Millisecond); {
			j.mu.Lock()
			noted = j.live.ended != nil
			j.mu.Unlock()
		}
		return &ckpt.BackError{Since: time.Now(), Overhead: time.Millisecond, Err: fmt.Errorf("%w: disk full", ckpt.ErrDump)}
	}
	n = startNode(t, nil, func(n *node) {
		n.keeper, n.wrap = k, func(e engine) engine {
			return earlyExit{e, exits}
		}
	})
	gate := filepath.Join(t.TempDir(), "gate")
	n.submit(idA, dockerJob(`echo begun; while [ ! -e `+gate+` ]; do sleep 0.05; done`))
	s, _ := n.claim(idA, "t1")
	n.await(idA, "running", func(j api.Job) bool { return j.Progress > 0 })
	stop(t, s, "t1")
	if _, _, code := n.read(s, "t1"); code != 143 {
		t.Errorf("code %d", code)
	}
	n.claim(idA, "t2")
	v := n.await(idA, "held for the next task", inPhase(qos.PhaseRunning))
	if v.Tally.Failed != 0 || v.Account.Entries[v.Account.Live].Zero != time.Millisecond {
		t.Errorf("it runs on: %+v", v)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	v = n.await(idA, "completed", inPhase(qos.PhaseCompleted))
	if v.Tally.Succeeded != 1 || v.Tally.Failed != 0 || v.Account.Live.N != 1 {
		t.Errorf("at the end: %+v", v)
	}
}

func TestContainerThatCannotBeSavedRunsOn(t *testing.T) {
	t.Parallel()
	k := &fakeKeeper{take: func(context.Context, int) error { return fmt.Errorf("%w: file locks", ckpt.ErrDump) }}
	n := testDocker(t, k, nil)
	n.submit(idA, dockerJob(`echo begun; exec sleep 1000`))
	s, _ := n.claim(idA, "t1")
	v := n.await(idA, "running", func(j api.Job) bool { return j.Progress > 0 })
	stop(t, s, "t1")
	if _, _, code := n.read(s, "t1"); code != 143 {
		t.Errorf("code %d", code)
	}
	id := n.agent.show(n.agent.jobs.get(idA), true).Container
	n.claim(idA, "t2")
	v = n.await(idA, "held for the next task", func(j api.Job) bool { return j.Phase == qos.PhaseRunning })
	if w := n.agent.show(n.agent.jobs.get(idA), true); w.Container != id || v.Epoch != 1 {
		t.Errorf("runs in %s, was %s: %+v", w.Container, id, v)
	}
	x := n.agent.explain(n.agent.jobs.get(idA))
	if !slices.ContainsFunc(x.Events, func(e api.Event) bool { return strings.Contains(e.Text, "file locks") }) {
		t.Errorf("the reason is not said: %+v", x.Events)
	}
}

// TestAnotherNodesImpatienceEndsNoJob: what refuses a checkpoint may pass. A node that asks again and again does not use up the tries.
func TestAnotherNodesImpatienceEndsNoJob(t *testing.T) {
	t.Parallel()
	k := &fakeKeeper{take: func(context.Context, int) error { return fmt.Errorf("%w: a docker exec", ckpt.ErrRefused) }}
	n := testDocker(t, k, nil)
	n.submit(idA, dockerJob(`echo begun; exec sleep 1000`))
	n.claim(idA, "t1")
	n.await(idA, "running", func(j api.Job) bool { return j.Progress > 0 })
	j := n.agent.jobs.get(idA)
	ask := func() {
		t.Helper()
		if _, err := n.agent.yield(j, yieldRequest{Node: "other", Why: "claimed"}); err == nil || !strings.Contains(err.Error(), "ask again") {
			t.Fatalf("it was handed over: %v", err)
		}
	}
	failed := func() (n int, stopping bool) {
		j.mu.Lock()
		defer j.mu.Unlock()
		return j.live.failed, j.live.stopping
	}
	ask()
	n.poll("the first try has failed", func() bool { f, _ := failed(); return f == 1 })
	for range 20 {
		ask()
	}
	if f, stopping := failed(); f != 1 || stopping {
		t.Errorf("%d tries, stopping %t", f, stopping)
	}
}
