package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"qosctl/cgroup"
	"qosctl/container"
)

// simContainer is a container of a machine: it outlives the agent, not the machine.
type simContainer struct {
	container.Info
	job    string
	node   string
	engine string
	kernel time.Duration // what its cgroup has counted
	base   time.Duration // what its process state embodied when it began
	goal   time.Duration // it exits 0 when it embodies so much
	frozen bool
	halt   string        // why it was ended, if it was
	from   int           // sequence of the checkpoint that it was restored from
	died   bool          // with its machine: nobody read its counter at the end
	unread time.Duration // for how long nobody had, then
	ended  chan struct{}
	file   *os.File
}

// embodied is what the process state stands for.
func (c *simContainer) embodied() time.Duration { return c.base + c.kernel }

// kernelTick is how often the simulated kernel counts. Its phase is such that nobody reads while it writes.
const kernelTick = 250 * time.Millisecond

// kernel gives CPU time to what runs, for as long as the world lasts.
func (w *world) kernel(ctx context.Context) {
	if !pause(ctx, 137*time.Nanosecond) {
		return
	}
	tick := time.NewTicker(kernelTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		w.mu.Lock()
		for _, n := range w.nodes {
			for _, c := range n.containers {
				if c.State == container.Running && !c.frozen {
					n.spend(c)
				}
			}
		}
		w.oneAtMost()
		w.mu.Unlock()
	}
}

// spend lets a container burn what its quota allows. The caller holds mu.
func (n *simNode) spend(c *simContainer) {
	d := time.Duration(c.Limits.CPUs * float64(kernelTick)).Truncate(time.Microsecond)
	if c.goal > 0 {
		d = min(d, c.goal-c.embodied())
	}
	c.kernel += d
	c.count()
	if c.goal > 0 && c.embodied() >= c.goal {
		n.end(c, 0, "")
	}
}

// count writes the counter. Figures are of one width, so that a file is never longer than what was written last.
func (c *simContainer) count() {
	us := c.kernel.Microseconds()
	text := fmt.Sprintf("usage_usec %015d\nuser_usec %015d\nsystem_usec %015d\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n", us, us, 0)
	if _, err := c.file.WriteAt([]byte(text), 0); err != nil {
		panic(err)
	}
}

// end ends a container. The caller holds mu.
func (n *simNode) end(c *simContainer, code int, why string) {
	if c.State == container.Exited {
		return
	}
	c.State, c.frozen, c.halt = container.Exited, false, why
	c.Exit = &container.Exit{Code: code, Finished: time.Now().Add(n.skew), CPU: c.kernel}
	if code > 128 {
		c.Exit.Signal = code - 128
	}
	n.w.say("%s: container %s ends with %d after %v of its own (%v embodied) %s", n.name, short(c.ID), code, c.kernel, c.embodied(), why)
	close(c.ended)
}

func short(id string) string {
	if len(id) > 36 {
		return id[28:36] + id[36:]
	}
	return id
}

func (n *simNode) cgroups() string { return filepath.Join(n.w.dir, n.name+"-cgroup") }

// engines is what an agent opens instead of Docker and the process engine.
func (h hand) engines(_ Config, _ string, log *slog.Logger) (e engines, err error) {
	root := h.n.cgroups()
	if err := os.MkdirAll(root, 0o755); err != nil {
		return e, err
	}
	if err := os.WriteFile(filepath.Join(root, "cgroup.controllers"), []byte("cpu memory\n"), 0o600); err != nil {
		return e, err
	}
	if e.cgroups, err = cgroup.New(cgroup.Options{Root: root, Proc: root, Logger: log}); err != nil {
		return e, err
	}
	e.process, e.docker = &simEngine{hand: h, name: "process"}, &simEngine{hand: h, name: "docker"}
	e.keeper = &simKeeper{hand: h}
	return e, nil
}

// simEngine is an engine of a machine, as one agent reaches it.
type simEngine struct {
	hand
	name string
}

func (e *simEngine) Name() string { return e.name }

// find returns a container; the caller holds mu. Inspect and Resize, which are called under a job's lock, never wait: a paused agent's fail.
func (e *simEngine) find(id string, atOnce bool) (*simContainer, error) {
	if !e.alive() || atOnce && e.n.paused != nil {
		return nil, errKilled
	}
	if c := e.n.containers[id]; c != nil && c.engine == e.name {
		return c, nil
	}
	return nil, fmt.Errorf("%s: %w", id, container.ErrNotFound)
}

// add makes a container. The caller holds mu.
func (n *simNode) add(engine string, s container.Spec) (*simContainer, error) {
	if n.containers[s.ID] != nil {
		return nil, fmt.Errorf("%s: %w", s.ID, container.ErrExists)
	}
	dir := filepath.Join(n.cgroups(), s.ID)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.Create(filepath.Join(dir, "cpu.stat"))
	if err != nil {
		return nil, err
	}
	job, _ := parseContainerID(s.ID)
	c := &simContainer{job: job, node: n.name, engine: engine, ended: make(chan struct{}), file: f, Info: container.Info{
		ID: s.ID, Labels: s.Labels, State: container.Created, Created: time.Now().Add(n.skew), Limits: s.Limits, Cgroup: cgroup.Group{CPU: "/" + s.ID, CPUAcct: "/" + s.ID},
	}}
	c.goal, _ = time.ParseDuration(strings.TrimPrefix(s.Command, "burn "))
	c.count()
	n.containers[s.ID] = c
	n.w.ledger = append(n.w.ledger, c)
	return c, nil
}

func (e *simEngine) Create(ctx context.Context, s container.Spec) error {
	if err := e.pass(ctx, 10*time.Millisecond, 100*time.Millisecond); err != nil {
		return err
	}
	e.n.w.mu.Lock()
	defer e.n.w.mu.Unlock()
	_, err := e.n.add(e.name, s)
	return err
}

func (e *simEngine) Start(ctx context.Context, id string) error {
	if err := e.pass(ctx, 10*time.Millisecond, 300*time.Millisecond); err != nil {
		return err
	}
	epoch := e.epoch(id)
	e.n.w.mu.Lock()
	defer e.n.w.mu.Unlock()
	c, err := e.find(id, false)
	if err != nil {
		return err
	}
	if c.State != container.Created {
		return fmt.Errorf("%s: %w", id, container.ErrStarted)
	}
	e.n.start(c, epoch)
	return nil
}

// start lets a container run. The caller holds mu.
func (n *simNode) start(c *simContainer, epoch uint64) {
	c.State, c.Started, c.PID = container.Running, time.Now().Add(n.skew), 1
	n.w.starts = append(n.w.starts, simStart{time.Now(), c.job, n.name, epoch, c.ID})
	n.w.say("%s: container %s starts at epoch %d from %v, %.2f CPUs", n.name, short(c.ID), epoch, c.base, c.Limits.CPUs)
}

// epoch is the one at which the agent starts a container. No lock of the job's is held then.
func (h hand) epoch(id string) uint64 {
	h.n.w.mu.Lock()
	a := h.n.agent
	h.n.w.mu.Unlock()
	job, _ := parseContainerID(id)
	if a == nil || a.jobs.get(job) == nil {
		return 0
	}
	j := a.jobs.get(job)
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.status().Epoch
}

func (e *simEngine) Stop(ctx context.Context, id string, _ time.Duration) error {
	if err := e.pass(ctx, 10*time.Millisecond, 500*time.Millisecond); err != nil {
		return err
	}
	e.n.w.mu.Lock()
	defer e.n.w.mu.Unlock()
	c, err := e.find(id, false)
	if err == nil {
		e.n.end(c, 143, "stopped by the agent")
	}
	return err
}

func (e *simEngine) Wait(ctx context.Context, id string) (container.Exit, error) {
	e.n.w.mu.Lock()
	c, err := e.find(id, false)
	e.n.w.mu.Unlock()
	if err != nil {
		return container.Exit{}, err
	}
	select {
	case <-c.ended:
	case <-ctx.Done():
		return container.Exit{}, ctx.Err()
	}
	if err := e.pass(ctx, 0, 20*time.Millisecond); err != nil {
		return container.Exit{}, err
	}
	e.n.w.mu.Lock()
	defer e.n.w.mu.Unlock()
	if c.Exit == nil {
		return container.Exit{}, fmt.Errorf("%s: %w", id, container.ErrNotFound)
	}
	return *c.Exit, nil
}

func (e *simEngine) Resize(_ context.Context, id string, l container.Limits) error {
	e.n.w.mu.Lock()
	defer e.n.w.mu.Unlock()
	c, err := e.find(id, true)
	switch {
	case err != nil:
		return err
	case c.State != container.Running:
		return container.ErrNotRunning
	}
	if l.CPUs > 0 && !sameCPUs(l.CPUs, c.Limits.CPUs) {
		e.n.w.resizes++
		e.n.w.say("%s: container %s: %.2f CPUs", e.n.name, short(id), l.CPUs)
		c.Limits.CPUs = l.CPUs
	}
	return nil
}

func (e *simEngine) Inspect(_ context.Context, id string) (container.Info, error) {
	e.n.w.mu.Lock()
	defer e.n.w.mu.Unlock()
	c, err := e.find(id, true)
	if err != nil {
		return container.Info{}, err
	}
	return c.Info, nil
}

func (e *simEngine) List(ctx context.Context) ([]container.Info, error) {
	if err := e.pass(ctx, 0, 20*time.Millisecond); err != nil {
		return nil, err
	}
	e.n.w.mu.Lock()
	defer e.n.w.mu.Unlock()
	var list []container.Info
	for _, c := range e.n.containers {
		if c.engine == e.name {
			list = append(list, c.Info)
		}
	}
	slices.SortFunc(list, func(x, y container.Info) int { return strings.Compare(x.ID, y.ID) })
	return list, nil
}

// Logs has no output, and ends with the container.
func (e *simEngine) Logs(ctx context.Context, id string, _ container.Stream, _ int64) (io.ReadCloser, error) {
	e.n.w.mu.Lock()
	defer e.n.w.mu.Unlock()
	c, err := e.find(id, false)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(silence{ctx, c.ended}), nil
}

type silence struct {
	ctx   context.Context //nolint:containedctx // a reader has no other way to get it
	ended chan struct{}
}

func (s silence) Read([]byte) (int, error) {
	select {
	case <-s.ended:
		return 0, io.EOF
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	}
}

func (e *simEngine) Remove(ctx context.Context, id string) error {
	if err := e.pass(ctx, 0, 50*time.Millisecond); err != nil {
		return err
	}
	e.n.w.mu.Lock()
	defer e.n.w.mu.Unlock()
	c, err := e.find(id, false)
	switch {
	case err != nil:
		return err
	case c.State == container.Running:
		return container.ErrRunning
	}
	if c.State == container.Created {
		close(c.ended)
	}
	delete(e.n.containers, id)
	return c.file.Close()
}

func (e *simEngine) Events(ctx context.Context) (<-chan container.Event, error) {
	ch := make(chan container.Event)
	context.AfterFunc(ctx, func() { close(ch) })
	return ch, nil
}
