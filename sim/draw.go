package sim

import (
	"fmt"
	"math"
	"math/rand/v2"

	"qosctl/qos"
)

// task is a job as a seed has drawn it: the truth, of which a policy learns only what an agent would.
type task struct {
	spec     qos.Spec
	arrive   float64   // seconds
	deadline float64   // seconds from the start of the simulation
	factors  []float64 // of each run's work
	deploys  []float64 // of each launch, seconds
	serial   float64   // CPU seconds of a run with factor 1
	parallel float64
	threads  float64
	crashAt  float64 // in runs from the start; negative: never
	model    qos.Model
}

// work is the CPU seconds of run i.
func (t *task) work(i int) float64 { return t.factors[i] * (t.serial + t.parallel) }

// time is what run i takes with c CPUs, in seconds.
func (t *task) time(i int, c float64) float64 {
	return t.factors[i] * (t.serial/min(c, 1) + t.parallel/min(c, t.threads))
}

// drawer draws a seed's jobs.
type drawer struct {
	*Scenario
	rng *rand.Rand
}

// draw returns the jobs of a seed. The same seed gives the same jobs.
func (s *Scenario) draw(seed uint64) []*task {
	d := drawer{s, rand.New(rand.NewPCG(seed, 0x7a5c))}
	var tasks []*task
	for _, j := range s.Jobs {
		for k := range j.Count {
			name := j.Name
			if j.Count > 1 {
				name = fmt.Sprintf("%s-%d", j.Name, k+1)
			}
			tasks = append(tasks, d.job(j, name))
		}
	}
	if s.Random != nil {
		for k := range s.Random.Jobs {
			tasks = append(tasks, d.job(d.random(), fmt.Sprintf("random-%d", k+1)))
		}
	}
	return tasks
}

func (d drawer) uniform(r Range) float64 { return r[0] + (r[1]-r[0])*d.rng.Float64() }

func (d drawer) lognormal(sigma float64) float64 { return math.Exp(sigma * d.rng.NormFloat64()) }

// factor is how much more work a run has than the declared one.
func (d drawer) factor(j Job) float64 {
	f := d.lognormal(d.Noise.Run)
	if d.rng.Float64() < d.Noise.Stragglers {
		f *= d.uniform(d.Noise.By)
	}
	if j.SizeSpread > 0 {
		f *= math.Pow(1+d.uniform(Range{-1, 1})*j.SizeSpread/j.Size, 3)
	}
	return f
}

// random draws a job's kind.
func (d drawer) random() Job {
	r := d.Random
	work := d.uniform(r.Work)
	if r.Mu > 0 {
		work = min(max(math.Exp(r.Mu+r.Sigma*d.rng.NormFloat64()), r.Work[0]), r.Work[1])
	}
	runs := math.Round(d.uniform(r.Iterations))
	parallel := d.uniform(r.Parallel)
	threads := math.Ceil(d.MaxCPUs)
	each := work / runs
	ideal := work * (1 - parallel + parallel/min(d.MaxCPUs, threads))
	if r.TightTo == "work" {
		ideal = work
	}
	launches, gaps := 1.0, runs-1
	if d.Iterations == "chronos" {
		launches, gaps = runs, 0
	}
	ideal += launches*float64(d.Deployment.Mean) + gaps*float64(d.Deployment.Gap)
	return Job{
		Framework: r.Framework, Iterations: int(runs), Serial: (1 - parallel) * each, Parallel: parallel * each,
		Threads: int(threads), Deadline: Span(d.uniform(r.Tightness) * ideal), Deviation: r.Deviation,
		CPUs: math.Round(100*d.uniform(r.CPUs)) / 100, Arrive: Span(d.uniform(r.Arrive)),
	}
}

// job draws what is left open of a job.
func (d drawer) job(j Job, name string) *task {
	t := &task{
		arrive: float64(j.Arrive), deadline: float64(j.Arrive + j.Deadline),
		serial: j.Serial, parallel: j.Parallel, threads: float64(j.Threads), crashAt: -1,
	}
	for range j.Iterations {
		t.factors = append(t.factors, d.factor(j))
		t.deploys = append(t.deploys, float64(d.Deployment.Mean)*d.lognormal(d.Deployment.Spread))
	}
	declared := d.uniform(d.Noise.Declared) * (j.Serial + j.Parallel)
	if j.Duration > 0 {
		declared = j.Duration
	}
	if d.rng.Float64() < d.Crashes {
		t.crashAt = d.rng.Float64() * float64(j.Iterations)
	}
	t.spec = qos.Spec{
		ID: name, Name: name, Framework: qos.Framework(j.Framework), CPUs: j.CPUs, Submitted: moment(t.arrive),
		QoS: qos.QoS{
			Duration: declared, Deviation: j.Deviation, Weight: j.Weight, MinCPUs: d.MinCPUs, MaxCPUs: d.MaxCPUs,
			Deadline: qos.Deadline{At: moment(t.deadline)},
		},
	}
	if t.spec.Framework == qos.Chronos {
		t.spec.Iterations = j.Iterations
	}
	for range d.History {
		f := d.factor(j)
		c := d.uniform(Range{0.5, d.MaxCPUs})
		wall := f * (t.serial/min(c, 1) + t.parallel/min(c, t.threads))
		t.model.Observe(wall, c, f*(t.serial+t.parallel))
	}
	return t
}
