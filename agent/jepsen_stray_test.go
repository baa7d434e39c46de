package agent

import (
	"context"
	"slices"
	"testing"
	"time"
)

// next has Marathon end the job's task, and launch no other but on one node.
func (s *stage) next(on *simNode) *app {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.master.apps[s.job.name]
	a.hosts, a.task.kill = []string{on.name}, true
	return a
}

// task is the app's present one; nil: there is none.
func (s *stage) task(a *app) *simTask {
	s.mu.Lock()
	defer s.mu.Unlock()
	return a.task
}

// anywhere lets Marathon launch the app where it likes.
func (s *stage) anywhere(a *app) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.hosts = nil
}

func TestJepsenATaskThatIsLostBeforeItHasClaimed(t *testing.T) {
	scene(t, func(s *stage) {
		to := s.nodes[0]
		if to == s.owner {
			to = s.nodes[1]
		}
		to.kill() // the task waits for its agent
		a := s.next(to)
		if !s.until(2*time.Minute, "its next task is there", func() bool { t := s.task(a); return t != nil && t.node == to }) {
			return
		}
		s.anywhere(a)
		to.down()
		s.until(3*time.Minute, "it goes on elsewhere", func() bool { return s.look(2) && s.owner != to })
	})
}

func TestJepsenAnOwnerThatDiesWithATaskThatHasNotClaimed(t *testing.T) {
	scene(t, func(s *stage) {
		old := s.owner
		a := s.next(old)
		if !s.until(2*time.Minute, "its task has ended", func() bool { return s.task(a) == nil }) {
			return
		}
		old.kill()
		if !s.until(30*time.Second, "its next task is there", func() bool { return s.task(a) != nil }) {
			return
		}
		s.anywhere(a)
		old.down()
		s.until(3*time.Minute, "it goes on elsewhere", func() bool { return s.look(2) && s.owner != old })
	})
}

func TestJepsenALostTaskOfANodeWhoseAgentAnswersIsLeftAlone(t *testing.T) {
	scene(t, func(s *stage) {
		a := s.owner.agent
		other := s.nodes[slices.IndexFunc(s.nodes, func(n *simNode) bool { return n != s.owner })]
		is := sight{Lost: []string{"x", "y", "z"}, On: map[string]string{"x": other.name, "y": "elsewhere"}}
		got := a.beyondReach(is, time.Now())
		s.want(slices.Equal(got, []string{"y", "z"}), "beyond reach: %v", got)
		pause(context.Background(), time.Second)
	})
}
