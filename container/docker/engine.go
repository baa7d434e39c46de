package docker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/client"

	"qosctl/cgroup"
	"qosctl/container"
)

// labelJob marks the containers that are ours: those that List shows.
const labelJob = "qosctl.job"

// errNoDaemon says that Docker does not answer.
var errNoDaemon = errors.New("the Docker daemon does not answer")

// Options are what an Engine is made of.
type Options struct {
	Client  *client.Client // its version is negotiated: API 1.41 (Docker 20.10) and later
	Cgroups *cgroup.FS
	Parent  string       // cgroup below which each execution's parent stands: "/qosctl"
	Proc    string       // "/proc"
	Logger  *slog.Logger // nil: nothing is logged
}

// Engine is container.Engine over a Docker daemon. A container's ID is its name in Docker.
//
// The counters of a container are two cgroups': Info.Cgroup.CPU is its own, with quota and throttling, and Info.Cgroup.CPUAcct that
// of its execution (Spec.Parent), which outlives it and counts all containers of the execution. Exit.CPU is the reading of the latter.
type Engine struct {
	o     Options
	log   *slog.Logger
	info  info
	start sync.Map // id → *sync.Mutex: one start at a time

	streams sync.WaitGroup // of events
}

// Dial makes a client of the daemon at host ("unix:///var/run/docker.sock"). It does not connect yet.
func Dial(host string) (*client.Client, error) {
	return client.NewClientWithOpts(client.WithHost(host), client.WithAPIVersionNegotiation())
}

// New makes an engine. The daemon need not answer yet.
func New(o Options) (*Engine, error) {
	if o.Client == nil || o.Cgroups == nil || !strings.HasPrefix(o.Parent, "/") {
		return nil, errors.New("docker: client, cgroups and an absolute cgroup parent are needed")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Engine{o: o, log: o.Logger.With("pkg", "docker")}, nil
}

// Name is docker.
func (e *Engine) Name() string { return "docker" }

// Close ends the idle connections, once all streams of events have ended with their contexts.
func (e *Engine) Close() error {
	e.streams.Wait()
	return e.o.Client.Close()
}

// validID is what our ids and Docker's names have in common.
var validID = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}$`)

// look reads a container of ours.
func (e *Engine) look(ctx context.Context, id string) (dcontainer.InspectResponse, error) {
	if !validID.MatchString(id) {
		return dcontainer.InspectResponse{}, fmt.Errorf("container %q: %w", id, container.ErrNotFound)
	}
	c, err := e.o.Client.ContainerInspect(ctx, id)
	if err != nil {
		return c, e.failed(ctx, "look at container "+id, err)
	}
	if strings.TrimPrefix(c.Name, "/") != id || c.Config == nil || c.State == nil || c.HostConfig == nil {
		return c, fmt.Errorf("container %s: %w", id, container.ErrNotFound) // a prefix of somebody's id
	}
	return c, nil
}

// failed puts an error of Docker into our words.
func (e *Engine) failed(ctx context.Context, doing string, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", doing, context.Cause(ctx))
	case errdefs.IsNotFound(err) && strings.Contains(err.Error(), "No such image"):
		return fmt.Errorf("%s: %w: %w", doing, container.ErrNoImage, err)
	case errdefs.IsNotFound(err):
		return fmt.Errorf("%s: %w", doing, container.ErrNotFound)
	case client.IsErrConnectionFailed(err):
		return fmt.Errorf("%s: %w at %s: see systemctl status docker: %w", doing, errNoDaemon, e.o.Client.DaemonHost(), err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// Inspect describes one container.
func (e *Engine) Inspect(ctx context.Context, id string) (container.Info, error) {
	c, err := e.look(ctx, id)
	if err != nil {
		return container.Info{}, err
	}
	return e.describe(c), nil
}

// List describes the containers that have a job, in order of their IDs.
func (e *Engine) List(ctx context.Context) ([]container.Info, error) {
	sums, err := e.o.Client.ContainerList(ctx, dcontainer.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", labelJob))})
	if err != nil {
		return nil, e.failed(ctx, "list containers", err)
	}
	var list []container.Info
	for _, s := range sums {
		if len(s.Names) == 0 {
			continue
		}
		i, err := e.Inspect(ctx, strings.TrimPrefix(s.Names[0], "/"))
		if errors.Is(err, container.ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b container.Info) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

// anonymousLabel is on the volumes that nobody has named.
const anonymousLabel = "com.docker.volume.anonymous"

// removeVolumes removes the volumes without a name of their own that a removed container had by their names, as restored ones do. Docker
// itself removes those that it has made for it; it keeps what another container still has.
func (e *Engine) removeVolumes(ctx context.Context, c dcontainer.InspectResponse) {
	for _, m := range c.Mounts {
		if m.Type != mount.TypeVolume {
			continue
		}
		v, err := e.o.Client.VolumeInspect(ctx, m.Name)
		if _, anonymous := v.Labels[anonymousLabel]; err != nil || !anonymous {
			continue
		}
		if err := e.o.Client.VolumeRemove(ctx, m.Name, false); err != nil && !errdefs.IsConflict(err) && !errdefs.IsNotFound(err) {
			e.log.Warn("remove a volume without a name", "container", strings.TrimPrefix(c.Name, "/"), "volume", m.Name, "err", err)
		}
	}
}

// Remove forgets a container that does not run, and its execution's cgroup if it is the last one in it.
func (e *Engine) Remove(ctx context.Context, id string) error {
	c, err := e.look(ctx, id)
	if err != nil {
		return err
	}
	if c.State.Running || c.State.Paused || c.State.Restarting {
		return fmt.Errorf("remove container %s: %w", id, container.ErrRunning)
	}
	if err := e.o.Client.ContainerRemove(ctx, c.ID, dcontainer.RemoveOptions{RemoveVolumes: true}); err != nil {
		if errdefs.IsConflict(err) && strings.Contains(err.Error(), "running") {
			return fmt.Errorf("remove container %s: %w", id, container.ErrRunning)
		}
		return e.failed(ctx, "remove container "+id, err)
	}
	e.start.Delete(id)
	e.removeVolumes(ctx, c)
	e.clearParent(ctx, c.HostConfig.CgroupParent)
	return nil
}
