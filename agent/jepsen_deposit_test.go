package agent

import (
	"testing"
	"time"
)

// Soak seed 20384: a former owner gives a job up while the new one's agent is dead, and then loses its store. What it had counted is not lost.
func TestJepsenAnAccountThatItsOwnerWasNotThereToTake(t *testing.T) {
	scene(t, func(s *stage) {
		old, had := s.owner, s.box
		s.cut(s.rest(old))
		heir := func() (found *simNode) {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, c := range s.runningOf(s.job.id) {
				if c != had {
					found = s.node(c.node)
				}
			}
			return found
		}
		if !s.until(3*time.Minute, "another node runs it", func() bool { return heir() != nil }) {
			return
		}
		heir().kill()
		s.cut()
		given := func() bool { s.mu.Lock(); defer s.mu.Unlock(); return had.Exit != nil }
		if !s.until(2*time.Minute, "its former owner gives it up", given) || !s.until(time.Minute, "a replica has the account", func() bool { return s.deposits(old) > 0 }) {
			return
		}
		old.kill()
		old.wipe()
		s.settle()
	})
}

// deposits is how many accounts nodes owe in the place of others, but for one node.
func (w *world) deposits(but *simNode) (n int) {
	for name, a := range w.agents() {
		list, err := a.store.owing()
		if name == but.name || err != nil {
			continue
		}
		for _, o := range list {
			if o.Deposit {
				n++
			}
		}
	}
	return n
}
