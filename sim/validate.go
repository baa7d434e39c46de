package sim

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"qosctl/qos"
)

// checker collects what is wrong with a scenario.
type checker struct{ errs []error }

func (c *checker) within(key string, v, low, high float64) {
	if math.IsNaN(v) || v < low || v > high {
		c.errs = append(c.errs, fmt.Errorf("%s: must be from %g to %g (got %g)", key, low, high, v))
	}
}

func (c *checker) span(key string, r Range, low, high float64) {
	c.within(key, r[0], low, high)
	c.within(key, r[1], low, high)
	if r[1] < r[0] {
		c.errs = append(c.errs, fmt.Errorf("%s: the greatest (%g) is less than the least (%g)", key, r[1], r[0]))
	}
}

func (c *checker) oneOf(key, v string, values ...string) {
	if !slices.Contains(values, v) {
		c.errs = append(c.errs, fmt.Errorf("%s: must be one of %v (got %q)", key, values, v))
	}
}

// validate names every figure that can't be.
func (s *Scenario) validate() error {
	c := &checker{}
	if s.Name == "" {
		c.errs = append(c.errs, errors.New("name: is missing"))
	}
	c.oneOf("enforcement", string(s.Enforcement), string(Quota), string(Shares))
	c.oneOf("iterations", s.Iterations, "warm", "chronos")
	c.oneOf("borrow", s.Borrow, "idle", "none")
	c.oneOf("resize", s.Resize, "auto", "inplace", "reschedule")
	c.oneOf("placement", s.Placement, "hints", "random")
	c.within("nodes.count", float64(s.Nodes.Count), 1, maxNodes)
	c.within("nodes.cpus", s.Nodes.CPUs, 0.1, 1024)
	c.within("min_cpus", s.MinCPUs, 0.01, s.MaxCPUs)
	c.within("max_cpus", s.MaxCPUs, 0.01, s.Nodes.CPUs)
	c.within("period", float64(s.Period), 0.5, 3600)
	c.within("offers", float64(s.Offers), 0.1, 3600)
	c.within("deployment.mean", float64(s.Deployment.Mean), 0, 3600)
	c.within("deployment.spread", s.Deployment.Spread, 0, 2)
	c.within("deployment.gap", float64(s.Deployment.Gap), 0, 3600)
	c.within("deployment.declared", float64(*s.Deployment.Declared), 0, 3600)
	c.within("noise.run", s.Noise.Run, 0, 2)
	c.within("noise.stragglers", s.Noise.Stragglers, 0, 1)
	c.span("noise.by", s.Noise.By, 1, 100)
	c.span("noise.declared", s.Noise.Declared, 0.01, 100)
	c.within("checkpoint.every", float64(s.Checkpoint.Every), 0, 86400)
	c.within("checkpoint.freeze", float64(s.Checkpoint.Freeze), 0, 3600)
	c.within("checkpoint.restart", float64(s.Checkpoint.Restart), 0, 3600)
	if s.Checkpoint.Every > 0 && s.Checkpoint.Every <= s.Checkpoint.Freeze {
		c.errs = append(c.errs, errors.New("checkpoint.every: must be longer than checkpoint.freeze"))
	}
	c.within("crashes", s.Crashes, 0, 1)
	c.within("history", float64(s.History), 0, maxRuns)
	c.within("background.nodes", float64(s.Background.Nodes), 0, float64(s.Nodes.Count))
	c.within("background.cpus", s.Background.CPUs, 0, s.Nodes.CPUs)
	if s.Background.Nodes > 0 {
		c.within("background.on", float64(s.Background.On), 1, 86400)
		c.within("background.off", float64(s.Background.Off), 1, 86400)
	}
	c.within("horizon", float64(s.Horizon), 0, 30*86400)
	total := 0
	for i := range s.Jobs {
		total += s.Jobs[i].Count
		s.Jobs[i].validate(c, s, fmt.Sprintf("jobs[%d]", i))
	}
	if s.Random != nil {
		total += s.Random.Jobs
		s.Random.validate(c, s)
	}
	c.within("the number of jobs", float64(total), 1, maxJobs)
	return errors.Join(c.errs...)
}

func (j *Job) validate(c *checker, s *Scenario, at string) {
	if j.Name == "" {
		c.errs = append(c.errs, fmt.Errorf("%s.name: is missing", at))
	}
	c.oneOf(at+".framework", j.Framework, string(qos.Chronos), string(qos.Marathon))
	c.within(at+".count", float64(j.Count), 1, maxJobs)
	c.within(at+".iterations", float64(j.Iterations), 1, maxRuns)
	if j.Framework == string(qos.Marathon) && j.Iterations != 1 {
		c.errs = append(c.errs, fmt.Errorf("%s.iterations: an execution of Marathon's is one run (got %d)", at, j.Iterations))
	}
	c.within(at+".duration", j.Duration, 0, 1e6)
	c.within(at+".serial", j.Serial, 0, 1e6)
	c.within(at+".parallel", j.Parallel, 0, 1e6)
	c.within(at+".serial + parallel", j.Serial+j.Parallel, 0.1, 1e6)
	c.within(at+".threads", float64(j.Threads), 1, 1024)
	c.within(at+".size", j.Size, 0, 1e6)
	c.within(at+".size_spread", j.SizeSpread, 0, 0.9*j.Size)
	c.within(at+".deadline", float64(j.Deadline), 1, 30*86400)
	c.within(at+".desv_deadline", j.Deviation, 0, 0.99)
	c.within(at+".cpus", j.CPUs, 0.01, s.Nodes.CPUs)
	c.within(at+".weight", j.Weight, 0, 1e6)
	c.within(at+".arrive", float64(j.Arrive), 0, 30*86400)
}

func (r *Random) validate(c *checker, s *Scenario) {
	c.within("random.jobs", float64(r.Jobs), 1, maxJobs)
	c.oneOf("random.framework", r.Framework, string(qos.Chronos), string(qos.Marathon))
	c.span("random.work", r.Work, 1, 1e6)
	c.within("random.mu", r.Mu, 0, 14)
	c.within("random.sigma", r.Sigma, 0, 5)
	c.span("random.iterations", r.Iterations, 1, maxRuns)
	if r.Framework == string(qos.Marathon) && r.Iterations[1] != 1 {
		c.errs = append(c.errs, errors.New("random.iterations: an execution of Marathon's is one run"))
	}
	c.span("random.parallel", r.Parallel, 0, 1)
	c.span("random.tightness", r.Tightness, 0.1, 100)
	c.oneOf("random.tight_to", r.TightTo, "ideal", "work")
	c.span("random.cpus", r.CPUs, 0.01, s.Nodes.CPUs)
	c.span("random.arrive", r.Arrive, 0, 30*86400)
	c.within("random.desv_deadline", r.Deviation, 0, 0.99)
}
