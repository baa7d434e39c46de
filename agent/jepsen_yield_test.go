package agent

import (
	"context"
	"testing"
	"time"
)

func pauseFor(d time.Duration) { pause(context.Background(), d) }

func TestJepsenAJobIsHandedToOneNodeAtATime(t *testing.T) {
	t.Parallel()
	simulate(t, 1, 3, nil, func(w *world) {
		if !w.together(time.Minute) {
			return
		}
		w.still()
		s := &stage{world: w, job: w.submit(w.nodes[0], simID(0), "/j0", "burn 100000s", 0.5)}
		a := w.nodes[0].agent
		j := a.jobs.get(s.job.id)
		for _, c := range []struct {
			to    string
			after time.Duration
			gets  bool
		}{
			{"n1", 0, true},
			{"n2", 0, false},
			{"n1", time.Second, true}, // its answer was lost
			{"n2", handedFor - time.Second, false},
			{"n2", 2 * time.Second, true},
		} {
			pauseFor(c.after)
			_, err := a.yield(j, yieldRequest{Node: c.to})
			s.want((err == nil) == c.gets, "handed to %s: %v", c.to, err)
		}
		j.mu.Lock()
		j.addTask(task{ID: "t", First: 1, Part: 1, At: time.Now()})
		j.mu.Unlock()
		err := a.begin(j, "t")
		j.mu.Lock()
		begun := j.busy
		j.mu.Unlock()
		s.want(err != nil && !begun, "it begins here as well: %v, %v", begun, err)
	})
}
