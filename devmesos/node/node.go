package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Errors of Launch that frameworks branch on.
var (
	// ErrNoResources says that the offer was smaller than the task by the time it was taken.
	ErrNoResources = errors.New("not enough resources")
	// ErrStopped says that the node shuts down.
	ErrStopped = errors.New("node stops")
	// ErrDraining says that the task came while the agent was draining already.
	ErrDraining = errors.New("task was received while agent was already draining")
)

// Options set a node up.
type Options struct {
	Hostname   string
	Attributes map[string]string
	CPUs       float64
	MemMiB     float64
	DiskMiB    float64
	FirstPort  int // of a range of 1,000 that is offered
	Deploy     time.Duration
	Dir        string // sandboxes and marks of running tasks
	CgroupRoot string // "/sys/fs/cgroup"
	Proc       string // "/proc"
	Parent     string // cgroup under which the tasks' stand: "/mesos"
	Images     map[string]string
	Docker     bool // tasks of type DOCKER are run by docker run, as by Mesos' Docker containerizer
	Logger     *slog.Logger

	// ID of the agent; "": a new one.
	ID string
	// Address is the host:port at which Handler is served; "": 127.0.0.1:5051.
	Address string
	// ExecutorEnv is what the agent gives every executor and so every task (--executor_environment_variables); a framework's variable of
	// the same name wins.
	ExecutorEnv map[string]string
}

func (o Options) validate() error {
	var errs []error
	bad := func(cond bool, format string, args ...any) {
		if cond {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(o.Hostname == "", "hostname: must not be empty")
	bad(!(o.CPUs > 0) || math.IsInf(o.CPUs, 0), "cpus: must be > 0 (got %g)", o.CPUs)
	bad(!(o.MemMiB > 0) || math.IsInf(o.MemMiB, 0), "mem: must be > 0 (got %g)", o.MemMiB)
	bad(o.Dir == "", "dir: must not be empty")
	bad(o.Deploy < 0, "deploy: must be >= 0 (got %s)", o.Deploy)
	bad(!filepath.IsAbs(o.Parent) || filepath.Clean(o.Parent) == "/", "cgroup parent: must be an absolute path below the root (got %q)", o.Parent)
	for image, dir := range o.Images {
		bad(!filepath.IsAbs(dir), "images: %s: directory must be absolute (got %q)", image, dir)
	}
	if o.Docker {
		errs = append(errs, checkDocker())
	}
	return errors.Join(errs...)
}

// Node is the Mesos agent.
type Node struct {
	o      Options
	log    *slog.Logger
	id     string
	start  time.Time
	groups groups
	stop   chan struct{} // closed when the node shuts down
	wg     sync.WaitGroup

	mu         sync.Mutex
	stopped    bool
	frameworks map[string]*framework
	tasks      map[string]*task
	completed  []*task // newest last, at most maxCompleted
	ports      map[int]bool
	outbox     []Update // for the master, not yet acknowledged
	changed    chan struct{}
	drain      *DrainConfig
	drainStart time.Time
}

type framework struct {
	ID, Name string
	status   func(Status)
	offer    func()
}

const maxCompleted = 200

// New prepares a node and ends whatever tasks a former life of it has left running.
func New(o Options) (*Node, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.ID == "" {
		o.ID = NewUUID() + "-S0"
	}
	if o.Address == "" {
		o.Address = "127.0.0.1:5051"
	}
	n := &Node{
		o: o, log: o.Logger, id: o.ID, start: time.Now(), stop: make(chan struct{}), changed: make(chan struct{}, 1),
		frameworks: map[string]*framework{}, tasks: map[string]*task{}, ports: map[int]bool{},
	}
	for _, d := range []string{n.sandboxes(), n.marks()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("make directory of the node: %w", err)
		}
	}
	groups, err := openGroups(o, n.log)
	if err != nil {
		return nil, err
	}
	n.groups = groups
	return n, n.recover()
}

func (n *Node) sandboxes() string { return filepath.Join(n.o.Dir, "sandboxes") }
func (n *Node) marks() string     { return filepath.Join(n.o.Dir, "running") }

// Register makes a framework known. Status is called for each of its tasks' updates, in order for one task; offer, when
// resources became free. Both are called with no lock of the node held, and must not block for long.
func (n *Node) Register(name string, status func(Status), offer func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.frameworks[name] = &framework{ID: NewUUID() + fmt.Sprintf("-%04d", len(n.frameworks)), Name: name, status: status, offer: offer}
}

// framework finds one, or makes one that hears of its tasks by way of the master. n.mu is held.
func (n *Node) framework(name, id string) *framework {
	f := n.frameworks[name]
	if f == nil && id != "" {
		f = &framework{ID: id, Name: name}
		n.frameworks[name] = f
	}
	return f
}

// FrameworkID is the ID that a registered framework has in the agent's state.
func (n *Node) FrameworkID(name string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f := n.frameworks[name]; f != nil {
		return f.ID
	}
	return ""
}

// Offer says what is free.
func (n *Node) Offer() Offer {
	n.mu.Lock()
	defer n.mu.Unlock()
	o := Offer{
		Hostname: n.o.Hostname, AgentID: n.id, CPUs: n.o.CPUs, MemMiB: n.o.MemMiB, DiskMiB: n.o.DiskMiB,
		Attributes: maps.Clone(n.o.Attributes),
	}
	for _, t := range n.tasks {
		if !t.last().Terminal() {
			o.CPUs -= t.CPUs
			o.MemMiB -= t.MemMiB
			o.DiskMiB -= t.DiskMiB
		}
	}
	for p := n.o.FirstPort; p < n.o.FirstPort+1000 && len(o.Ports) < 100; p++ {
		if !n.ports[p] {
			o.Ports = append(o.Ports, p)
		}
	}
	return o
}

// epsilon is what sums of scalar resources may be off: Mesos counts in thousandths.
const epsilon = 0.0005

// Launch books the resources of a task and starts it after the latency of deployment. It returns at once.
func (n *Node) Launch(t Task) error {
	free := n.Offer()
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.stopped:
		return ErrStopped
	case n.drain != nil:
		return fmt.Errorf("launch %s: %w", t.ID, ErrDraining)
	case n.framework(t.Framework, t.FrameworkID) == nil:
		return fmt.Errorf("launch %s: framework %q is not registered", t.ID, t.Framework)
	case n.tasks[t.ID] != nil:
		return fmt.Errorf("launch %s: task exists", t.ID)
	case t.CPUs > free.CPUs+epsilon || t.MemMiB > free.MemMiB+epsilon || t.DiskMiB > free.DiskMiB+epsilon:
		return fmt.Errorf("launch %s: %w", t.ID, ErrNoResources)
	}
	for _, p := range t.Ports {
		if n.ports[p] {
			return fmt.Errorf("launch %s: port %d: %w", t.ID, p, ErrNoResources)
		}
	}
	for _, p := range t.Ports {
		n.ports[p] = true
	}
	id := NewUUID()
	r := &task{
		Task: t, container: id, sandbox: filepath.Join(n.sandboxes(), id),
		kill: make(chan struct{}, 1), lost: make(chan struct{}, 1),
	}
	r.note(Status{TaskID: t.ID, State: Staging, At: time.Now()})
	n.tasks[t.ID] = r
	n.wg.Go(func() { n.run(r) })
	return nil
}

// Kill asks for the end of a task. A repeated kill changes nothing; one for a task that the node does not know is answered
// TASK_LOST, as reconciliation would.
func (n *Node) Kill(framework, id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t, f := n.tasks[id], n.frameworks[framework]
	switch {
	case t != nil && t.Framework == framework:
		poke(t.kill)
	case f == nil, n.stopped, slices.ContainsFunc(n.completed, func(t *task) bool { return t.ID == id }):
		// the last update of a task that has just ended is on its way
	default:
		st := Status{TaskID: id, State: Lost, Message: "Reconciliation: Task is unknown to the agent", At: time.Now()}
		if f.status == nil {
			n.post(framework, st)
			return
		}
		n.wg.Go(func() { f.status(st) })
	}
}

// poke puts a token into a channel of one place.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// ErrNoTask says that no task that has not ended goes by an ID.
var ErrNoTask = errors.New("no such task")

// Lose makes a task disappear at once, as if its agent had been lost for good: its processes are killed, the framework hears
// TASK_GONE (marathon) or TASK_LOST (chronos, which declares no capability for partitions).
func (n *Node) Lose(id string) error {
	n.mu.Lock()
	t := n.tasks[id]
	n.mu.Unlock()
	if t == nil {
		return fmt.Errorf("lose %s: %w", id, ErrNoTask)
	}
	poke(t.lost)
	return nil
}

// partition turns a partition's state into what a framework without the capability gets.
func (n *Node) partition(framework string, s State) State {
	if framework == "chronos" {
		return Lost
	}
	return s
}

// Run waits for ctx to end, then ends all tasks (5 s of grace, as an executor's shutdown), and returns when they are gone.
func (n *Node) Run(ctx context.Context) error {
	<-ctx.Done()
	n.mu.Lock()
	n.stopped = true
	n.mu.Unlock()
	close(n.stop)
	n.wg.Wait()
	n.groups.close()
	return n.clearDocker(0) //nolint:contextcheck // ctx has ended
}

// report notes a status and passes it to the framework.
func (n *Node) report(t *task, s State, message string) {
	n.mu.Lock()
	if n.drain != nil && n.drain.MarkGone && s == Killed && t.Framework != "chronos" { // which declares no capability for it
		s = GoneByOperator
	}
	st := Status{TaskID: t.ID, State: s, Message: message, At: time.Now()}
	t.note(st)
	if s.Terminal() {
		for _, p := range t.Ports {
			delete(n.ports, p)
		}
		n.forget(t)
	}
	f := n.frameworks[t.Framework]
	if f.status == nil {
		n.post(t.Framework, st)
	}
	var others []func()
	if s.Terminal() {
		for _, f := range n.frameworks {
			if f.offer != nil {
				others = append(others, f.offer)
			}
		}
	}
	n.mu.Unlock()
	n.log.Info("task status", "task", t.ID, "state", string(s), "message", message, "container", t.container)
	if f.status != nil {
		f.status(st)
	}
	for _, offer := range others {
		offer()
	}
}

// forget moves an ended task to the completed ones.
func (n *Node) forget(t *task) {
	delete(n.tasks, t.ID)
	if len(n.tasks) == 0 {
		n.drain = nil // drained; the master remembers
	}
	n.completed = append(n.completed, t)
	if len(n.completed) > maxCompleted {
		n.completed = slices.Delete(n.completed, 0, len(n.completed)-maxCompleted)
	}
}
