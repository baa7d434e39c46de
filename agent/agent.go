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
	"golang.org/x/time/rate"

	"qosctl/agent/doctor"
	"qosctl/ckpt"
	"qosctl/qos"
)

// GCPercent is how much an agent's heap may grow between two collections: with a thousand jobs Go's own 100 would cost fifteen megabytes more.
// They make a megabyte of garbage a second, so that it is collected every four seconds (make bench).
const GCPercent = 25

// Options are what an agent is made of.
type Options struct {
	Config  Config
	Version string
	Logger  *slog.Logger // nil: nothing is logged
	Ready   func()       // called once, when the agent answers; nil: nobody is told
	File    string       // that Config was read from, for the doctor; "": not known

	Credentials string // systemd's directory of credentials; "": none

	engines func(Config, string, *slog.Logger) (engines, error) // nil: openEngines; in tests of whole clusters, one in memory
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
	cluster  *cluster      // nil: this agent is alone
	keysMu   sync.Mutex    // held while the cluster's keys change
	rate     *rate.Limiter // of checkpoints that are sent and fetched; nil: none
	moveCost float64       // seconds

	master     operator // of Mesos; nil: none is configured
	masterPoll time.Duration
	jobs       *jobs
	engines    engines
	mesos      *mesosNode // nil: none is configured
	monasca    *feed      // likewise
	ports      map[qos.Framework]port
	policies   map[string]qos.Policy
	metrics    *metrics
	load       *nodeLoad
	tokens     tokens
	front      *front          // nil: the network address speaks HTTP without TLS
	file       string          // of the configuration
	examiner   doctor.Examiner // looks that the kernel does not give back are not waited for
	examining  chan struct{}   // a place for the one examination
	models     models
	room       atomic.Pointer[qos.Room] // at the last look; nil: there was none

	kickControl, kickSteward, kickLook chan struct{}
	kickMesos                          chan struct{}
	launches                           launches      // that the thesis' launcher has announced
	historiesKept                      time.Time     // by the sampling loop alone
	viewers                            chan struct{} // a place for each stream of events
	strangeViewers                     chan struct{} // likewise, for those of strangers
	frameMu                            sync.Mutex    // held while a frame is made
	frame                              *frame        // what viewers of the cluster saw last
	snapshot                           atomic.Pointer[snapshot]
	settled                            atomic.Bool          // recovery is over
	full                               atomic.Bool          // the store could not be written
	blind                              atomic.Bool          // an engine could not list its containers
	tested                             chan struct{}        // closed when it is known whether this node can checkpoint
	recovered                          chan struct{}        // closed when finished is known
	finished                           []ckpt.Manifest      // checkpoints that an agent before this one took and did not note
	late                               map[string]*late     // by job, where that is not known yet; it changes no more when recovered is closed
	unsealable                         sync.Map             // ckpt.Ref of checkpoints whose seal was given up: no peer waits for them
	asides                             asideTurns           // containers that are put aside, or taken back by their job
	unasked                            map[string]time.Time // jobs that nobody knows of whom checkpoints are here, and since when; by the loop of orphans alone

	background sync.WaitGroup
	ended      *endings
	spawn      func(func(context.Context))                  // set by Run: starts what Run waits for
	listen     func(ctx context.Context) ([]*server, error) // sockets and the TCP address; in virtual time there are none
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
	cfg, err := cfg.withCredentials(o.Credentials)
	if err != nil {
		return nil, err
	}
	a := &Agent{
		cfg: cfg, version: o.Version, log: o.Logger.With("pkg", "agent"), ready: o.Ready, node: cfg.Node, started: time.Now(),
		file: o.File, examining: make(chan struct{}, 1),
		jobs: &jobs{byID: map[string]*job{}}, viewers: make(chan struct{}, maxViewers), strangeViewers: make(chan struct{}, maxStrange), kickControl: make(chan struct{}, 1), kickSteward: make(chan struct{}, 1), kickLook: make(chan struct{}, 1), kickMesos: make(chan struct{}, 1), launches: launches{}, ended: newEndings(),
		tested: make(chan struct{}), recovered: make(chan struct{}), rate: ckpt.NewRate(int64(cfg.Checkpoint.RateMB) * 1e6), moveCost: moveCost, masterPoll: masterEvery,
	}
	a.listen = a.listenAll
	if o.engines == nil {
		o.engines = openEngines
	}
	if err := a.open(o); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

func (a *Agent) open(o Options) (err error) {
	log := o.Logger
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
	if a.engines, err = o.engines(a.cfg, a.node, log); err != nil {
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
	a.metrics = newMetrics(a)
	if a.ports, a.poll, err = openPorts(a.cfg, a.metrics, log); err != nil {
		return err
	}
	if a.mesos, err = openMesos(a.cfg, a.engines, a.metrics, log); err != nil {
		return err
	}
	if a.master, err = openMaster(a.cfg.Mesos, a.metrics, log); err != nil {
		return fmt.Errorf("mesos.master: %w", err)
	}
	if a.tokens, err = openTokens(a.cfg); err != nil {
		return err
	}
	if a.front, err = openFront(a.cfg.TLS, log); err != nil {
		return err
	}
	a.metrics.registry.MustRegister(newExpiry(a.certificateEnds))
	if a.monasca, err = openMonasca(a.cfg, a.node, a.metrics.registry, log); err != nil {
		return err
	}
	if err = a.openJobs(); err != nil {
		return err
	}
	return a.openCluster(log)
}

// openJobs opens the store, and takes the jobs in it up.
func (a *Agent) openJobs() error {
	st, rows, err := openStore(a.cfg.DataDir, a.log)
	if err != nil {
		return err
	}
	a.store = st
	for _, r := range rows {
		j := newJob(r)
		a.recallHistory(j)
		a.jobs.add(j)
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
	a.rejoin()
	for _, s := range servers {
		g.Go(func() error { return s.run(inner2) })
	}
	for _, loop := range []func(context.Context) error{
		a.endingsLoop, a.sampleLoop, a.controlLoop, a.stewardLoop, a.watchFrameworks, a.mesosLoop, a.orphanLoop, a.clusterLoop, a.meshLoop, a.masterLoop, a.monascaLoop,
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
	a.keepHistories(time.Now(), true)
	a.keepModels(time.Now(), true)
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
	if a.cluster != nil && a.cluster.mesh != nil {
		errs = append(errs, a.cluster.mesh.Close()) // if it was never run
	}
	if a.cluster != nil && a.cluster.fence != nil {
		errs = append(errs, a.cluster.fence.Close())
	}
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
	j.chronicle(time.Now())
	changed := j.number(a.node)
	j.row.version++
	err := a.store.put(j.row)
	j.dirty = err != nil
	a.stored(err)
	j.untold = j.untold || changed
	if j.untold && err == nil {
		a.tell(j)
	}
	return err
}

// tell shares what has been numbered. The caller holds j.mu.
func (a *Agent) tell(j *job) {
	j.untold = false
	a.share(j)
}

// saveAll persists jobs in one transaction.
func (a *Agent) saveAll(list []*job) {
	if len(list) == 0 {
		return
	}
	rows := newBatch(len(list))
	defer rows.free()
	var errs []error
	for _, j := range list {
		j.mu.Lock()
		if !j.gone {
			if j.number(a.node) || j.untold {
				a.tell(j)
			}
			j.row.version++
			errs = append(errs, rows.add(&j.row))
		}
		j.dirty = false
		j.mu.Unlock()
	}
	err := errors.Join(append(errs, a.store.write(rows))...)
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
