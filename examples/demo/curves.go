package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"qosctl/agent/api"
	"qosctl/qos"
	"qosctl/sim"
)

// curveGoal is by how much a simulated curve of allocations may differ from the real one: ∫|sim − real| / ∫real, median of the runs.
const curveGoal = 0.10

// course is the CPUs that the plan's jobs were given over time, as it was seen. It is what the simulator is held against.
type course struct {
	at    []float64   // seconds since submission
	given [][]float64 // CPUs of each job; 0: it does not run
}

func (c *course) note(at float64, jobs []api.Job) {
	row := make([]float64, len(jobs))
	for i, j := range jobs {
		row[i] = j.Allocation
	}
	c.at, c.given = append(c.at, at), append(c.given, row)
}

// begin and end are when a job was first and last seen with CPUs.
func (c *course) span(job int) (begin, end float64) {
	begin = math.Inf(1)
	for k, row := range c.given {
		if row[job] > 0 {
			begin, end = min(begin, c.at[k]), c.at[k]
		}
	}
	return begin, end
}

// between fills the moments between two iterations in, in which a job has no container, with what it had: what it is to have is decided on
// then, too, and in the simulator it keeps it.
func (c *course) between() {
	for job := range c.given[0] {
		begin, end := c.span(job)
		last := 0.0
		for k, row := range c.given {
			if row[job] > 0 {
				last = row[job]
			} else if c.at[k] > begin && c.at[k] < end {
				row[job] = last
			}
		}
	}
}

// curves does the demonstration several times, simulates each with what its jobs really burnt, and prints how far the allocations are apart.
func curves(ctx context.Context, o options, out, errOut io.Writer) int {
	var all []float64
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "run\tmet\tsimulated\tCPU-s given\tsimulated\t∫|sim − real| / ∫real\t")
	for n := range o.curves {
		fmt.Fprintf(errOut, "run %d of %d\n", n+1, o.curves)
		res, c, err := demo(ctx, o, errOut)
		var f likeness
		if err == nil {
			f, err = hold(ctx, res, c, uint64(n))
		}
		if err != nil {
			fmt.Fprintf(errOut, "demo: %v\n", err)
			return exitError
		}
		all = append(all, f.ratio)
		fmt.Fprintf(t, "%d\t%d of %d\t%d\t%.1f\t%.1f\t%.1f %%\t\n", n+1, met(res), len(res.Jobs), f.met, f.real, f.simulated, 100*f.ratio)
	}
	if err := t.Flush(); err != nil {
		fmt.Fprintf(errOut, "demo: %v\n", err)
		return exitError
	}
	slices.Sort(all)
	median := all[len(all)/2]
	fmt.Fprintf(out, "median %.1f %%, wanted at most %.0f %%\n", 100*median, 100*curveGoal)
	if median > curveGoal {
		return exitMissed
	}
	return exitMet
}

func met(r result) int {
	n := 0
	for _, j := range r.Jobs {
		if j.Met {
			n++
		}
	}
	return n
}

// likeness is what a comparison found.
type likeness struct {
	ratio           float64
	real, simulated float64 // ∫, CPU seconds
	met             int     // in the simulation
}

// hold simulates what was seen, and compares the curves.
func hold(ctx context.Context, r result, c course, seed uint64) (f likeness, err error) {
	if len(c.at) < 2 {
		return f, errors.New("nothing was seen of the jobs")
	}
	c.between()
	trace, err := r.trace(ctx, c, seed)
	if err != nil {
		return f, err
	}
	return r.compare(trace, c)
}

// trace simulates what was seen.
func (r result) trace(ctx context.Context, c course, seed uint64) (*sim.Trace, error) {
	s, err := r.scenario(c)
	if err != nil {
		return nil, err
	}
	return sim.Record(ctx, s, r.Policy, qos.Params{Dwell: devDwell}, seed)
}

// compare integrates the difference of the curves, job by job.
func (r result) compare(trace *sim.Trace, c course) (f likeness, err error) {
	apart := 0.0
	for i, j := range r.Jobs {
		track := trackOf(trace, j.Name)
		if track == nil {
			return f, fmt.Errorf("job %s is not in the simulation", j.Name)
		}
		if n := len(track.Runs); n > 0 && track.Runs[n-1].End <= track.Deadline {
			f.met++
		}
		for k := 1; k < len(c.at); k++ {
			dt := c.at[k] - c.at[k-1]
			had, simulated := c.given[k-1][i], allocated(track, r.requests[i], c.at[k-1])
			f.real += had * dt
			f.simulated += simulated * dt
			apart += math.Abs(had-simulated) * dt
		}
	}
	f.ratio = apart / f.real
	return f, nil
}

func trackOf(t *sim.Trace, job string) *sim.Track {
	for _, k := range t.Jobs {
		if k.Job == job {
			return k
		}
	}
	return nil
}

// allocated is what a simulated job has at a moment: its request until the first look.
func allocated(k *sim.Track, request, at float64) float64 {
	if n := len(k.Runs); n == 0 || at < k.Runs[0].Begin || at > k.Runs[n-1].End {
		return 0
	}
	cpus := request
	for _, l := range k.Looks {
		if l.At > at {
			break
		}
		cpus = l.Allocation
	}
	return cpus
}

// scenario is the demonstration for the simulator: one node, the jobs with the work that they really had, launched when they were.
func (r result) scenario(c course) (*sim.Scenario, error) {
	var jobs strings.Builder
	deploy, n := 0.0, 0.0
	for i := range r.Jobs {
		if b, _ := c.span(i); !math.IsInf(b, 0) {
			deploy, n = deploy+b, n+1
		}
	}
	deploy /= max(n, 1)
	for i, j := range r.Jobs {
		p, framework, arrive, deadline := r.planned[i], "chronos", 0.0, r.planned[i].seconds
		work := j.CPU / float64(max(j.Runs, 1))
		if p.iterations == 0 { // its deadline counts from its start
			framework = "marathon"
			begin, _ := c.span(i)
			arrive = max(begin-deploy, 0)
			deadline += deploy
		}
		parallel := work * p.model.B / p.model.Work
		fmt.Fprintf(&jobs, "  - {name: %q, framework: %s, iterations: %d, duration: %g, serial: %g, parallel: %g, threads: %d, deadline: %gs, cpus: %g, arrive: %gs}\n",
			j.Name, framework, p.runs(), p.duration, work-parallel, parallel, p.threads, deadline, p.request, arrive)
	}
	text := fmt.Sprintf("name: demo\nnodes: {count: 1, cpus: %g}\nperiod: %gs\noffers: 100ms\ndeployment: {mean: %gs, gap: %gs}\nplacement: random\njobs:\n%s",
		r.CPUs, devPeriod, deploy, devGap, jobs.String())
	s, err := sim.Read(strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("make a scenario of the demo: %w", err)
	}
	return s, nil
}

const (
	devPeriod = 2.0 // seconds between two looks of qosctl dev's agent
	devDwell  = 4 * time.Second
	devGap    = 0.1 // seconds between two of its warm iterations
)
