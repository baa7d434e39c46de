package qos

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.IsNaN(got) || math.Abs(got-want) > tolerance {
		t.Errorf("%s = %g, want %g ± %g", what, got, want, tolerance)
	}
}

func TestTwoPointsOfTable1GiveItsFit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ one, two, a, b float64 }{
		{480.4, 362.2, 244.0, 236.4},
		{162.75, 113.2, 63.65, 99.1},
		{92.36, 66.32, 40.28, 52.08},
	} {
		for _, order := range [][2]float64{{1, 2}, {2, 1}} {
			var m Model
			for _, c := range order {
				wall := tt.one
				if c == 2 {
					wall = tt.two
				}
				m.Observe(wall, c, tt.one)
			}
			near(t, "A", m.A, tt.a, 0.01)
			near(t, "B", m.B, tt.b, 0.01)
			near(t, "Time(1)", m.Time(1), tt.one, 0.01)
			near(t, "Time(2)", m.Time(2), tt.two, 0.01)
			near(t, "Time(0.5)", m.Time(0.5), 2*tt.one, 0.01)
			near(t, "CPUsFor(Time(2))", m.CPUsFor(tt.two), 2, 0.01)
			near(t, "CPUsFor(2·Time(1))", m.CPUsFor(2*tt.one), 0.5, 0.01)
			if c := m.CPUsFor(tt.a); !math.IsInf(c, 1) {
				t.Errorf("CPUsFor(A) = %g, want +Inf", c)
			}
		}
	}
}

func TestOnePointBelowOneCPU(t *testing.T) {
	t.Parallel()
	var m Model
	m.Observe(200, 0.5, 100)
	near(t, "Work", m.Work, 100, 1e-9)
	near(t, "Time(0.25)", m.Time(0.25), 400, 1e-9)
	near(t, "B", m.B, 50, 1e-9) // the guess: nothing above one CPU was seen
	if m.N != 1 || m.Dev != 0 {
		t.Errorf("after one run N is %d, Dev %g", m.N, m.Dev)
	}
}

func TestWaitingIsToldFromWork(t *testing.T) {
	t.Parallel()
	var m Model // 60 CPU seconds and 40 seconds of sleep
	for range 5 {
		m.Observe(100, 1, 60)
		m.Observe(160, 0.5, 60)
	}
	near(t, "Work", m.Work, 60, 1e-9)
	near(t, "Time(1)", m.Time(1), 100, 1)
	near(t, "Time(0.5)", m.Time(0.5), 160, 1)
	near(t, "CPUsFor(160)", m.CPUsFor(160), 0.5, 0.01)
	if c := m.CPUsFor(39); !math.IsInf(c, 1) {
		t.Errorf("CPUsFor less than the waiting = %g, want +Inf", c)
	}
}

func TestManyNoisyRuns(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	m := Guess(80)
	if m.N != 0 || m.Work != 80 {
		t.Fatalf("the guess is %+v", m)
	}
	for range 200 {
		work := 100 * (1 + 0.1*rng.NormFloat64())
		c := []float64{0.3, 0.7, 1, 1.5, 2}[rng.IntN(5)]
		m.Observe(work*(0.4/min(c, 1)+0.6/c), c, work)
	}
	near(t, "Work", m.Work, 100, 15)
	near(t, "B/Work", m.B/m.Work, 0.6, 0.05)
	near(t, "Dev", m.Dev, 0.1, 0.06)
}

func TestAModelFollowsAChangeOfTheJob(t *testing.T) {
	t.Parallel()
	var m Model
	for range 20 {
		m.Observe(100, 1, 100)
	}
	for range 20 {
		m.Observe(50, 1, 50)
	}
	near(t, "Work", m.Work, 50, 3)
}

func TestAModelIsAlwaysUsable(t *testing.T) {
	t.Parallel()
	figure := rapid.OneOf(rapid.Float64(), rapid.Float64Range(0, 1e6), rapid.SampledFrom([]float64{0, -1, math.NaN(), math.Inf(1)}))
	rapid.Check(t, func(t *rapid.T) {
		var m Model
		for range rapid.IntRange(1, 8).Draw(t, "runs") {
			m.Observe(
				rapid.OneOf(figure, rapid.Float64Range(1, 1e4)).Draw(t, "wall"),
				rapid.OneOf(figure, rapid.Float64Range(0.1, 16)).Draw(t, "cpus"),
				rapid.OneOf(figure, rapid.Float64Range(1, 1e4)).Draw(t, "work"))
		}
		for name, v := range map[string]float64{"A": m.A, "B": m.B, "Work": m.Work, "Dev": m.Dev} {
			if sane(v) != v {
				t.Fatalf("%s is %g: %+v", name, v, m)
			}
		}
		last := math.Inf(1)
		for c := 0.1; c < 8; c *= 1.3 {
			if v := m.Time(c); v > last*(1+1e-9) || math.IsNaN(v) {
				t.Fatalf("Time(%g) = %g, more than with less CPUs (%g): %+v", c, v, last, m)
			} else {
				last = v
			}
			if m.B > 1e-3*m.A && m.A < 1e6 { // else rounding is all that is left
				if back := m.CPUsFor(m.Time(c)); back > c*1.001 {
					t.Fatalf("CPUsFor(Time(%g)) = %g: %+v", c, back, m)
				}
			}
		}
		out, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var back Model
		if err := json.Unmarshal(out, &back); err != nil || back != m {
			t.Fatalf("JSON round trip: %v\n%s", err, cmp.Diff(m, back))
		}
	})
}
