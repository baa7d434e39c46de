package qos

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func causesOf(v Judgement) map[string]float64 {
	m := map[string]float64{}
	for _, c := range v.Causes {
		m[c.Kind] = c.Seconds
	}
	return m
}

func TestJudgeSplitsTheTime(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	marathon := Spec{Framework: Marathon, QoS: QoS{Duration: 20, Deadline: Deadline{After: 60 * time.Second}}}
	chronos := Spec{Framework: Chronos, Iterations: 3, QoS: QoS{Duration: 10, Deadline: Deadline{After: 100 * time.Second}}}
	run := func(seconds float64, r Run) Run {
		r.Started, r.Ended = at, at.Add(time.Duration(seconds*float64(time.Second)))
		return r
	}
	for _, c := range []struct {
		name string
		spec Spec
		st   Status
		want map[string]float64
		text string
		ok   bool
	}{
		{"met, as declared", marathon, Status{Runs: []Run{run(40, Run{Index: 1, Outcome: Met, CPU: 20, MeanCPUs: 0.5})}}, map[string]float64{CauseWork: 40}, "execution 1 took 40s of 1m0s: 20s were left", true},
		{"longer, with lost work and a move", marathon, Status{Runs: []Run{run(90, Run{Index: 2, Outcome: Missed, CPU: 35, Progress: 30, MeanCPUs: 0.5, Down: 10, Short: 50, Missing: 12})}}, map[string]float64{CauseWork: 40, CauseLonger: 20, CauseLost: 10, CauseIdle: 10, CauseDown: 10, CauseShort: 50}, "execution 2 took 1m30s of 1m0s: missed by 30s", true},
		{"failed", marathon, Status{Phase: PhaseFailed, Runs: []Run{run(30, Run{Index: 1, Outcome: Failed, CPU: 15, MeanCPUs: 0.5})}}, map[string]float64{CauseLost: 30}, "execution 1 failed after 30s of 1m0s", true},
		{"the one that missed, of an app that has ended", marathon, Status{Phase: PhaseCompleted, Runs: []Run{run(70, Run{Index: 1, Outcome: Missed, CPU: 20, MeanCPUs: 0.5}), run(40, Run{Index: 2, Outcome: Met, CPU: 20, MeanCPUs: 0.5})}}, map[string]float64{CauseWork: 40, CauseIdle: 30}, "execution 1 took 1m10s of 1m0s: missed by 10s", true},
		{"a series that waited", chronos, Status{
			Phase: PhaseCompleted, Started: at, Ended: at.Add(120 * time.Second), Tally: Tally{Succeeded: 3, Missed: 1, CPU: 30, Waited: 60},
			Runs: []Run{run(20, Run{Outcome: Done, CPU: 10, MeanCPUs: 0.5}), run(20, Run{Outcome: Done, CPU: 10, MeanCPUs: 0.5}), run(20, Run{Outcome: Done, CPU: 10, MeanCPUs: 0.5})},
		}, map[string]float64{CauseWaited: 60, CauseWork: 60}, "the series took 2m0s of 1m40s: missed by 20s", true},
		{"a series that runs", chronos, Status{Phase: PhaseRunning, Started: at}, nil, "", false},
		{"nothing yet", marathon, Status{}, nil, "", false},
	} {
		v, ok := Judge(c.spec, c.st)
		if ok != c.ok {
			t.Errorf("%s: %t", c.name, ok)
			continue
		}
		if !ok {
			continue
		}
		if diff := cmp.Diff(c.want, causesOf(v), cmpopts.EquateApprox(0, 1e-6)); diff != "" || v.Text() != c.text {
			t.Errorf("%s: %q, want - is +:\n%s", c.name, v.Text(), diff)
		}
	}
}

// Whatever an account says that can be, the causes add up to what was taken.
func TestCausesAddUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.Float64Range(0, 1000)
		s := spent{waited: part.Draw(t, "waited"), down: part.Draw(t, "down"), mean: rapid.Float64Range(0.1, 8).Draw(t, "mean"), declared: part.Draw(t, "declared")}
		running := part.Draw(t, "running")
		s.cpu = running * s.mean * rapid.Float64Range(0, 1).Draw(t, "used")
		s.lost = s.cpu * rapid.Float64Range(0, 1).Draw(t, "lost")
		s.took = s.waited + s.down + running
		sum := 0.0
		for _, c := range s.causes() {
			sum += c.Seconds
		}
		if math.Abs(sum-s.took) > 7*0.05 { // what is less than that is left out
			t.Fatalf("%g of %g: %+v", sum, s.took, s.causes())
		}
	})
}
