package qos

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// simJob is one job of the closed loop: its true work, which no policy is told.
type simJob struct {
	view     JobView
	works    []float64 // true CPU seconds of each run
	parallel float64   // share of a run that more than one CPU shortens
	arrives  float64   // seconds from the start

	run       int
	done      float64 // share of the present run that is done
	pause     float64 // seconds until the next run starts
	runAt     float64
	allocated float64 // CPU seconds allowed in the present run
	used      float64 // CPU seconds of the look
	capped    float64 // seconds of the look at full quota
	finished  float64 // seconds; 0: not yet
	resizes   int
	started   bool
}

// closedLoop is a node with hard quotas under one policy, looked at every tick.
type closedLoop struct {
	policy Policy
	cpus   float64
	sold   func(t float64) float64
	tick   float64
	deploy float64
	jobs   []*simJob
	check  func(t float64, n NodeView, d []Decision)
	log    func(string, ...any)
	noise  *rand.Rand // of the readings; nil: none
}

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(t float64) time.Time { return epoch.Add(seconds(t)) }

// run drives the loop until all jobs have finished or the horizon is reached.
func (c *closedLoop) run(horizon float64) {
	const dt = 0.05
	next := 0.0
	for t := 0.0; t < horizon; t += dt {
		if t >= next {
			c.look(t)
			next += c.tick
		}
		alive := false
		for _, j := range c.jobs {
			if j.finished == 0 {
				alive = true
				j.advance(t, dt, c.deploy)
			}
		}
		if !alive {
			return
		}
	}
}

// advance runs a job for dt seconds: below one CPU its progress is that of its quota, above only its parallel share gains.
func (j *simJob) advance(t, dt, deploy float64) {
	if !j.started {
		return
	}
	if j.pause > 0 {
		j.pause -= dt
		if j.pause <= 0 {
			j.runAt = t
			j.view.RunStart = at(t)
		}
		return
	}
	work, c := j.works[j.run], j.view.Allocation
	whole := work * ((1-j.parallel)/min(c, 1) + j.parallel/c)
	j.done += dt / whole
	j.used += dt / whole * work
	j.allocated += c * dt
	if c <= 1 || j.parallel == 1 {
		j.capped += dt
	}
	if j.done < 1 {
		j.view.Progress = j.done * work
		return
	}
	wall := t + dt - j.runAt
	j.view.Model.Observe(wall, j.allocated/wall, work)
	j.run++
	j.view.RunsLeft--
	j.done, j.allocated, j.view.Progress = 0, 0, 0
	if j.run == len(j.works) {
		j.finished = t + dt
		return
	}
	j.pause = deploy
}

// look shows the policy the node, and does what it says.
func (c *closedLoop) look(t float64) {
	n := NodeView{Now: at(t), CPUs: c.cpus, Borrow: true}
	if c.sold != nil {
		n.Sold = c.sold(t)
	}
	var here []*simJob
	for _, j := range c.jobs {
		if t < j.arrives || j.finished > 0 {
			continue
		}
		if !j.started {
			j.started, j.runAt = true, t
			j.view.Start, j.view.RunStart = at(t), at(t)
			j.view.Deadline = j.view.QoS.Deadline.From(at(t))
			j.view.Usage, j.view.Throttled = 0, 0
		} else {
			j.view.Usage, j.view.Throttled = j.used/c.tick, j.capped/c.tick
			if c.noise != nil {
				j.view.Usage *= 0.92 + 0.1*c.noise.Float64()
				j.view.Throttled *= c.noise.Float64()
			}
		}
		j.used, j.capped = 0, 0
		here = append(here, j)
		n.Jobs = append(n.Jobs, j.view)
	}
	decisions := c.policy.Decide(n)
	if c.check != nil {
		c.check(t, n, decisions)
	}
	for i, j := range here {
		d := decisions[i]
		j.view.Memory = d.Memory
		if d.To != d.From {
			if c.log != nil {
				c.log("%6.1f %-4s %.2f -> %.2f need %.2f %-10s %s", t, d.Job, d.From, d.To, d.Need, d.Rule, d.Reason)
			}
			j.view.Allocation = d.To
			j.view.LastChange = n.Now
			j.resizes++
		}
	}
}

// met says whether the job was in time.
func (j *simJob) met() bool {
	return j.finished > 0 && !at(j.finished).After(j.view.Deadline)
}

// demo is the demonstration in small: on two CPUs six Chronos series with the thesis' proportions and a Marathon job, deadline 100 s,
// requests of 0.2, about 60 % load; the work varies by 10 %, and durations are declared 15 to 20 % too low.
func demo(seed uint64, policy Policy, tick float64) *closedLoop {
	rng := rand.New(rand.NewPCG(seed, 7))
	c := &closedLoop{policy: policy, cpus: 1.9, tick: tick, deploy: 0.1, noise: rng}
	for i, k := range []struct {
		runs int
		work float64 // of one run, CPU seconds
		par  float64
	}{{4, 4.1, .49}, {4, 4.1, .49}, {13, 1.38, .61}, {11, 1.38, .61}, {12, 1.38, .61}, {14, .79, .56}, {1, 26, .49}} {
		j := &simJob{parallel: k.par, arrives: 0.5 * float64(i)}
		for range k.runs {
			j.works = append(j.works, k.work*(0.9+0.2*rng.Float64()))
		}
		declared := k.work * (0.80 + 0.05*rng.Float64())
		j.view = JobView{
			ID: fmt.Sprintf("j%d", i+1), Framework: Chronos,
			QoS:     QoS{Duration: declared, Deviation: 0.2, Deadline: Deadline{After: 100 * time.Second}},
			Request: 0.2, Min: 0.1, Max: 2, Allocation: 0.2,
			Runs: k.runs, RunsLeft: k.runs, Deploy: c.deploy,
		}
		if k.runs == 1 {
			j.view.Framework, j.view.Deploy = Marathon, 0
		}
		c.jobs = append(c.jobs, j)
	}
	return c
}

func mustPolicy(t testing.TB, name string) Policy {
	t.Helper()
	p, err := NewPolicy(name, Params{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTheDemoMeetsAllDeadlines(t *testing.T) {
	t.Parallel()
	for _, tick := range []float64{1, 2, 5} {
		most := 0
		missed := 0
		for seed := range uint64(200) {
			c := demo(seed, mustPolicy(t, PolicyDeadline), tick)
			c.run(300)
			for _, j := range c.jobs {
				most = max(most, j.resizes)
				if !j.met() {
					missed++
					t.Errorf("tick %g s, seed %d: %s missed its deadline: finished at %.1f s", tick, seed, j.view.ID, j.finished)
				}
				if j.resizes > 12 {
					t.Errorf("tick %g s, seed %d: %s was resized %d times", tick, seed, j.view.ID, j.resizes)
				}
			}
		}
		t.Logf("tick %g s: %d missed, at most %d resizes", tick, missed, most)
	}
}

func TestTheDemoMissesADeadlineWithoutAPolicy(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		c := demo(seed, mustPolicy(t, PolicyNone), 2)
		c.run(300)
		missed := 0
		for _, j := range c.jobs {
			if !j.met() {
				missed++
			}
		}
		if missed == 0 {
			t.Errorf("seed %d: policy none met every deadline", seed)
		}
	}
}
