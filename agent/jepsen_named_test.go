package agent

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/container"
	"qosctl/qos"
)

// stage is a cluster with one job that runs and has been checkpointed.
type stage struct {
	*world
	job   *simJob
	owner *simNode
	box   *simContainer
}

// scene runs what happens to one endless job of five nodes.
func scene(t *testing.T, act func(s *stage)) {
	t.Helper()
	t.Parallel()
	simulate(t, 1, 5, nil, func(w *world) {
		if !w.together(time.Minute) {
			return
		}
		s := &stage{world: w, job: w.submit(w.nodes[0], simID(0), "/j0", "burn 100000s", 0.5)}
		if w.until(30*time.Second, "it runs", func() bool { return s.look(1) }) {
			pause(context.Background(), 50*time.Second)
			act(s)
		}
	})
}

// look notes where the job runs, if it has had so many containers.
func (s *stage) look(containers int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.runningOf(s.job.id)
	if len(s.ledger) < containers || len(list) != 1 {
		return false
	}
	s.box, s.owner = list[0], s.node(list[0].node)
	return true
}

// status is what a node's table says of the job.
func (s *stage) status(n *simNode) qos.Status {
	r, _ := n.agent.cluster.mesh.Get(s.job.id)
	return r.Status
}

// want notes what should be so.
func (s *stage) want(ok bool, format string, args ...any) {
	if !ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.fault(format, args...)
	}
}

// rest are the names of all nodes but some, and of the master.
func (s *stage) rest(but ...*simNode) []string {
	names := []string{masterName}
next:
	for _, n := range s.nodes {
		for _, b := range but {
			if n == b {
				continue next
			}
		}
		names = append(names, n.name)
	}
	return names
}

func TestJepsenAnOwnerThatIsCutOffForThreeMinutesWhileMarathonRelaunches(t *testing.T) {
	scene(t, func(s *stage) {
		old := s.owner
		s.cut(s.rest(old))
		pause(context.Background(), 3*time.Minute)
		s.mu.Lock()
		both := len(s.runningOf(s.job.id))
		s.mu.Unlock()
		s.want(both == 2, "%d containers run in the two parts, not 2", both)
		s.settle()
		s.want(s.look(2) && s.owner != old, "the owner that was cut off has it: %s", s.owner.name)
	})
}

func TestJepsenAnOwnerThatIsKilledForGood(t *testing.T) {
	scene(t, func(s *stage) {
		had := s.box
		s.owner.down()
		if s.until(unreachable+50*time.Second, "it runs elsewhere", func() bool { return s.look(2) }) {
			lost := had.kernel - s.box.base
			s.want(lost <= 30*time.Second, "%v are lost, more than an interval and the way of a copy", lost)
			pause(context.Background(), time.Minute)
			s.judge()
		}
	})
}

func TestJepsenBothSidesOfAPartitionClaimTheSameEpoch(t *testing.T) {
	scene(t, func(s *stage) {
		old := s.owner
		s.cut(s.rest(old))
		if !s.until(3*time.Minute, "it runs in both parts", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.runningOf(s.job.id)) == 2 }) {
			return
		}
		other := s.nodes[0]
		if other == old {
			other = s.nodes[1]
		}
		for range 5 { // restored in place: an epoch each
			if s.status(old).Epoch >= s.status(other).Epoch {
				break
			}
			code, body := old.admin(context.Background(), http.MethodPost, "/v1/jobs/"+s.job.id+"/restore", api.RestoreRequest{})
			s.note("restore on %s: %d %s", old.name, code, clipped(body))
			pause(context.Background(), 20*time.Second)
		}
		x, y := s.status(old), s.status(other)
		s.want(x.Epoch == y.Epoch && x.Owner != y.Owner, "epoch %d of %s, epoch %d of %s", x.Epoch, x.Owner, y.Epoch, y.Owner)
		s.settle()
		s.want(s.look(2), "none of the two goes on") // which of them, Marathon decides: the task of one was given up
	})
}

func TestJepsenAnAgentThatRestartsWithinTheGraceChangesNothing(t *testing.T) {
	scene(t, func(s *stage) {
		before := s.status(s.owner)
		s.mu.Lock()
		starts, resizes := len(s.starts), s.resizes
		s.mu.Unlock()
		for range 3 {
			s.owner.kill()
			pause(context.Background(), 5*time.Second)
			s.owner.boot()
			pause(context.Background(), 20*time.Second)
		}
		s.mu.Lock()
		s.say("%d starts, %d resizes", len(s.starts)-starts, s.resizes-resizes)
		same := len(s.starts) == starts && s.resizes == resizes
		s.mu.Unlock()
		s.want(same, "it was started or resized")
		after := s.status(s.owner)
		s.want(before.Epoch == after.Epoch && before.Owner == after.Owner, "epoch %d of %s, before %d of %s", after.Epoch, after.Owner, before.Epoch, before.Owner)
		s.judge()
	})
}

func TestJepsenAStewardThatDiesWhileItTakesOver(t *testing.T) {
	scene(t, func(s *stage) {
		s.owner.down()
		expunged := func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.master.expunged) > 0 }
		if !s.until(3*time.Minute, "the task is expunged", expunged) {
			return
		}
		for _, n := range s.nodes {
			if n != s.owner && n.agent != nil && n.agent.cluster.mesh.Steward(s.job.id) == n.name {
				n.down()
				break
			}
		}
		s.until(2*time.Minute, "it runs again", func() bool { return s.look(2) })
		s.settle()
	})
}

func TestJepsenAnOwnerWhoseStoreIsLost(t *testing.T) {
	scene(t, func(s *stage) {
		s.owner.kill()
		s.owner.wipe()
		s.owner.boot()
		pause(context.Background(), time.Minute)
		s.settle()
		had := s.box
		s.want(s.look(1) && s.box == had, "its container did not run on")
	})
}

func TestJepsenAMoveWhoseTargetDies(t *testing.T) {
	scene(t, func(s *stage) {
		to := s.nodes[0]
		if to == s.owner {
			to = s.nodes[1]
		}
		code, body := s.owner.admin(context.Background(), http.MethodPost, "/v1/jobs/"+s.job.id+"/migrate", api.Migrate{To: to.name})
		s.want(code == http.StatusAccepted, "migrate: %d %s", code, body)
		ended := func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.box.State == container.Exited }
		s.until(time.Minute, "it is suspended", ended)
		to.down()
		s.until(3*time.Minute, "it runs somewhere", func() bool { return s.look(2) })
		s.settle()
		s.want(s.box.base > 40*time.Second, "it goes on from %v", s.box.base)
	})
}

func TestJepsenAStewardWhoseFrameworkAnswersTooLate(t *testing.T) {
	scene(t, func(s *stage) {
		had, old := s.box, s.owner
		seen := make(chan struct{})
		var once sync.Once
		s.mu.Lock()
		s.master.slow = func(is sight) (late time.Duration) {
			if len(is.Lost) > 0 {
				once.Do(func() { close(seen); late = 30 * time.Second })
			}
			return late
		}
		s.mu.Unlock()
		s.cut(s.rest(old))
		if !s.until(3*time.Minute, "the steward hears that the task is lost", func() bool { return isClosed(seen) }) {
			return
		}
		s.cut() // the owner is back before the answer is
		pause(context.Background(), time.Minute)
		s.settle()
		s.want(s.look(1) && s.box == had && s.owner == old, "its container did not run on")
		s.want(len(s.master.expunged) == 0, "expunged: %v", s.master.expunged)
	})
}

func TestJepsenADutyOfSomebodyWhoDoesNotKnowThatTheJobHasEnded(t *testing.T) {
	t.Parallel()
	simulate(t, 1, 5, nil, func(w *world) {
		if !w.together(time.Minute) {
			return
		}
		j := w.submit(w.nodes[0], simID(0), "/j0", "burn 40s", 1)
		pause(context.Background(), 20*time.Second)
		w.cut([]string{masterName})
		other := w.nodes[1].agent.cluster.mesh
		before, _ := other.Get(j.id)
		ended := func() bool { r, _ := other.Get(j.id); return r.Status.Phase == qos.PhaseCompleted }
		if !w.until(time.Minute, "it has ended", ended) {
			return
		}
		before.Status.Steward.Duty, before.Status.Steward.By = before.Status.Steward.Duty+5, "n1"
		if _, err := other.Put(before); err != nil {
			w.tb.Fatal(err)
		}
		pause(context.Background(), 10*time.Second)
		w.settle()
	})
}

func TestJepsenAnOwnerThatLosesItsStoreWhileItIsCutOff(t *testing.T) {
	scene(t, func(s *stage) {
		old := s.owner
		s.cut(s.rest(old))
		if !s.until(3*time.Minute, "it runs in both parts", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.runningOf(s.job.id)) == 2 }) {
			return
		}
		old.kill()
		old.wipe()
		old.boot()
		ended := func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.runningOf(s.job.id)) == 1 }
		s.until(time.Minute, "the one that nobody knows is stopped", ended)
		s.settle() // bills it
	})
}

func TestJepsenAnAccountOfAnExecutionThatIsOver(t *testing.T) {
	t.Parallel()
	simulate(t, 1, 5, nil, func(w *world) {
		if !w.together(time.Minute) {
			return
		}
		j := w.submitAgain(w.nodes[0], simID(0), "/j0", "burn 100s", 1, 3)
		var old *simNode
		if !w.until(30*time.Second, "it runs", func() bool { old = w.whereOne(j); return old != nil }) {
			return
		}
		pause(context.Background(), 40*time.Second)
		s := &stage{world: w, job: j, owner: old}
		w.cut(s.rest(old))
		later := func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.begun(j, 2) }
		if !w.until(5*time.Minute, "the second execution has begun elsewhere", later) {
			return
		}
		w.settle()
		w.tallied(j)
	})
}

func TestJepsenAnOwnerThatLosesItsStoreJustAfterARestore(t *testing.T) {
	scene(t, func(s *stage) {
		s.owner.down()
		if !s.until(unreachable+50*time.Second, "it runs elsewhere", func() bool { return s.look(2) }) {
			return
		}
		s.owner.kill() // nobody has heard yet what it goes on from
		s.owner.wipe()
		s.owner.boot()
		pause(context.Background(), time.Minute) // checkpoints say what they embody
		s.settle()
	})
}

// Soak seed 3035: what an owner that was cut off has numbered is known everywhere, though nobody writes the job's row any more.
func TestJepsenCheckpointsOfAnOwnerThatWasCutOffWhileItsJobWasCancelled(t *testing.T) {
	scene(t, func(s *stage) {
		old := s.owner
		s.cut(s.rest(old))
		if !s.until(3*time.Minute, "it runs in both parts", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.runningOf(s.job.id)) == 2 }) {
			return
		}
		s.mu.Lock()
		s.job.cancelled = true
		s.mu.Unlock()
		code, body := s.other().admin(context.Background(), http.MethodDelete, "/v1/jobs/"+s.job.id, nil)
		s.note("cancel: %d %s", code, clipped(body))
		pause(context.Background(), time.Minute)
		s.settle()
		for _, n := range s.nodes {
			s.want(s.status(n).Sequence == s.status(old).Sequence, "%s knows of checkpoint %d, %s of %d", n.name, s.status(n).Sequence, old.name, s.status(old).Sequence)
		}
	})
}
