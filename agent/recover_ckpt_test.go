package agent

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"

	"qosctl/agent/api"
	"qosctl/ckpt"
	"qosctl/qos"
)

// TestOneCheckpointThatCannotBeTakenUpHoldsNoOtherJobUp: its job waits for it, the other is held, and what nobody wants is pruned.
func TestOneCheckpointThatCannotBeTakenUpHoldsNoOtherJobUp(t *testing.T) {
	t.Parallel()
	var well atomic.Bool
	k := &fakeKeeper{}
	n := testDocker(t, k, nil)
	n.submit(idA, dockerJob(`exec sleep 1000`))
	n.claim(idA, "t1")
	n.await(idA, "running", func(j api.Job) bool { return j.Progress > 0 })
	n.submit(idB, `{"id":"/other","cmd":"exec sleep 1000","cpus":0.2,"mem":32,"container":{"type":"DOCKER","docker":{"image":"img"}},
		"qos":{"duration":100,"desv_deadline":0.1,"deadline":600,"executions":1}}`)
	n.claim(idB, "u1")
	n.await(idB, "running", func(j api.Job) bool { return j.Progress > 0 })
	n.end()
	m := ckpt.Manifest{Job: idA, Sequence: 1, Execution: 1, Incarnation: 1, Node: n.cfg.Node, Container: ckpt.Container{ID: containerID(idA, 1, 1)}}
	ref := ckpt.Ref{Job: idA, Sequence: 1}
	k.failed, k.pruned = ckpt.RecoverError{ref: ckpt.ErrSpace}, 0
	k.takeUp = func(_ context.Context, r ckpt.Ref) (ckpt.Manifest, error) {
		if r != ref {
			t.Errorf("%s is taken up", r)
		}
		if !well.Load() {
			return ckpt.Manifest{}, ckpt.ErrSpace
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.list = append(k.list, m)
		return m, nil
	}
	n.begin()
	n.poll("the other job's container is held, and pruning goes on", func() bool {
		k.mu.Lock()
		pruned := k.pruned
		k.mu.Unlock()
		j := n.agent.jobs.get(idB)
		j.mu.Lock()
		defer j.mu.Unlock()
		return j.live != nil && pruned > 0
	})
	j := n.agent.jobs.get(idA)
	j.mu.Lock()
	if !j.busy || j.live != nil {
		t.Error("its job goes on though nobody knows what became of its checkpoint")
	}
	j.mu.Unlock()
	well.Store(true)
	n.await(idA, "suspended", func(j api.Job) bool { return j.Phase == qos.PhaseSuspended || j.Phase == qos.PhasePending })
	if !slices.ContainsFunc(k.held(), func(c ckpt.Manifest) bool { return c.Sequence == 1 }) {
		t.Errorf("%+v", k.held())
	}
}

func (k *fakeKeeper) Prune(context.Context, func(string) bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pruned++
	return nil
}

func (k *fakeKeeper) TakeUp(ctx context.Context, r ckpt.Ref) (ckpt.Manifest, error) {
	return k.takeUp(ctx, r)
}

func (k *fakeKeeper) held() []ckpt.Manifest {
	list, _ := k.List(context.Background(), "")
	return list
}
