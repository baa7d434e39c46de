package agent

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"qosctl/ckpt"
	"qosctl/qos"
)

// fullDisk is a keeper that can seal nothing before a time.
type fullDisk struct {
	checkpointer
	until time.Time
	tries atomic.Int32
}

func (k *fullDisk) Seal(ctx context.Context, r ckpt.Ref) (ckpt.Manifest, string, error) {
	if k.tries.Add(1); time.Now().Before(k.until) {
		return ckpt.Manifest{}, "", fmt.Errorf("seal %s: %w", r, ckpt.ErrSpace)
	}
	return k.checkpointer.Seal(ctx, r)
}

// shelved is an agent that does not run, on a disk that is full for a while, with an unsealed checkpoint of a job.
func shelved(t *testing.T, full time.Duration) (*Agent, *fullDisk, *simCheckpoint) {
	t.Helper()
	w := newWorld(t, 1, 3, nil)
	t.Cleanup(func() { _ = os.RemoveAll(w.dir) })
	n := w.nodes[0]
	n.disk = w.newDisk(n)
	a, err := hand{n, 0}.make(n.config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.close() })
	a.spawn = func(func(context.Context)) {}
	k := &fullDisk{checkpointer: a.engines.keeper, until: time.Now().Add(full)}
	a.engines.keeper = k
	c := &simCheckpoint{M: ckpt.Manifest{Job: simID(0), Sequence: 1, Execution: 1, Incarnation: 1, Node: n.name}}
	n.checkpoints = append(n.checkpoints, c)
	return a, k, c
}

// TestTheCheckpointThatAJobGoesOnFromIsSealedInTheEnd: until then it can't leave its node.
func TestTheCheckpointThatAJobGoesOnFromIsSealedInTheEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meanwhile func(j *job) // after two minutes
		sealed    bool
	}{
		"the disk is full for long":           {func(*job) {}, true},
		"the job goes on from a newer one":    {func(j *job) { j.status().Saved.Sequence = 2 }, false},
		"the execution has ended meanwhile":   {func(j *job) { j.status().Saved = nil }, false},
		"the job goes on from another node's": {func(j *job) { j.status().Saved.Node = "n1" }, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, k, cp := shelved(t, 20*time.Minute)
			j := newJob(row{Record: qos.Record{Spec: qos.Spec{ID: simID(0), Name: "/j0"}, Status: qos.Status{
				Phase: qos.PhaseSuspended, Execution: &qos.Execution{Index: 1}, Saved: &qos.Saved{Node: a.node, Sequence: 1, Execution: 1},
			}}})
			a.jobs.add(j)
			time.AfterFunc(2*time.Minute, func() {
				j.mu.Lock()
				defer j.mu.Unlock()
				c.meanwhile(j)
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			begin := time.Now()
			a.seal(ctx, j, 1)
			took, s := time.Since(begin), j.status().Saved
			if c.sealed && (s.Digest != cp.digest() || took < 20*time.Minute || took > 22*time.Minute) {
				t.Errorf("%s: after %v and %d tries: %+v", name, took, k.tries.Load(), s)
			}
			if !c.sealed && (took > 5*time.Minute || s != nil && s.Digest != "") {
				t.Errorf("%s: tried %d times in %v: %+v", name, k.tries.Load(), took, s)
			}
		})
	}
}

// TestWhatAnAgentLeftUnsealedIsSealedForOthers: the job is another node's by now, which asks for its checkpoint.
func TestWhatAnAgentLeftUnsealedIsSealedForOthers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		shared bool
		by     string
		sealed bool
	}{
		"its own":                              {false, "n0", true},
		"its own in a shared directory":        {true, "n0", true},
		"another node's in a shared directory": {true, "n1", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, k, cp := shelved(t, 10*time.Minute)
			a.cfg.Checkpoint.Shared, cp.M.Node = c.shared, c.by
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			var wg sync.WaitGroup
			a.spawn = func(f func(context.Context)) { wg.Go(func() { f(ctx) }) }
			a.sealLeft(ctx)
			wg.Wait()
			if cp.Sealed != c.sealed {
				t.Errorf("%s: sealed: %t, after %d tries", name, cp.Sealed, k.tries.Load())
			}
			tries := k.tries.Load()
			if a.sealLeft(ctx); c.sealed {
				wg.Wait()
				if n := k.tries.Load(); n != tries {
					t.Errorf("%s: one that is sealed was sealed again", name)
				}
			}
		})
	}
}
