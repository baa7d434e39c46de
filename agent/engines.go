package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"qosctl/cgroup"
	"qosctl/ckpt"
	"qosctl/container"
	"qosctl/container/docker"
	"qosctl/container/mesos"
	"qosctl/container/process"
	"qosctl/qos"
)

// engine is what the agent asks of whatever holds containers.
type engine = container.Engine

// checkpointer is what the agent asks of a node's checkpoints: ckpt.Keeper.
type checkpointer interface {
	Test(ctx context.Context) ckpt.Report
	Report() ckpt.Report
	Prepare(s *container.Spec) error
	Take(ctx context.Context, o ckpt.Order) (ckpt.Manifest, error)
	Complete(ctx context.Context, r ckpt.Ref) (ckpt.Manifest, error)
	Seal(ctx context.Context, r ckpt.Ref) (m ckpt.Manifest, digest string, err error)
	Restorable(ctx context.Context, r ckpt.Ref, s container.Spec) error
	Restore(ctx context.Context, r ckpt.Ref, s container.Spec) (ckpt.Restored, error)
	Resumed(ctx context.Context, r ckpt.Ref, id string) (ckpt.Restored, error)
	Back(ctx context.Context, r ckpt.Ref) (ckpt.Restored, error)
	List(ctx context.Context, job string) ([]ckpt.Manifest, error)
	Verify(ctx context.Context, r ckpt.Ref) (ckpt.Manifest, error)
	Remove(ctx context.Context, r ckpt.Ref) error
	Prune(ctx context.Context, wanted func(job string) bool) error
	Recover(ctx context.Context) ([]ckpt.Manifest, error)
	TakeUp(ctx context.Context, r ckpt.Ref) (ckpt.Manifest, error)
	giver
	taker
}

// engines are what holds a node's containers.
type engines struct {
	cgroups *cgroup.FS
	process engine
	docker  engine       // nil: none is configured
	keeper  checkpointer // nil: without Docker
	ofMesos mesos.Docker // the containers that Mesos made in Docker; nil: without Docker
}

// openEngines opens what a configuration names. Docker need not answer yet.
func openEngines(cfg Config, node string, log *slog.Logger) (e engines, err error) {
	e.cgroups, err = cgroup.New(cgroup.Options{Root: cfg.Cgroup.Root, Proc: cfg.Cgroup.Proc, Logger: log})
	if err != nil {
		return e, fmt.Errorf("find cgroups: %w", err)
	}
	p, err := process.New(process.Options{
		Dir: cfg.containers(), Shim: shim(), Helper: cfg.Engine.Helper,
		Cgroups: e.cgroups, CgroupRoot: cfg.Cgroup.Root, Proc: cfg.Cgroup.Proc, CgroupParent: cfg.Cgroup.Parent, Images: cfg.Engine.Images,
		MaxLog: int64(cfg.Engine.MaxLogMB) << 20, Logger: log,
	})
	if err != nil {
		return e, err // not into the interface: a nil *process.Engine in it is not nil, and would be closed
	}
	if e.process = p; cfg.Engine.Docker == "" {
		return e, nil
	}
	client, err := docker.Dial(cfg.Engine.Docker)
	if err != nil {
		return e, fmt.Errorf("engine.docker: %w", err)
	}
	d, err := docker.New(docker.Options{Client: client, Cgroups: e.cgroups, Parent: cfg.Cgroup.Parent, Proc: cfg.Cgroup.Proc, Logger: log})
	if err != nil {
		return e, err
	}
	e.docker, e.ofMesos = d, d
	c := cfg.Checkpoint
	e.keeper, err = ckpt.New(ckpt.Options{
		Dir: cfg.checkpoints(), Node: node, Engine: e.docker, Docker: client, Cgroups: e.cgroups, Proc: cfg.Cgroup.Proc, Driver: c.Driver, Runtime: runtimeName, Helper: c.Helper,
		Shared: c.Shared, Keep: c.Keep, MaxBytes: int64(c.MaxMB) << 20, DumpTime: c.DumpTime, RestoreTime: c.RestoreTime, Logger: log,
	})
	return e, err
}

// containers is the directory of the process engine's containers.
func (c Config) containers() string { return filepath.Join(c.DataDir, "containers") }

// shim is the command line of this program as the process engine's shim.
func shim() []string { return []string{"/proc/self/exe", "shim"} }

// checkpoints is the directory of the checkpoints.
func (c Config) checkpoints() string {
	if c.Checkpoint.Dir != "" {
		return c.Checkpoint.Dir
	}
	return filepath.Join(c.DataDir, "checkpoints")
}

// runtimeName is the name by which our OCI runtime is registered with Docker.
const runtimeName = "qosctl"

// of is the engine that holds a job's containers: what names an image that is no directory of ours goes to Docker.
func (e engines) of(spec *qos.Spec, images map[string]string) engine {
	c := spec.Container
	if e.docker == nil || c == nil || c.Image == "" || images[c.Image] != "" {
		return e.process
	}
	return e.docker
}

// all are the engines that make containers of ours.
func (e engines) all() []engine {
	if e.docker == nil {
		return []engine{e.process}
	}
	return []engine{e.process, e.docker}
}

func (e engines) close() error {
	var errs []error
	for _, one := range e.all() {
		if c, ok := one.(io.Closer); ok && one != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

func (e engines) names() []string {
	var list []string
	for _, one := range e.all() {
		list = append(list, one.Name())
	}
	return list
}

// held is a container of ours and the engine that holds it.
type held struct {
	container.Info
	engine engine
}

// containers lists what all engines hold. What those that answer hold is returned beside an error.
func (e engines) containers(ctx context.Context) (list []held, err error) {
	var errs []error
	for _, one := range e.all() {
		infos, err := one.List(ctx)
		errs = append(errs, err)
		for _, i := range infos {
			list = append(list, held{i, one})
		}
	}
	return list, errors.Join(errs...)
}

// engineOf is the engine that holds a job's containers.
func (a *Agent) engineOf(j *job) engine { return a.engines.of(j.spec(), a.cfg.Engine.Images) }

// keeps says whether a job's process state can be kept when it is stopped.
func (a *Agent) keeps(j *job) bool {
	return a.checkpoints() && !j.steward().Adopted && a.engineOf(j) == a.engines.docker
}

// checkpoints says whether this node can take and restore checkpoints.
func (a *Agent) checkpoints() bool {
	k := a.engines.keeper
	return k != nil && k.Report().Driver != ""
}
