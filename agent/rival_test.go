package agent

import (
	"context"
	"log/slog"
	"testing"

	"qosctl/qos"
)

// asked is a fence that does something while it is asked.
type asked func() error

func (f asked) Claim(context.Context, string, uint64, string) error { return f() }
func (asked) Forget(context.Context, string) error                  { return nil }
func (asked) Close() error                                          { return nil }

// While the fence is asked whether a job may be taken back, the job is nobody's to wait for; what has changed meanwhile counts.
func TestAJobIsNotHeldUpWhileTheFenceIsAsked(t *testing.T) {
	t.Parallel()
	const node, other, third = "n0", "n1", "n2"
	at := func(owner string, epoch uint64) qos.Record {
		return qos.Record{Spec: qos.Spec{ID: idA, Name: "/a"}, Status: qos.Status{Phase: qos.PhaseRunning, Owner: owner, Epoch: epoch}}
	}
	for name, c := range map[string]struct {
		meanwhile func(a *Agent, j *job)
		epoch     uint64
		told      int
	}{
		"nothing else":       {func(*Agent, *job) {}, 4, 1},
		"a third has it now": {func(a *Agent, j *job) { j.rival.Record = at(third, 4) }, 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &telling{}
			s, _ := openTestStore(t, t.TempDir())
			a := &Agent{node: node, log: slog.New(slog.DiscardHandler), store: s, cluster: newCluster(m, nil)}
			j := newJob(row{Record: at(node, 2)})
			j.rival = &rival{Record: at(other, 3)}
			a.cluster.fence = asked(func() error {
				if !j.mu.TryLock() {
					t.Error("the job is locked while the fence is asked")
					return nil
				}
				defer j.mu.Unlock()
				if !j.rival.asking {
					t.Error("it may be asked a second time")
				}
				c.meanwhile(a, j)
				return nil
			})
			j.mu.Lock()
			defer j.mu.Unlock()
			a.reclaim(t.Context(), j, at(other, 3))
			if got := j.status().Epoch; got != c.epoch || len(m.told) != c.told || (j.rival == nil) != (c.told == 1) {
				t.Errorf("epoch %d, told %v, rival %v", got, m.told, j.rival)
			}
		})
	}
}
