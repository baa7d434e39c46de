package main

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"qosctl/qos"
)

// someSpeeds are those of a machine that factors at g GFlop/s, and on two threads 1.6 times as fast.
func someSpeeds(g float64) []speed {
	var all []speed
	for _, n := range sizes() {
		t := 2 * math.Pow(float64(n), 3) / 3 / (g * 1e9)
		all = append(all, speed{n: n, model: model(cost{t, t}, cost{t / 1.6, t * 1.05}, 2)})
	}
	return all
}

func TestPlanKeepsTheThesisProportions(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ cpus, threads int }{{1, 1}, {2, 2}, {4, 4}, {8, 4}} {
		for _, seconds := range []time.Duration{30, 100, 1800} {
			t.Run(fmt.Sprintf("%d CPUs, %d s", tc.cpus, seconds), func(t *testing.T) {
				t.Parallel()
				p, err := makePlan(someSpeeds(8), tc.cpus, tc.threads, seconds*time.Second, 0)
				if err != nil {
					t.Fatal(err)
				}
				checkPlan(t, p)
			})
		}
	}
}

func checkPlan(t *testing.T, p plan) {
	t.Helper()
	first := p.jobs[0]
	for _, j := range p.jobs {
		if j.iterations > 0 {
			got, want := j.work/first.work, j.alone/first.alone
			if whole := 0.5/float64(j.repeat) + 0.5/float64(first.repeat); math.Abs(got/want-1) > 1.1*whole {
				t.Errorf("%s: work %.3f of the first job's, in the thesis %.3f", j.file, got, want)
			}
		}
		if got, want := j.duration/j.work, j.declared/j.alone; math.Abs(got-want) > 1e-9 {
			t.Errorf("%s: declared %.3f of its work, in the thesis %.3f", j.file, got, want)
		}
	}
	if p.load > 0.65 {
		t.Errorf("load %.2f", p.load)
	}
	if p.requests > 0.85*p.cpus {
		t.Errorf("%.2f CPUs requested of %.0f: offers may not hold them at once", p.requests, p.cpus)
	}
	third := p.jobs[2]
	if third.request > leastRequest*third.need {
		t.Errorf("job 3 needs %.3f CPUs and requests %.3f: it may meet its deadline uncontrolled", third.need, third.request)
	}
}

func TestTwoCPUsAreLoadedAsWanted(t *testing.T) {
	t.Parallel()
	p, err := makePlan(someSpeeds(8), 2, 2, 100*time.Second, 0)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(p.load-0.6) > 0.02 {
		t.Errorf("load %.3f, want about 0.6", p.load)
	}
}

func TestNoPlanForAMachineTooSlow(t *testing.T) {
	t.Parallel()
	if p, err := makePlan(someSpeeds(0.001), 2, 2, 20*time.Second, 0); err == nil {
		t.Errorf("plan %+v, want an error", p)
	}
}

func TestNeedIsEnoughAndNoMore(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Float64Range(0, 10).Draw(t, "a"), rapid.Float64Range(0.1, 10).Draw(t, "b")
		m := qos.Model{A: a, B: b, Work: a + b}
		limit := rapid.Float64Range(0.1, 50).Draw(t, "limit")
		c := need(m, 2, limit)
		if math.IsInf(c, 1) {
			if limit > a+b/2+1e-9 {
				t.Fatalf("not feasible within %g s, two CPUs do it in %g", limit, a+b/2)
			}
			return
		}
		took := m.Work / c
		if c > 1 {
			took = a + b/c
		}
		if math.Abs(took-limit) > 1e-6*limit {
			t.Fatalf("%g CPUs take %g s of %g", c, took, limit)
		}
	})
}

func TestModelGoesThroughWhatWasMeasured(t *testing.T) {
	t.Parallel()
	m := model(cost{480.4, 480.4}, cost{362.2, 500}, 2)
	if math.Abs(m.A-244) > 0.1 || math.Abs(m.B-236.4) > 0.1 || m.Work != 500 {
		t.Errorf("model %+v, want a 244.0, b 236.4 and work 500", m)
	}
	if m := model(cost{1, 1}, cost{1.2, 1}, 2); m.A != 1 || m.B != 0 {
		t.Errorf("model %+v of one that a second CPU slows down, want a 1, b 0", m)
	}
}

// TestATenantIsPlannedFor: our jobs ask for what entitles them to their needs beside it, and no more than Mesos has left.
func TestATenantIsPlannedFor(t *testing.T) {
	t.Parallel()
	for _, tenant := range []float64{0.5, 1} {
		p, err := makePlan(someSpeeds(3), 2, 2, 100*time.Second, tenant)
		if err != nil {
			t.Fatalf("a tenant of %g CPUs: %v", tenant, err)
		}
		if p.needed > attainable*p.entitled() || p.requests > attainable*(p.cpus-tenant) {
			t.Errorf("beside %g CPUs: needed %g, asked for %g, entitled to %g", tenant, p.needed, p.requests, p.entitled())
		}
	}
}
