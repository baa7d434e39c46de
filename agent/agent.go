package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"qosctl/ckpt"
	"qosctl/qos"
)

// Options are what an agent is made of.
type Options struct {
	Config  Config
	Version string
	Logger  *slog.Logger // nil: nothing is logged
	Ready   func()       // called once, when the agent answers; nil: nobody is told
}

// Agent owns the jobs of its node.
type Agent struct {
	cfg     Config
	version string
	log     *slog.Logger
	ready   func()
	node    string
	cpus    float64 // that jobs may have, the reserve not taken off
	poll    time.Duration
	started time.Time

	store    *store
	jobs     *jobs
	engines  engines
	mesos    *mesosNode // nil: none is configured
	ports    map[qos.Framework]port
	policies map[string]qos.Policy
	metrics  *metrics
	load     *nodeLoad
	token    string

	kickControl, kickSteward, kickLook chan struct{}
	snapshot                           atomic.Pointer[snapshot]
	settled                            atomic.Bool     // recovery is over
	full                               atomic.Bool     // the store could not be written
	blind                              atomic.Bool     // an engine could not list its containers
	tested                             chan struct{}   // closed when it is known whether this node can checkpoint
	recovered                          chan struct{}   // closed when finished is known
	finished                           []ckpt.Manifest // checkpoints that an agent before this one took and did not note

	background sync.WaitGroup
	spawn      func(func(context.Context)) // set by Run: starts what Run waits for
}

// New opens the store and the engines. It starts nothing.
func New(o Options) (*Agent, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	cfg := o.Config
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	a := &Agent{
		cfg: cfg, version: o.Version, log: o.Logger.With("pkg", "agent"), ready: o.Ready, node: cfg.Node, started: time.Now(),
		jobs: &jobs{byID: map[string]*job{}}, kickControl: make(chan struct{}, 1), kickSteward: make(chan struct{}, 1), kickLook: make(chan struct{}, 1),
		tested: make(chan struct{}), recovered: make(chan struct{}),
	}
	if err := a.open(o.Logger); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

func (a *Agent) open(log *slog.Logger) (err error) {
	if a.node == "" {
		if a.node, err = os.Hostname(); err != nil {
			return fmt.Errorf("node: %w", err)
		}
	}
	for _, dir := range []string{a.cfg.DataDir, a.cfg.RunDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make the agent's directories: %w", err)
		}
	}
	if a.engines, err = openEngines(a.cfg, a.node, log); err != nil {
		return err
	}
	if h, ok := a.engines.process.(interface{ Hold() error }); ok {
		if err := h.Hold(); err != nil {
			return err
		}
	}
	a.cpus = a.cfg.Control.CPUs
	if a.cpus == 0 {
		a.cpus = a.engines.cgroups.CPUs()
	}
	if a.load, err = newNodeLoad(a.cfg.Cgroup.Proc); err != nil {
		return err
	}
	if a.policies, err = newPolicies(a.cfg.Control); err != nil {
		return err
	}
	if a.ports, a.poll, err = openPorts(a.cfg, log); err != nil {
		return err
	}
	if a.mesos, err = openMesos(a.cfg, a.engines, log); err != nil {
		return err
	}
	if a.token, err = readToken(a.cfg.TokenFile); err != nil {
		return err
	}
	a.metrics = newMetrics(a)
	var rows []row
	if a.store, rows, err = openStore(a.cfg.DataDir, a.log); err != nil {
		return err
	}
	for _, r := range rows {
		a.jobs.add(newJob(r))
	}
	return nil
}

func newPolicies(c ControlConfig) (map[string]qos.Policy, error) {
	m := map[string]qos.Policy{}
	for _, name := range qos.PolicyNames() {
		p, err := qos.NewPolicy(name, qos.Params{
			Increment: c.Increment, Decrement: c.Decrement, Dwell: c.Dwell, StepPeriod: c.StepPeriod,
			Sleeping: c.SleepingTime.Seconds(),
		})
		if err != nil {
			return nil, fmt.Errorf("policy %s: %w", name, err)
		}
		m[name] = p
	}
	return m, nil
}

// Run serves until ctx ends, and returns when all that it started has ended. Jobs run on: the next agent finds them.
func (a *Agent) Run(ctx context.Context) error {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	a.spawn = func(f func(context.Context)) { a.background.Go(func() { f(inner) }) }
	servers, err := a.listen(inner)
	if err != nil {
		return errors.Join(err, a.close())
	}
	g, inner2 := errgroup.WithContext(inner)
	a.publish(time.Now())
	a.spawn(a.recoverCheckpoints)
	a.recover() // who calls meanwhile waits in the listeners' queues: nobody sees a job that runs without its container
	a.settled.Store(true)
	for _, s := range servers {
		g.Go(func() error { return s.run(inner2) })
	}
	for _, loop := range []func(context.Context) error{
		a.sampleLoop, a.controlLoop, a.stewardLoop, a.watchFrameworks, a.mesosLoop, a.orphanLoop,
	} {
		g.Go(func() error { return loop(inner2) })
	}
	a.log.Info("agent ready", "node", a.node, "cpus", a.cpus, "mode", a.cfg.Control.Mode, "policy", a.cfg.Control.Policy, "cgroup", a.engines.cgroups.Mode(), "jobs", len(a.jobs.all()))
	if a.ready != nil {
		a.ready()
	}
	err = g.Wait()
	cancel()
	a.background.Wait()
	a.saveAll(a.jobs.all())
	return errors.Join(err, a.close())
}

func (a *Agent) close() error {
	for _, j := range a.jobs.all() {
		j.mu.Lock()
		defer j.mu.Unlock()
		if j.live != nil && j.live.reader != nil {
			_ = j.live.reader.Close() // read only: nothing to lose
		}
	}
	errs := []error{a.engines.close()}
	if a.store != nil {
		errs = append(errs, a.store.close())
	}
	return errors.Join(errs...)
}

var errGone = errors.New("the job is gone")

// save persists a job and tells who waits for it. The caller holds j.mu. A row that could not be written is written by a later sweep.
func (a *Agent) save(j *job) error {
	j.touch()
	if j.gone {
		return errGone
	}
	j.row.version++
	err := a.store.put(j.row)
	j.dirty = err != nil
	a.stored(err)
	return err
}

// saveAll persists jobs in one transaction.
func (a *Agent) saveAll(list []*job) {
	if len(list) == 0 {
		return
	}
	rows := make([]row, 0, len(list))
	for _, j := range list {
		j.mu.Lock()
		if !j.gone {
			j.row.version++
			rows = append(rows, j.row.clone())
		}
		j.dirty = false
		j.mu.Unlock()
	}
	err := a.store.put(rows...)
	a.stored(err)
	if err != nil {
		for _, j := range list {
			j.mu.Lock()
			j.dirty = true
			j.mu.Unlock()
		}
	}
}

// stored says once that the store can't be written, and once that it can again.
func (a *Agent) stored(err error) {
	if (err != nil) == a.full.Swap(err != nil) {
		return
	}
	if err != nil {
		a.log.Error("the store can't be written; jobs run on, and it is tried again", "err", err)
		return
	}
	a.log.Info("the store can be written again")
}
