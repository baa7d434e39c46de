package agent

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"qosctl/qos"
)

// asked is a fence that does something while it is asked.
type asked func() error

func (f asked) Claim(context.Context, string, uint64, string) error { return f() }
func (asked) Forget(context.Context, string) error                  { return nil }
func (asked) Close() error                                          { return nil }

// rows is a table with the row of one job, or none as long as it is known by a broadcast alone.
type rows struct {
	mesh

	row *qos.Record
}

func (m rows) Whole(string) (qos.Record, bool) {
	if m.row == nil {
		return qos.Record{}, false
	}
	return *m.row, true
}

// What another node's end of a job counts is judged by that node's row, not by what this node has under the other's version until that comes.
func TestAnEndIsJudgedByTheRow(t *testing.T) {
	t.Parallel()
	run := func(index, minute int) qos.Run {
		return qos.Run{Index: index, Started: time.Date(2026, 1, 2, 3, minute, 0, 0, time.UTC)}
	}
	ended := func(owner string, epoch uint64, index int, runs ...qos.Run) qos.Record {
		return qos.Record{Spec: qos.Spec{ID: idA, Name: "/a"}, Status: qos.Status{
			Phase: qos.PhaseCompleted, Owner: owner, Epoch: epoch, Runs: runs, Execution: &qos.Execution{Index: index},
		}}
	}
	mine := ended("n0", 2, 3, run(1, 1), run(2, 2), run(3, 3))
	mixed := ended("n1", 3, 3, mine.Status.Runs...)
	for name, c := range map[string]struct {
		row  *qos.Record
		done bool
	}{
		"no row has come":                    {nil, true},
		"its row lacks the last run":         {new(ended("n1", 3, 3, run(1, 1), run(2, 2))), true},
		"its row goes less far back":         {new(ended("n1", 3, 3, run(2, 2))), true},
		"its row has no run":                 {new(ended("n1", 3, 3)), true},
		"its row has the last run":           {new(ended("n1", 3, 3, run(1, 1), run(2, 2), run(3, 3))), false},
		"its row has a run of another":       {new(ended("n1", 3, 3, run(1, 1), run(2, 4))), false},
		"its row has a later execution":      {new(ended("n1", 3, 4, run(1, 1))), false},
		"a third node's row, of a later one": {new(ended("n2", 4, 4)), false},
		"an older row":                       {new(ended("n1", 1, 3)), true}, // the one that was told of is still to come
	} {
		a := &Agent{node: "n0", log: slog.New(slog.DiscardHandler), cluster: newCluster(rows{row: c.row}, nil)}
		j := newJob(row{Record: mine})
		j.busy = true // nothing else is done with it
		a.superseded(j, mixed)
		if got := j.doneBefore(); got != c.done {
			t.Errorf("%s: %t, want %t", name, got, c.done)
		}
	}
}

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
