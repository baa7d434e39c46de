// Package mesos is the engine of containers that Mesos itself made: it finds, resizes and watches them, and starts and ends none.
//
// What runs is the Mesos agent's word (its /state); where it runs is the cgroup that Mesos' containerizer makes, ROOT/CONTAINER_ID in
// every hierarchy, or that of the container mesos-CONTAINER_ID, which its Docker containerizer made. A container's id here is Mesos'
// ContainerID, which is a new one for each launch. One that runs in neither is seen and not more: it can be neither read nor resized.
package mesos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"qosctl/cgroup"
	"qosctl/container"
)

// Labels that every container of this engine has beside those of its task. TaskLabel is the one that our own containers have too.
const (
	TaskLabel      = "qosctl.task"
	NameLabel      = "mesos.task.name"
	FrameworkLabel = "mesos.framework"
)

// Task is what the Mesos agent's state says of a task and its executor. Source: facts of GET /slave(1)/state.
type Task struct {
	ID            string            // of the task
	ContainerID   string            // executor's "container"; "": not known yet
	State         string            // TASK_RUNNING, …
	Labels        map[string]string // of the task
	Name          string            // of the task
	FrameworkName string            // marathon, chronos
	CPUs          float64           // of the task's resources
	Started       time.Time         // first TASK_RUNNING status; zero: not known

	// Holds are names that a container in Docker may have which the task's own program makes: it is what counts then, and is read and resized in
	// the task's place. It ends with the task, not before: its program may yet start it again.
	Holds []string
}

// Source lists the tasks that the node's Mesos agent has, those that have ended as long as it remembers them.
type Source interface {
	Tasks(ctx context.Context) ([]Task, error)
}

// Options sets an engine up.
type Options struct {
	Source  Source
	Cgroups *cgroup.FS
	Root    string        // cgroup that Mesos' containers stand below, its --cgroups_root; "": mesos
	Docker  Docker        // nil: containers of Mesos' Docker containerizer are not looked for
	Poll    time.Duration // between two looks of Wait and Events; 0: 1 s
	Logger  *slog.Logger  // nil: nothing is logged
}

// Engine implements container.Engine; what only a maker of containers can do is container.ErrNotSupported.
type Engine struct {
	o   Options
	log *slog.Logger
	wg  sync.WaitGroup // event streams

	mu     sync.Mutex
	limits map[string]*cgroup.Limits // kept open, by container
	docker map[string]inDocker       // by container
	usage  map[string]reading        // the last seen, by container: a cgroup takes its counter with it
}

// reading is the last of a container's counter.
type reading struct {
	cpu  time.Duration
	at   time.Time
	seen bool // false: the container was never seen alive, at is when its end was first seen
}

var _ container.Engine = (*Engine)(nil)

// New makes an engine of what o.Source sees.
func New(o Options) (*Engine, error) {
	if o.Source == nil || o.Cgroups == nil {
		return nil, errors.New("mesos engine: a source of tasks and the host's cgroups are needed")
	}
	o.Root = strings.Trim(o.Root, "/")
	if o.Root == "" {
		o.Root = "mesos"
	}
	if o.Poll <= 0 {
		o.Poll = time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Engine{o: o, log: o.Logger.With("pkg", "container/mesos"), limits: map[string]*cgroup.Limits{}, docker: map[string]inDocker{}, usage: map[string]reading{}}, nil
}

// Name is "mesos".
func (*Engine) Name() string { return "mesos" }

// Close waits for event streams, whose contexts must have ended, and closes files.
func (e *Engine) Close() error {
	e.wg.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, l := range e.limits {
		errs = append(errs, l.Close())
	}
	clear(e.limits)
	return errors.Join(errs...)
}

func (e *Engine) group(id string) cgroup.Group {
	p := path.Join("/", e.o.Root, id)
	return cgroup.Group{CPU: p, CPUAcct: p}
}

// List describes the containers of all tasks that the Mesos agent knows, in order of their ids.
func (e *Engine) List(ctx context.Context) ([]container.Info, error) {
	tasks, err := e.o.Source.Tasks(ctx)
	if err != nil {
		return nil, fmt.Errorf("list mesos containers: %w", err)
	}
	var infos []container.Info
	for _, t := range tasks {
		if t.ContainerID != "" && !strings.Contains(t.ContainerID, "/") {
			infos = append(infos, e.info(ctx, t))
		}
	}
	e.prune(infos)
	slices.SortFunc(infos, func(a, b container.Info) int { return strings.Compare(a.ID, b.ID) })
	// A task group shares one container; it is listed once.
	return slices.CompactFunc(infos, func(a, b container.Info) bool { return a.ID == b.ID }), nil
}

// Inspect describes the container of a task that the Mesos agent knows.
func (e *Engine) Inspect(ctx context.Context, id string) (container.Info, error) {
	infos, err := e.List(ctx)
	if err != nil {
		return container.Info{}, err
	}
	for _, i := range infos {
		if i.ID == id && id != "" {
			return i, nil
		}
	}
	e.forget(id)
	return container.Info{}, fmt.Errorf("mesos container %q: %w: the Mesos agent has no such", id, container.ErrNotFound)
}

// info joins what the Mesos agent says with what the kernel has.
func (e *Engine) info(ctx context.Context, t Task) container.Info {
	labels := map[string]string{}
	maps.Copy(labels, t.Labels)
	labels[TaskLabel], labels[NameLabel], labels[FrameworkLabel] = t.ID, t.Name, t.FrameworkName
	i := container.Info{ID: t.ContainerID, Labels: labels, Started: t.Started, Limits: container.Limits{CPUs: t.CPUs, Shares: t.CPUs}}
	g, there := e.group(i.ID), false
	holds := len(t.Holds) > 0 && e.o.Docker != nil
	if !holds {
		there = e.read(i.ID, g, &i)
	}
	if !there {
		g, there = e.readDocker(ctx, t, &i)
	}
	switch {
	case ended(t.State):
		i.State, i.Exit = container.Exited, e.exit(ctx, t)
	case there:
		i.State, i.Cgroup = container.Running, g
	case holds && t.State == "TASK_RUNNING": // not made yet, or ended and its program about to end
		i.State = container.Running
	case e.seen(i.ID), e.endedInDocker(i.ID): // the cgroup went before the agent noticed
		i.State, i.Exit = container.Exited, e.exit(ctx, t)
	case t.State == "TASK_RUNNING": // in a cgroup that is not of Mesos' making, or that we came too late to see: Mesos' word is all we know
		i.State = container.Running
	default:
		i.State = container.Created
	}
	if i.State == container.Exited {
		e.closeLimits(i.ID)
	}
	return i
}

// read takes limits and counter from the kernel; false: the cgroup is not there. One that can't be read is there.
func (e *Engine) read(id string, g cgroup.Group, i *container.Info) bool {
	r, err := e.o.Cgroups.OpenReader(g)
	if err != nil {
		if !errors.Is(err, cgroup.ErrGone) {
			e.log.Warn("read a counter", "container", id, "err", err)
			return true
		}
		return false
	}
	defer r.Close() //nolint:errcheck // nothing was written
	if u, err := r.Usage(); err == nil {
		e.mu.Lock()
		e.usage[id] = reading{u, time.Now(), true}
		e.mu.Unlock()
	}
	if pids, err := e.o.Cgroups.Procs(g.CPU); err == nil && len(pids) > 0 {
		i.PID = pids[0]
	}
	l, err := e.open(id, g)
	if err == nil {
		if i.Limits.CPUs, err = l.CPUs(); err == nil {
			i.Limits.Shares, err = l.Shares()
		}
	}
	if err != nil && !errors.Is(err, cgroup.ErrGone) {
		e.log.Warn("read limits", "container", id, "err", err)
	}
	return true
}

// seen reports whether the container was ever seen in a cgroup.
func (e *Engine) seen(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.usage[id].seen
}

// ended reports whether a task's state is a last one.
func ended(state string) bool {
	switch state {
	case "TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_LOST", "TASK_ERROR", "TASK_DROPPED", "TASK_GONE", "TASK_GONE_BY_OPERATOR":
		return true
	}
	return false
}

// exit is how a container ended, as far as Mesos says it: TASK_FINISHED is exit status 0, the status of the others is not in /state.
// CPU is the last reading before the cgroup went, up to one look old. Of a container that Docker made Docker says it.
func (e *Engine) exit(ctx context.Context, t Task) *container.Exit {
	e.mu.Lock()
	r, ok := e.usage[t.ContainerID]
	if !ok { // never seen alive: when it ended is when that was first seen
		r.at = time.Now()
		e.usage[t.ContainerID] = r
	}
	e.mu.Unlock()
	if x := e.dockerExit(ctx, t.ContainerID); x != nil {
		end := *x
		end.CPU = r.cpu
		return &end
	}
	x := &container.Exit{CPU: r.cpu, Finished: r.at}
	if t.State != "TASK_FINISHED" {
		x.Code, x.Unknown = container.CodeUnknown, true
		x.Reason = "Mesos says " + t.State
		if !ended(t.State) {
			x.Reason += ", but its cgroup is gone"
		}
	}
	return x
}

// Resize changes CPU quota and shares in the kernel; Mesos' own account of the task stays as it is. Memory is Mesos' to limit.
func (e *Engine) Resize(ctx context.Context, id string, l container.Limits) error {
	i, err := e.Inspect(ctx, id)
	if err != nil {
		return fmt.Errorf("resize: %w", err)
	}
	if i.State != container.Running {
		return fmt.Errorf("resize mesos container %s: %w", id, container.ErrNotRunning)
	}
	if l.MemBytes != 0 {
		return fmt.Errorf("resize mesos container %s: memory: %w", id, container.ErrNotSupported)
	}
	if i.Cgroup == (cgroup.Group{}) {
		return fmt.Errorf("resize mesos container %s: %w: neither Mesos made its cgroup %s, nor has Docker a container mesos-%s", id, container.ErrNotSupported, e.group(id).CPU, id)
	}
	e.mu.Lock()
	d := e.docker[id].id
	e.mu.Unlock()
	if d != "" {
		if err := e.o.Docker.Resize(ctx, d, l); err != nil {
			return fmt.Errorf("resize mesos container %s: %w", id, err)
		}
		return nil
	}
	lim, err := e.open(id, i.Cgroup)
	if err == nil && l.CPUs != 0 {
		_, err = lim.SetCPUs(l.CPUs)
	}
	if err == nil && l.Shares != 0 {
		s := l.Shares
		if s < 0 {
			s = 1 // the kernel's default
		}
		_, err = lim.SetShares(s)
	}
	if errors.Is(err, cgroup.ErrGone) {
		e.closeLimits(id) // not more: that it was seen tells that it has ended
		return fmt.Errorf("resize mesos container %s: %w", id, errors.Join(container.ErrNotRunning, err))
	}
	if err != nil {
		if now, lerr := e.Inspect(ctx, id); lerr == nil && now.State == container.Exited { // its files were closed under our hands
			err = errors.Join(container.ErrNotRunning, err)
		}
		return fmt.Errorf("resize mesos container %s: %w", id, err)
	}
	return nil
}

// open gives the kept-open limits of a container.
func (e *Engine) open(id string, g cgroup.Group) (*cgroup.Limits, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if l, ok := e.limits[id]; ok {
		return l, nil
	}
	l, err := e.o.Cgroups.OpenLimits(g)
	if err == nil {
		e.limits[id] = l
	}
	return l, err
}

// prune drops what is kept of containers that the Mesos agent has forgotten.
func (e *Engine) prune(infos []container.Info) {
	there := states(infos)
	e.mu.Lock()
	defer e.mu.Unlock()
	for id := range e.usage {
		if _, ok := there[id]; !ok {
			e.drop(id)
		}
	}
}

// forget drops what is kept of a container.
func (e *Engine) forget(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.drop(id)
}

// drop is forget with the mutex held.
func (e *Engine) drop(id string) {
	e.shut(id)
	delete(e.usage, id)
	delete(e.docker, id)
}

// closeLimits closes the kept-open limits of a container that has ended.
func (e *Engine) closeLimits(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.shut(id)
}

// shut is closeLimits with the mutex held.
func (e *Engine) shut(id string) {
	if l, ok := e.limits[id]; ok {
		if err := l.Close(); err != nil {
			e.log.Warn("close limits", "container", id, "err", err)
		}
	}
	delete(e.limits, id)
}

func unsupported(what, id string) error {
	return fmt.Errorf("%s mesos container %q: %w: Mesos made it", what, id, container.ErrNotSupported)
}

// Create is Mesos' to do.
func (*Engine) Create(_ context.Context, s container.Spec) error { return unsupported("create", s.ID) }

// Start is Mesos' to do.
func (*Engine) Start(_ context.Context, id string) error { return unsupported("start", id) }

// Stop is Mesos' to do, by way of its framework.
func (*Engine) Stop(_ context.Context, id string, _ time.Duration) error {
	return unsupported("stop", id)
}

// Remove is Mesos' to do.
func (*Engine) Remove(_ context.Context, id string) error { return unsupported("remove", id) }

// Logs are in the task's sandbox, which this engine does not read.
func (*Engine) Logs(_ context.Context, id string, _ container.Stream, _ int64) (io.ReadCloser, error) {
	return nil, unsupported("read the output of", id)
}
