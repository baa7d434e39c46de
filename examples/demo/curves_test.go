package main

import (
	"testing"

	"qosctl/agent/api"
	"qosctl/qos"
)

// A course that is the simulator's own is found again.
func TestACourseIsHeldAgainstTheSimulator(t *testing.T) {
	t.Parallel()
	p, err := makePlan(someSpeeds(8), 2, 2, 100e9, 0)
	if err != nil {
		t.Fatal(err)
	}
	r := result{Policy: qos.PolicyDeadline, CPUs: 2, planned: p.jobs}
	c := course{at: []float64{1}, given: [][]float64{make([]float64, len(p.jobs))}}
	for i, j := range p.jobs {
		r.Jobs = append(r.Jobs, jobResult{Name: j.name(), CPU: j.work * float64(j.runs()), Runs: j.runs(), Met: true})
		r.requests = append(r.requests, j.request)
		c.given[0][i] = 1
	}
	trace, err := r.trace(t.Context(), c, 7)
	if err != nil {
		t.Fatal(err)
	}
	same := course{}
	for at := 0.0; at < 110; at += 0.25 {
		jobs := make([]api.Job, len(r.Jobs))
		for i, j := range r.Jobs {
			jobs[i].Allocation = allocated(trackOf(trace, j.Name), r.requests[i], at)
		}
		same.note(at, jobs)
	}
	f, err := r.compare(trace, same)
	if err != nil || f.ratio > 1e-9 || f.real < 60 || f.met != len(r.Jobs) {
		t.Errorf("it differs from itself: %+v, %v", f, err)
	}
	for k := range same.given {
		same.given[k][0] = 0
	}
	if f, err = r.compare(trace, same); err != nil || f.ratio < 0.05 {
		t.Errorf("a job that got nothing is not seen: %+v, %v", f, err)
	}
	if _, err := hold(t.Context(), r, course{}, 1); err == nil {
		t.Error("nothing was seen, and is compared")
	}
}

func TestBetweenTwoIterationsAJobKeepsWhatItHad(t *testing.T) {
	t.Parallel()
	c := course{at: []float64{0, 1, 2, 3, 4, 5}, given: [][]float64{{0}, {0.5}, {0}, {0.7}, {0}, {0}}}
	c.between()
	for k, want := range []float64{0, 0.5, 0.5, 0.7, 0, 0} {
		if c.given[k][0] != want {
			t.Errorf("at %g s: %g", c.at[k], c.given[k][0])
		}
	}
}

func TestThePlanKeepsToWhatOurJobsAreEntitledTo(t *testing.T) {
	t.Parallel()
	for _, cpus := range []int{2, 4, 8} {
		p, err := makePlan(someSpeeds(8), cpus, min(cpus, 4), 100e9, 1)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.entitled(); p.needed > attainable*got || got > p.cpus || p.requests > p.cpus-1 {
			t.Errorf("%d CPUs: %.2f needed, %.2f requested, entitled to %.2f", cpus, p.needed, p.requests, got)
		}
	}
	if p := (plan{cpus: 2, requests: 1, tenant: 1}); p.entitled() != 1 {
		t.Errorf("of two CPUs, one each: %.2f", p.entitled())
	}
}
