package agent

import (
	"context"
	"testing"
	"time"

	"qosctl/qos"
)

func TestJepsenARivalThatIsGoneAndWhoseStewardHasTheContainer(t *testing.T) {
	t.Parallel()
	simulate(t, 1, 5, nil, func(w *world) {
		if !w.together(time.Minute) {
			return
		}
		w.still()
		j := w.submit(w.nodes[0], simID(0), "/j0", "burn 100000s", 0.5)
		old := w.node(w.nodes[0].agent.cluster.mesh.Steward(j.id))
		w.mu.Lock()
		w.master.still = false
		w.master.apps[j.name].hosts = []string{old.name}
		w.mu.Unlock()
		if !w.until(time.Minute, "it runs on its own steward", func() bool { return w.whereOne(j) == old }) {
			return
		}
		s := &stage{world: w, job: j}
		s.look(1)
		had := s.box
		pauseFor(50 * time.Second)
		w.still()
		w.cut(s.rest(old))
		var heir *simNode
		if !w.until(3*time.Minute, "another has claimed it", func() bool {
			for name, a := range w.agents() {
				if name != old.name && a.jobs.get(j.id) != nil {
					heir = w.node(name)
				}
			}
			return heir != nil
		}) {
			return
		}
		w.mu.Lock()
		given := w.master.past // its task is not heard of any more
		w.master.past = nil
		w.mu.Unlock()
		defer func() {
			for _, t := range given {
				t.stop()
			}
		}()
		w.cut()
		held := old.agent.jobs.get(j.id)
		rivalled := func() bool { held.mu.Lock(); defer held.mu.Unlock(); return held.rival != nil }
		if !w.until(time.Minute, "its owner hears of the claim", rivalled) {
			return
		}
		heir.down()
		w.until(2*time.Minute, "it goes on where it runs", func() bool { return !rivalled() })
		st := s.status(old)
		s.want(st.Owner == old.name && s.look(1) && s.box == had, "owner %s, epoch %d", st.Owner, st.Epoch)
	})
}

// Soak seed 3230: what an owner that was cut off has brought to its end is done, unless somebody else runs it by then.
func TestJepsenAnOwnerThatCompletesItsJobWhileItIsCutOff(t *testing.T) {
	t.Parallel()
	simulate(t, 1, 5, nil, func(w *world) {
		if !w.together(time.Minute) {
			return
		}
		s := &stage{world: w, job: w.submit(w.nodes[0], simID(0), "/j0", "burn 110s", 1)}
		if !w.until(30*time.Second, "it runs", func() bool { return s.look(1) }) {
			return
		}
		pause(context.Background(), 30*time.Second)
		w.still()
		s.cut(s.rest(s.owner))
		taken := func() bool { return s.status(s.other()).Owner != s.owner.name }
		done := func() bool { w.mu.Lock(); defer w.mu.Unlock(); return s.box.Exit != nil }
		if !w.until(3*time.Minute, "it is taken over", taken) || !w.until(3*time.Minute, "it is done", done) {
			return
		}
		s.cut()
		w.all(s.job, nil, "all have its end", phaseIs(qos.PhaseCompleted))
		w.mu.Lock()
		w.master.still = false
		w.mu.Unlock()
		s.settle()
		s.want(len(w.ledger) == 1, "it has had %d containers", len(w.ledger))
	})
}
