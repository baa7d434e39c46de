package sim

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qosctl/qos"
)

func scenario(t testing.TB, text string) *Scenario {
	t.Helper()
	s, err := Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func simulate(t testing.TB, s *Scenario, o Options) []Run {
	t.Helper()
	runs, err := Simulate(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	return runs
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.IsNaN(got) || math.Abs(got-want) > tolerance {
		t.Errorf("%s = %g, want %g ± %g", what, got, want, tolerance)
	}
}

// Without noise what happens can be worked out by hand.
func TestARunTakesWhatTheModelSays(t *testing.T) {
	t.Parallel()
	head := "name: x\nnodes: {count: 1, cpus: 2}\ndeployment: {mean: 20s, gap: 1s}\n"
	job := func(more string) string {
		return "jobs:\n  - {name: a, serial: 40, parallel: 60, deadline: 1h, " + more + "}\n"
	}
	for _, tt := range []struct {
		name, text string
		ended      float64 // after 0 s for the offer
		allocated  float64
	}{
		{"one CPU", head + job("cpus: 1"), 20 + 100, 100},
		{"half a CPU", head + job("cpus: 0.5"), 20 + 200, 100},
		{"two CPUs shorten the parallel part alone", head + job("cpus: 2"), 20 + 40 + 30, 140},
		{"shares: what is idle is used", head + "enforcement: shares\n" + job("cpus: 0.5"), 20 + 70, 35},
		{"warm iterations are deployed once", head + job("cpus: 1, iterations: 3"), 20 + 300 + 2, 302},
		{"iterations by Chronos each time, after an offer", head + "iterations: chronos\n" + job("cpus: 1, iterations: 3"), 3 * (20 + 100), 300},
		{"Marathon", head + job("cpus: 1, framework: marathon"), 20 + 100, 100},
		{"two share a node by their weights", head + "enforcement: shares\n" + job("cpus: 0.5, count: 2"), 20 + 100, 50},
	} {
		o := simulate(t, scenario(t, tt.text), Options{Policies: []string{qos.PolicyNone}})[0].Jobs[0]
		near(t, tt.name+": ended", o.Ended, tt.ended, 1.01)
		near(t, tt.name+": allocated", o.Allocated, tt.allocated, 0.01)
		if !o.Met || !o.Feasible || o.Resizes != 0 {
			t.Errorf("%s: %+v", tt.name, o)
		}
	}
}

func TestACrashLosesWhatNoCheckpointHolds(t *testing.T) {
	t.Parallel()
	text := "name: x\nnodes: {count: 1, cpus: 2}\ncrashes: 1\ncheckpoint: {%s}\njobs: [{name: a, serial: 300, deadline: 1h}]\n"
	for _, tt := range []struct {
		every string
		lost  float64 // CPU seconds, at most
	}{{"every: 30s, freeze: 1s", 30}, {"restart: 10s", 300}} {
		s := scenario(t, strings.Replace(text, "%s", tt.every, 1))
		most := 0.0
		for _, r := range simulate(t, s, Options{Policies: []string{qos.PolicyNone}, Seeds: 40}) {
			lost := r.Jobs[0].Used - 300
			if lost < -1e-6 || lost > tt.lost+1e-6 {
				t.Errorf("%s, seed %d: %g CPU seconds were lost", tt.every, r.Seed, lost)
			}
			most = max(most, lost)
		}
		if most < 0.7*tt.lost {
			t.Errorf("%s: at most %g CPU seconds were lost", tt.every, most)
		}
	}
}

func TestFeasibleIsWhatCanBeDoneAloneOnANode(t *testing.T) {
	t.Parallel()
	s, err := Ship("case-i")
	if err != nil {
		t.Fatal(err)
	}
	feasible := map[string]int{}
	const seeds = 100
	for _, r := range simulate(t, s, Options{Policies: []string{qos.PolicyNone}, Seeds: seeds}) {
		for _, o := range r.Jobs {
			feasible[o.Job] += int(count(o.Feasible))
		}
	}
	// With 45 s for each deployment jobs 3 and 5 need 2057 and 1898 s of 1800 at two CPUs; job 4 needs 1740.
	for job, want := range map[string][2]int{
		"openmpLinpack1": {90, 100}, "openmpLinpack2": {90, 100}, "openmpLinpack3": {0, 0},
		"openmpLinpack4": {70, 99}, "openmpLinpack5": {0, 8}, "openmpLinpack6": {95, 100},
	} {
		if n := feasible[job]; n < want[0] || n > want[1] {
			t.Errorf("%s is feasible in %d of %d seeds, want %v", job, n, seeds, want)
		}
	}
}

func TestTheSameSeedGivesTheSameRun(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"case-ii", "random-20", "random-12-tenant", "random-12-crash"} {
		s, err := Ship(name)
		if err != nil {
			t.Fatal(err)
		}
		o := Options{Policies: []string{qos.PolicyDeadline, qos.PolicyStep}, Seeds: 3, Seed: 5, Stride: 2}
		o.Workers = 1
		one := simulate(t, s, o)
		o.Workers = 3
		if diff := cmp.Diff(one, simulate(t, s, o)); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		if len(one) != 6 || one[2].Seed != 9 || one[3].Policy != qos.PolicyStep {
			t.Errorf("%s: %d runs", name, len(one))
		}
	}
}

// The floor under the policy: figures of even seeds, far below what docs/control.md reports of odd ones.
func TestThePolicyHoldsItsGround(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		scenario string
		feasible float64 // share of the feasible jobs that meet their deadlines, at least
		perWork  float64 // at most
		steady   float64
	}{
		{"case-i-known", 0.90, 2, 100},
		{"case-i-warm", 0.98, 1.23, 8},
		{"case-i-warm-shares", 0.98, 1.23, 8},
		{"case-ii-warm", 0.95, 1.23, 12},
		{"case-iii", 1, 1.25, 40},
		{"case-iii-family", 0.99, 1.20, 8},
		{"case-iii-family-known", 0.99, 1.08, 6},
		{"case-iii-family-crash", 0.99, 1.20, 10},
		{"random-12", 0.95, 1.20, 6},
	} {
		s, err := Ship(tt.scenario)
		if err != nil {
			t.Fatal(err)
		}
		runs := simulate(t, s, Options{Policies: []string{qos.PolicyDeadline, qos.PolicyStep}, Seeds: 20, Stride: 2})
		list := Summarize(s, runs)
		ours, thesis := list[0], list[1]
		if ours.OfFeasible.Mean < tt.feasible || ours.PerWork > tt.perWork || ours.Steady > tt.steady {
			t.Errorf("%s: %s of the feasible, %.3f CPU seconds for each of work, %.1f resizes in a steady hour",
				tt.scenario, ours.OfFeasible, ours.PerWork, ours.Steady)
		}
		if ours.Met.Mean <= thesis.Met.Mean {
			t.Errorf("%s: ours meets %s, the thesis' law %s", tt.scenario, ours.Met, thesis.Met)
		}
	}
}

func TestAdmissionNamesTheTwoJobsThatCannotBeInTime(t *testing.T) {
	t.Parallel()
	s, err := Ship("case-i-known")
	if err != nil {
		t.Fatal(err)
	}
	list := Summarize(s, simulate(t, s, Options{Seeds: 20, Stride: 2}))
	if diff := cmp.Diff([]string{"openmpLinpack3", "openmpLinpack5"}, list[0].Refused); diff != "" {
		t.Error(diff)
	}
}

func TestWhatCannotBeSimulatedIsRefused(t *testing.T) {
	t.Parallel()
	s := scenario(t, small)
	for want, o := range map[string]Options{
		"not known":   {Policies: []string{"magic"}},
		"given twice": {Policies: []string{"step", "step"}},
		"seeds":       {Seeds: -1},
		"dead_zone":   {Params: qos.Params{DeadZone: -1}},
	} {
		if _, err := Simulate(t.Context(), s, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestFiguresAreDrawn(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"case-i":   "prediction iterations-openmpLinpack1 allocation-openmpLinpack1 iterations-openmpLinpack2",
		"case-iii": "ratio-openmpLinpack1 cpu-time-openmpLinpack1 allocation-openmpLinpack1",
	} {
		s, err := Ship(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, policy := range []string{qos.PolicyStep, qos.PolicyDeadline} {
			trace, err := Record(t.Context(), s, policy, qos.Params{}, 1)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, f := range trace.Figures() {
				names = append(names, f.Name)
				wellFormed(t, f)
			}
			if got := strings.Join(names, " "); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s", name, got)
			}
		}
	}
}

// wellFormed says whether a figure is XML with a region and a line.
func wellFormed(t *testing.T, f Figure) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(f.SVG))
	marks := map[string]int{}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		if e, ok := token.(xml.StartElement); ok {
			marks[e.Name.Local]++
		}
	}
	if marks["path"] < 5 || marks["rect"] < 1 || bytes.Contains(f.SVG, []byte("NaN")) || bytes.Contains(f.SVG, []byte("Inf")) {
		t.Errorf("%s: %v", f.Name, marks)
	}
}

func TestIntervalsHoldTheShare(t *testing.T) {
	t.Parallel()
	var all, half ratio
	for i := range 100 {
		all.add(6, 6)
		half.add(float64(6*(i%2)), 6)
	}
	a, h := all.share(), half.share()
	if a.Mean != 1 || a.Low < 0.95 || a.Low >= 1 || a.High < 1-1e-9 {
		t.Errorf("all of 100 seeds: %+v", a)
	}
	// Six jobs that go together count as one: the interval is that of 100 draws, not of 600.
	if h.Mean != 0.5 || math.Abs(h.High-0.598) > 0.003 || math.Abs(h.Low-0.402) > 0.003 {
		t.Errorf("half of them: %+v", h)
	}
}

func BenchmarkCaseI(b *testing.B) {
	s, err := Ship("case-i")
	if err != nil {
		b.Fatal(err)
	}
	for i := range b.N {
		simulate(b, s, Options{Seeds: 1, Seed: uint64(i)})
	}
}
