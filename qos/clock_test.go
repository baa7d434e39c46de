package qos

import "testing"

// While there is no container nothing is requested, and nothing is lacking.
func TestClockKeepsWhatWasRequestedLackedAndWithout(t *testing.T) {
	t.Parallel()
	var k Clock
	k.Integrate(10, 0.5, 1, 0.4) // more than it needs
	k.Integrate(20, 0.5, 1, 0.8) // less
	k.Integrate(15, 9, 9, 9)     // an older look
	k.Resume(50)                 // suspended from 20 to 50
	k.Resume(50)
	k.Integrate(60, 0.25, 0.5, 0)
	want := Clock{Seconds: 60, CPUSeconds: 20*0.5 + 40*0.25, Max: 9, Requested: 20 + 10*0.5, Down: 30, Short: 10, Missing: 3.0000000000000004}
	if k != want {
		t.Errorf("%+v, want %+v", k, want)
	}
}

func TestWhatARunLost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		run  Run
		want float64
	}{
		{Run{CPU: 10, Outcome: Met}, 0},
		{Run{CPU: 10, Progress: 7, Outcome: Met}, 3},
		{Run{CPU: 10, Progress: 7, Outcome: Failed}, 10},
		{Run{CPU: 10, Outcome: Failed}, 10},
	} {
		if got := c.run.Lost(); got != c.want {
			t.Errorf("%+v lost %g, want %g", c.run, got, c.want)
		}
	}
	var s Status
	s.AppendRun(Chronos, Run{CPU: 10, Progress: 7, Outcome: Done, Requested: 20, Borrowed: 2, Overhead: 1, Down: 5, Short: 4, Missing: 3})
	if want := (Tally{Succeeded: 1, CPU: 10, Requested: 20, Borrowed: 2, Lost: 3, Overhead: 1, Down: 5, Short: 4, Missing: 3}); s.Tally != want {
		t.Errorf("tally %+v, want %+v", s.Tally, want)
	}
}
