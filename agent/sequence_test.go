package agent

import (
	"testing"
	"time"

	"qosctl/ckpt"
	"qosctl/qos"
)

// onlyAsked has no checkpoints taken but those that are needed.
func onlyAsked(cfg *Config) { cfg.Checkpoint.Interval, cfg.Checkpoint.Replicas = 0, 0 }

// A checkpoint of an execution that has ended, left behind on a node, does not stand in the way of one with the same sequence that a job is
// to go on from there.
func TestACheckpointOfAnEndedExecutionMakesWay(t *testing.T) {
	t.Parallel()
	simulate(t, 1, 3, onlyAsked, func(w *world) {
		if !w.together(time.Minute) {
			return
		}
		j := w.submit(w.nodes[0], simID(0), "/j0", "burn 100000s", 0.5)
		had, to := w.runs(j.id)
		if had == nil {
			return
		}
		w.mu.Lock()
		to.checkpoints = append(to.checkpoints, &simCheckpoint{M: ckpt.Manifest{Job: j.id, Sequence: 1, Execution: 0, Node: to.name, CPU: time.Hour}, Sealed: true})
		w.mu.Unlock()
		w.move(w.node(had.node), to, j.id)
		w.goesOn(had, func(n string) bool { return n == to.name })
	})
}

// The next execution's checkpoints have higher sequences than those of the last one, wherever each of them ran.
func TestASequenceIsNotGivenTwiceToAJob(t *testing.T) {
	t.Parallel()
	e := &qos.Execution{Index: 1}
	e.Account.StartIncarnation(qos.Entry{Node: "a"})
	j := newJob(row{Record: qos.Record{Status: qos.Status{Execution: e}}})
	j.noteSaved("a", ckpt.Manifest{Sequence: 7, Execution: 1})
	j.status().Saved = nil // its execution has ended
	elsewhere := j.status().Merge(qos.Status{Epoch: j.status().Epoch + 1, Execution: e})
	for name, st := range map[string]qos.Status{"here": *j.status(), "on the next node": elsewhere} {
		next := newJob(row{Record: qos.Record{Status: st}})
		if o, err := (&Agent{}).orderOf(next, &live{}, false); err != nil || o.After != 7 {
			t.Errorf("%s: after %d, want 7; %v", name, o.After, err)
		}
	}
}
