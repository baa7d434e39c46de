package agent

import (
	"slices"
	"testing"
	"time"

	"qosctl/qos"
)

// unheard has rows travel no more, while broadcasts do. What is launched then, is so on one node.
func (w *world) unheard(j *simJob, on *simNode) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trouble, w.master.still = 1, false
	w.master.apps[j.name].hosts = []string{on.name}
}

// still has Marathon launch nothing.
func (w *world) still() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.master.still = true
}

// died takes the power of a node away whose last row nobody has; the rest goes its way.
func (w *world) died(j *simJob, n *simNode) {
	n.down()
	w.cut()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trouble = 0
	if a := w.master.apps[j.name]; a != nil {
		a.hosts = nil
	}
}

// all waits until all nodes, but one, say so of a job.
func (w *world) all(j *simJob, but *simNode, what string, ok func(qos.Status) bool) bool {
	return w.until(2*time.Minute, what, func() bool {
		for name, a := range w.agents() {
			r, known := a.cluster.mesh.Get(j.id)
			if (but == nil || name != but.name) && (!known || !ok(r.Status)) {
				return false
			}
		}
		return true
	})
}

func phaseIs(p qos.Phase) func(qos.Status) bool {
	return func(s qos.Status) bool { return s.Phase == p }
}

func TestJepsenAnOwnerThatDiesBeforeItsFirstStartIsKnown(t *testing.T) {
	t.Parallel()
	simulate(t, 1, 5, nil, func(w *world) {
		if !w.together(time.Minute) {
			return
		}
		w.still()
		old := w.nodes[0]
		j := w.submit(old, simID(0), "/j0", "burn 100000s", 0.5)
		if !w.all(j, nil, "all have its row", phaseIs(qos.PhasePending)) {
			return
		}
		w.unheard(j, old)
		if !w.all(j, old, "the others hear that it runs", phaseIs(qos.PhaseRunning)) {
			return
		}
		w.died(j, old)
		w.until(3*time.Minute, "it runs elsewhere", func() bool { n := w.whereOne(j); return n != nil && n != old })
	})
}

func TestJepsenAnOwnerThatDiesBeforeItsNextExecutionIsKnown(t *testing.T) {
	t.Parallel()
	simulate(t, 1, 5, nil, func(w *world) {
		if !w.together(time.Minute) {
			return
		}
		j := w.submitAgain(w.nodes[0], simID(0), "/j0", "burn 20s", 1, 3)
		var old *simNode
		if !w.until(30*time.Second, "it runs", func() bool { old = w.whereOne(j); return old != nil }) {
			return
		}
		w.still()
		ended := func(s qos.Status) bool { return s.Phase == qos.PhaseEnded && len(s.Runs) == 1 }
		if !w.all(j, nil, "all have the row of its first execution", ended) {
			return
		}
		w.unheard(j, old)
		if !w.all(j, old, "the others hear that it runs", phaseIs(qos.PhaseRunning)) {
			return
		}
		w.died(j, old)
		var is *simNode
		if !w.until(3*time.Minute, "it runs elsewhere", func() bool { is = w.whereOne(j); return is != nil && is != old }) {
			return
		}
		r, _ := is.agent.cluster.mesh.Get(j.id)
		st := r.Status
		s := &stage{world: w}
		s.want(len(st.Runs) == 1 && st.Tally.Failed == 0 && st.Tally.Succeeded == 1, "an execution counts twice: %+v, %+v", st.Tally, st.Runs)
	})
}

// endedUnheard has an owner die that has told by a broadcast alone that its job is completed, and another node end the job in its place. It returns the
// job and its first owner; nil: it did not come to that.
func (w *world) endedUnheard() (j *simJob, old *simNode) {
	if !w.together(time.Minute) {
		return nil, nil
	}
	j = w.submit(w.nodes[0], simID(0), "/j0", "burn 30s", 1)
	if !w.until(30*time.Second, "it runs", func() bool { old = w.whereOne(j); return old != nil }) {
		return nil, nil
	}
	if !w.all(j, nil, "all have its row", func(s qos.Status) bool { return s.Phase == qos.PhaseRunning && s.Execution != nil }) {
		return nil, nil
	}
	w.unheard(j, old)
	w.cut([]string{masterName})
	if !w.all(j, old, "the others hear that it is completed", phaseIs(qos.PhaseCompleted)) {
		return nil, nil
	}
	w.died(j, old)
	s := &stage{world: w}
	w.until(3*time.Minute, "its app is removed", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.master.apps[j.name] == nil
	})
	w.mu.Lock()
	starts, deleted := len(w.ledger), slices.Clone(w.master.deleted)
	w.mu.Unlock()
	s.want(starts == 1 && slices.Equal(deleted, []string{j.id}), "%d containers, deleted %v", starts, deleted)
	if !w.all(j, old, "all have its end", func(s qos.Status) bool { return s.Phase == qos.PhaseCompleted && !s.Ended.IsZero() }) {
		return nil, nil
	}
	return j, old
}

// counted says that a job's one execution has ended well, and counts.
func counted(s qos.Status) bool {
	return s.Phase == qos.PhaseCompleted && s.Tally.Succeeded == 1 && s.Tally.CPU >= 30
}

func TestJepsenAnOwnerThatDiesBeforeTheEndOfItsJobIsKnown(t *testing.T) {
	t.Parallel()
	simulate(t, 1, 5, nil, func(w *world) {
		j, old := w.endedUnheard()
		if j == nil {
			return
		}
		old.reboot() // what its owner alone knows counts when it is back
		w.all(j, nil, "all have its last run", counted)
	})
}

// As above, but whoever has ended the job in its place is gone by then, whether or not the owner is the job's steward.
func TestJepsenAnOwnerIsBackWhenWhoEndedItsJobIsGone(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		simulate(t, seed+1, 5, nil, func(w *world) {
			j, old := w.endedUnheard()
			if j == nil {
				return
			}
			var other *simNode
			for _, n := range w.nodes {
				if r, ok := w.nodes[(slices.Index(w.nodes, old)+1)%len(w.nodes)].agent.cluster.mesh.Get(j.id); ok && r.Status.Owner == n.name {
					other = n
				}
			}
			if other == nil || other == old {
				t.Errorf("nobody has it")
				return
			}
			other.down()
			old.reboot()
			w.all(j, other, "all have its last run", counted)
		})
	}
}
