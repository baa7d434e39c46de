package sim

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"qosctl/qos"
)

// Oracle is the policy deadline, told the true durations.
const Oracle = "oracle"

// Policies are those that a simulation can compare.
func Policies() []string { return append(qos.PolicyNames(), Oracle) }

// Options says what is simulated.
type Options struct {
	Policies []string   // default: deadline
	Seeds    int        // default: 1
	Seed     uint64     // the first one
	Stride   uint64     // from one seed to the next; default 1
	Params   qos.Params //
	Workers  int        // default: one for each CPU
	Done     func()     // called after each run of a seed under a policy, by several goroutines; nil: nobody is told
}

// Run is what became of one seed under one policy.
type Run struct {
	Policy string
	Seed   uint64
	Jobs   []Outcome
}

// Simulate runs every policy on every seed, and returns the runs policy by policy. All policies see the same jobs.
func Simulate(ctx context.Context, s *Scenario, o Options) ([]Run, error) {
	def(&o.Seeds, 1)
	def(&o.Stride, 1)
	def(&o.Workers, runtime.GOMAXPROCS(0))
	if len(o.Policies) == 0 {
		o.Policies = []string{qos.PolicyDeadline}
	}
	if o.Seeds < 1 || o.Seeds > 1_000_000 {
		return nil, fmt.Errorf("seeds: must be from 1 to 1000000 (got %d)", o.Seeds)
	}
	for i, name := range o.Policies {
		if slices.Contains(o.Policies[:i], name) {
			return nil, fmt.Errorf("policy %s is given twice", name)
		}
		if _, err := s.contender(name, o.Params); err != nil {
			return nil, err
		}
	}
	runs := make([]Run, len(o.Policies)*o.Seeds)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(o.Workers)
	for i := range o.Seeds {
		group.Go(func() error {
			seed := o.Seed + uint64(i)*o.Stride
			for p, name := range o.Policies {
				jobs, err := s.seed(ctx, name, o.Params, seed, nil)
				if err != nil {
					return err
				}
				runs[p*o.Seeds+i] = Run{name, seed, jobs}
				if o.Done != nil {
					o.Done()
				}
			}
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("simulate %s: %w", s.Name, err)
	}
	return runs, nil
}

// seed simulates one seed under one policy.
func (s *Scenario) seed(ctx context.Context, policy string, p qos.Params, seed uint64, t *Trace) ([]Outcome, error) {
	c, err := s.contender(policy, p)
	if err != nil {
		return nil, err
	}
	k := newCluster(s, c, seed, s.draw(seed))
	k.trace = t
	out, err := k.simulate(ctx)
	if err != nil {
		return nil, err
	}
	for i, task := range s.draw(seed) {
		if out[i].Feasible, err = s.feasible(ctx, seed, task); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// feasible says whether a job meets its deadline alone on a node, with the most CPUs that it may have from the moment it starts.
func (s *Scenario) feasible(ctx context.Context, seed uint64, t *task) (bool, error) {
	alone := *s
	alone.Nodes.Count, alone.Background, alone.Period = 1, Background{}, 3600
	none, err := qos.NewPolicy(qos.PolicyNone, qos.Params{})
	if err != nil {
		return false, errors.Join(errors.New("policy none is gone"), err)
	}
	t.spec.CPUs = t.spec.QoS.MaxCPUs
	alone.Horizon = Span(t.deadline + 1)
	out, err := newCluster(&alone, contender{name: "alone", policy: none, most: true}, seed, []*task{t}).simulate(ctx)
	if err != nil {
		return false, err
	}
	return out[0].Met, nil
}

// contender makes the policy of that name ready to take part.
func (s *Scenario) contender(name string, p qos.Params) (contender, error) {
	if !slices.Contains(Policies(), name) {
		return contender{}, fmt.Errorf("policy %q is not known: use some of %v", name, Policies())
	}
	c := contender{name: name}
	of := name
	if name == Oracle {
		of, c.truth = qos.PolicyDeadline, true
	}
	var err error
	if c.policy, err = qos.NewPolicy(of, p); err != nil {
		return contender{}, err
	}
	c.hints = of == qos.PolicyDeadline && s.Placement == "hints"
	stepping := name == qos.PolicyStep || name == qos.PolicyStepCode
	c.boundary = s.Resize == "reschedule" || s.Resize == "auto" && stepping
	return c, nil
}
