package agent

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestALoopThatStandsStillIsSeen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &Agent{cfg: Default()}
		turn := func() { a.snapshot.Store(&snapshot{At: time.Now()}) }
		if d := a.Stalled(); d != 0 {
			t.Errorf("%s before it runs", d)
		}
		turn()
		time.Sleep(a.cfg.Control.Sample)
		if d := a.Stalled(); d != 0 {
			t.Errorf("%s in its first round", d)
		}
		time.Sleep(time.Minute)
		if d := a.Stalled(); d != time.Minute {
			t.Errorf("%s after a minute", d)
		}
		turn()
		if d := a.Stalled(); d != 0 {
			t.Errorf("%s when it turns again", d)
		}
	})
}
