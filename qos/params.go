package qos

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// The policies' names, as QoS.Policy and the configuration give them.
const (
	PolicyDeadline = "deadline"  // the default: computed from the work and the time left
	PolicyStep     = "step"      // the thesis' fixed steps, as its text has them
	PolicyStepCode = "step-code" // the same, as its program has them
	PolicyNone     = "none"      // what was asked for at submit, unchanged
)

// PolicyNames returns the names of all policies.
func PolicyNames() []string { return []string{PolicyDeadline, PolicyStep, PolicyStepCode, PolicyNone} }

// Params tunes the policies. A zero field takes its default.
type Params struct {
	Increment  float64       `json:"increment"`   // step: CPUs added to a job that is UNDER_PERFORMANT; default 0.4 (thesis)
	Decrement  float64       `json:"decrement"`   // step: CPUs taken from one that is OVER_PERFORMANT; default 0.4 (thesis)
	StepPeriod time.Duration `json:"step_period"` // step: least time between two steps of a Marathon job; default 120 s (thesis)
	Sleeping   float64       `json:"sleeping"`    // equation 1's sleeping_time, seconds; default 0

	Quantum       float64       `json:"quantum"`         // allocations are multiples of it, CPUs; default 0.01
	DeadZone      float64       `json:"dead_zone"`       // changes up to so many CPUs are not made; default 0.05
	DeadZoneShare float64       `json:"dead_zone_share"` // nor those up to this share of the allocation; default 0.13
	Dwell         time.Duration `json:"dwell"`           // least time between a change and one that is not urgent; default 10 s
	Caution       float64       `json:"caution"`         // a declared duration is multiplied by it until a run was seen; default 1.25
	MinMargin     float64       `json:"min_margin"`      // least share of the time left that is kept as margin; default 0.04
	DoomLooks     int           `json:"doom_looks"`      // looks in a row that give a job up under overload; default 3
}

// WithDefaults returns the parameters with every zero field at its default.
func (p Params) WithDefaults() Params {
	return Params{
		Increment:     orDefault(p.Increment, 0.4),
		Decrement:     orDefault(p.Decrement, 0.4),
		StepPeriod:    orDefault(p.StepPeriod, 120*time.Second),
		Sleeping:      p.Sleeping,
		Quantum:       orDefault(p.Quantum, 0.01),
		DeadZone:      orDefault(p.DeadZone, 0.05),
		DeadZoneShare: orDefault(p.DeadZoneShare, 0.13),
		Dwell:         orDefault(p.Dwell, 10*time.Second),
		Caution:       orDefault(p.Caution, 1.25),
		MinMargin:     orDefault(p.MinMargin, 0.04),
		DoomLooks:     orDefault(p.DoomLooks, 3),
	}
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Validate names every parameter that cannot be used. It expects defaults to be filled in.
func (p Params) Validate() error {
	var errs []error
	within := func(name string, v, low, high float64) {
		if math.IsNaN(v) || v < low || v > high {
			errs = append(errs, fmt.Errorf("%s: must be from %g to %g (got %g)", name, low, high, v))
		}
	}
	within("increment", p.Increment, 0.01, 1024)
	within("decrement", p.Decrement, 0.01, 1024)
	within("sleeping", p.Sleeping, 0, 86400)
	within("quantum", p.Quantum, 0.001, 1)
	within("dead_zone", p.DeadZone, 0, 16)
	within("dead_zone_share", p.DeadZoneShare, 0, 0.5)
	within("caution", p.Caution, 1, 10)
	within("min_margin", p.MinMargin, 0, 0.5)
	within("doom_looks", float64(p.DoomLooks), 1, 1000)
	if p.StepPeriod < 0 {
		errs = append(errs, fmt.Errorf("step_period: must not be negative (got %v)", p.StepPeriod))
	}
	if p.Dwell < 0 {
		errs = append(errs, fmt.Errorf("dwell: must not be negative (got %v)", p.Dwell))
	}
	return errors.Join(errs...)
}

// NewPolicy returns the policy of that name ("": deadline). On a node where a job's QoS.Policy names another one, that one decides
// for that job, and this one for the rest with the CPUs that are left.
func NewPolicy(name string, p Params) (Policy, error) {
	name = orDefault(name, PolicyDeadline)
	if !slices.Contains(PolicyNames(), name) {
		return nil, fmt.Errorf("policy %q is not known: use one of %v", name, PolicyNames())
	}
	p = p.WithDefaults()
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("parameters of policy %s: %w", name, err)
	}
	return &chooser{name: name, params: p}, nil
}

// chooser hands each job to its policy.
type chooser struct {
	name   string
	params Params
}

// Name is the name of the policy for jobs that do not choose one.
func (c *chooser) Name() string { return c.name }

// Decide decides with the simplest policies first: what they leave their jobs is sold, as far as the others are concerned.
func (c *chooser) Decide(n NodeView) []Decision {
	decisions := make([]Decision, len(n.Jobs))
	rest := n
	all := make([]int, 0, len(n.Jobs))
	for _, p := range []Policy{nonePolicy{c.params}, stepPolicy{c.params, false}, stepPolicy{c.params, true}, deadlinePolicy{c.params}} {
		at := all[:0]
		// Whoever decides later keeps at least its request, and until told otherwise what it has.
		later := 0.0
		for i, j := range n.Jobs {
			switch name := c.policyOf(j); {
			case name == p.Name():
				at = append(at, i)
			case decisions[i].Policy == "":
				later += j.Request
			}
		}
		if len(at) == 0 {
			continue
		}
		if rest.Jobs = n.Jobs; len(at) < len(n.Jobs) {
			rest.Jobs = make([]JobView, len(at))
			for k, i := range at {
				rest.Jobs[k] = n.Jobs[i]
			}
		}
		rest.Sold += later
		for k, d := range p.Decide(rest) {
			decisions[at[k]] = d
			rest.Sold += max(d.To, n.Jobs[at[k]].Request)
		}
		rest.Sold -= later
	}
	return decisions
}

// policyOf is the name of the policy that decides for a job; one that is not known falls back to the node's.
func (c *chooser) policyOf(j JobView) string {
	if slices.Contains(PolicyNames(), j.QoS.Policy) {
		return j.QoS.Policy
	}
	return c.name
}
