package main

import (
	"fmt"
	"math"
	"time"

	"qosctl/qos"
)

// The thesis' figures (its Table 1 and case III), on one and two CPUs of its cluster.
var thesis = []thesisJob{
	{file: "openmpLinpack1", iterations: 4, matrix: 6000, declared: 400, alone: 480.4, deadline: 1800},
	{file: "openmpLinpack2", iterations: 4, matrix: 6000, declared: 400, alone: 480.4, deadline: 1800},
	{file: "openmpLinpack3", iterations: 13, matrix: 4000, declared: 130, alone: 162.75, deadline: 1800},
	{file: "openmpLinpack4", iterations: 11, matrix: 4000, declared: 130, alone: 162.75, deadline: 1800},
	{file: "openmpLinpack5", iterations: 12, matrix: 4000, declared: 130, alone: 162.75, deadline: 1800},
	{file: "openmpLinpack6", iterations: 14, matrix: 3500, declared: 80, alone: 92.36, deadline: 1800},
	{file: "marathon_openmpLinpack1", iterations: 0, matrix: 6000, declared: 400, alone: 480.4, deadline: 480},
}

type thesisJob struct {
	file       string
	iterations int     // 0: Marathon, one execution
	matrix     int     // n of an n×n matrix
	declared   float64 // qos.duration, seconds
	alone      float64 // seconds that one iteration really takes on one CPU: its work in CPU seconds
	deadline   float64 // seconds
}

func (t thesisJob) runs() int { return max(1, t.iterations) }

const (
	shrink        = 5    // of the matrices
	chronosLoad   = 0.53 // of all CPU time up to the deadline, by the six Chronos jobs
	marathonLoad  = 0.07 // by the Marathon job
	leastRequest  = 0.92 // of what job 3 needs: left at its request, it must miss
	startUp       = 3.0  // seconds from submission to a Chronos job's first instruction, allowed for
	startUpClaim  = 0.5  // the same from a Marathon execution's start, from which its deadline counts
	attainable    = 0.85 // of the most CPUs: a job that needs more is called not feasible
	mostCPUs      = 8    // of the node that are used: iterations follow one another, and a small matrix feeds few threads
	mostThreads   = 4
	smallestShare = 0.3 // of the load wanted: below it there is no plan
)

// speed is what calibration found for one size of matrix, for one factorisation.
type speed struct {
	n     int
	model qos.Model // T(c) = A + B/c seconds; Work in CPU seconds
}

// job is one job as it will be submitted.
type job struct {
	thesisJob
	n, repeat int
	threads   int
	work      float64 // CPU seconds of one run
	duration  float64 // qos.duration: declared, as far off the truth as in the thesis
	seconds   float64 // qos.deadline
	request   float64 // cpus
	need      float64 // CPUs that it needs from its start on; +Inf: none suffice
	model     qos.Model
}

func (j job) framework() qos.Framework {
	if j.iterations == 0 {
		return qos.Marathon
	}
	return qos.Chronos
}

// name is the one by which the framework and the API know it.
func (j job) name() string {
	if j.iterations == 0 {
		return "/openmplinpack1"
	}
	return j.file
}

// plan is what will be submitted, and by how much it fits.
type plan struct {
	cpus     float64
	tenant   float64 // CPUs that another one was sold
	seconds  float64
	jobs     []job
	needed   float64 // CPUs, by all jobs together
	load     float64 // of cpus × seconds
	requests float64 // CPUs, by all jobs together
}

// makePlan scales the thesis' jobs to this node: so much work that the load is as wanted, or as much less as it takes for each
// deadline to be feasible by calculation.
//
// Beside another tenant, our jobs are entitled to their requests' part of the node, against what it was sold: so much is planned with.
func makePlan(speeds []speed, cpus, threads int, deadline time.Duration, tenant float64) (plan, error) {
	var p plan
	for share := 1.0; share >= smallestShare; share -= 0.05 {
		p = scale(speeds, cpus, threads, deadline.Seconds(), share)
		p.tenant = tenant
		p.ask()
		if p.feasible() {
			return p, nil
		}
	}
	return p, fmt.Errorf("no load above %.0f %% of the one wanted lets each job meet its deadline by calculation", smallestShare*100)
}

// ask raises the requests, each by the same factor, to what entitles the jobs to all that they need beside the tenant: who asks for less
// than that is owed less.
func (p *plan) ask() {
	wanted := p.needed / attainable
	if p.tenant == 0 || wanted >= p.cpus {
		return
	}
	more := p.tenant * wanted / (p.cpus - wanted) / p.requests
	if more <= 1 {
		return
	}
	p.requests = 0
	for i := range p.jobs {
		j := &p.jobs[i]
		j.request = math.Ceil(100*j.request*more) / 100
		p.requests += j.request
	}
}

func scale(speeds []speed, cpus, threads int, seconds, share float64) plan {
	p := plan{cpus: float64(cpus), seconds: seconds}
	var chronos float64 // work of the thesis' six, CPU seconds
	for _, t := range thesis {
		if t.iterations > 0 {
			chronos += t.alone * float64(t.iterations)
		}
	}
	total := p.cpus * seconds * share
	for _, t := range thesis {
		wanted := t.alone * total * chronosLoad / chronos
		if t.iterations == 0 {
			wanted = total * marathonLoad
		}
		p.jobs = append(p.jobs, fit(t, speeds, threads, wanted, seconds*t.deadline/thesis[0].deadline))
	}
	request := math.Floor(100*leastRequest*p.jobs[2].need) / 100
	for i := range p.jobs {
		j := &p.jobs[i]
		j.request = math.Max(0.01, request)
		if j.iterations == 0 { // in the thesis' case III, too, less than it needs
			j.request = math.Max(0.01, math.Floor(50*j.need)/100)
		}
		p.requests += j.request
		p.needed += j.need
		p.load += j.work * float64(j.runs()) / (p.cpus * seconds)
	}
	return p
}

// fit chooses how often the matrix is factored so that one run has the work wanted, in CPU seconds.
func fit(t thesisJob, speeds []speed, threads int, wanted, seconds float64) job {
	j := job{thesisJob: t, n: t.matrix / shrink, threads: threads, seconds: seconds}
	for _, s := range speeds {
		if s.n == j.n {
			j.model = s.model
		}
	}
	j.repeat = max(1, int(math.Round(wanted/j.model.Work)))
	k := float64(j.repeat)
	j.model.A, j.model.B, j.model.Work = j.model.A*k, j.model.B*k, j.model.Work*k
	j.work = j.model.Work
	j.duration = j.work * t.declared / t.alone
	begin := startUp
	if j.iterations == 0 {
		begin = startUpClaim
	}
	j.need = need(j.model, float64(threads), (seconds-begin)/float64(j.runs()))
	return j
}

// need is how many CPUs one run needs to take at most t seconds: up to one CPU its work decides, above it how well it spreads.
func need(m qos.Model, threads, t float64) float64 {
	switch {
	case t <= 0:
		return math.Inf(1)
	case m.Work <= t:
		return m.Work / t
	case t <= m.A+m.B/threads:
		return math.Inf(1)
	}
	return max(1, m.B/(t-m.A))
}

// entitled is how many CPUs our jobs get together if everybody takes what it can.
func (p plan) entitled() float64 { return p.cpus * p.requests / (p.requests + p.tenant) }

// feasible says whether every deadline can be met by calculation: each job alone on the threads it has, all together on the node, or on what
// they are entitled to of it.
func (p plan) feasible() bool {
	for _, j := range p.jobs {
		if j.need > attainable*math.Min(float64(j.threads), p.entitled()) {
			return false
		}
	}
	return p.needed <= 0.95*(p.cpus-p.tenant) && p.requests <= attainable*(p.cpus-p.tenant) && (p.tenant == 0 || p.needed <= attainable*p.entitled())
}
