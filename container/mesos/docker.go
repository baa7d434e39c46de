package mesos

import (
	"context"
	"errors"
	"time"

	"qosctl/cgroup"
	"qosctl/container"
)

// Docker finds and resizes what Mesos' Docker containerizer made: docker.Engine.
type Docker interface {
	// OfMesos describes the container of a ContainerID; container.ErrNotFound: there is none.
	OfMesos(ctx context.Context, containerID string) (container.Info, error)
	// Inspect describes the container of a name.
	Inspect(ctx context.Context, name string) (container.Info, error)
	// Resize takes the ID that OfMesos gave.
	Resize(ctx context.Context, id string, l container.Limits) error
}

// dockerTime bounds what one look at the containers waits for Docker.
const dockerTime = 5 * time.Second

// inDocker is what was found of a container in Docker. It is looked for again when its cgroup is gone.
type inDocker struct {
	id    string // in Docker
	group cgroup.Group
	exit  *container.Exit // once it has ended
}

// readDocker takes limits and counter of a container that Docker made; false: it does not run there.
func (e *Engine) readDocker(ctx context.Context, t Task, i *container.Info) (g cgroup.Group, there bool) {
	if e.o.Docker == nil {
		return g, false
	}
	e.mu.Lock()
	known := e.docker[i.ID]
	e.mu.Unlock()
	if known.group.CPU != "" && e.read(i.ID, known.group, i) {
		return known.group, true
	}
	if ended(t.State) || known.exit != nil {
		return g, false
	}
	ctx, cancel := context.WithTimeout(ctx, dockerTime)
	defer cancel()
	d, err := e.lookInDocker(ctx, t)
	if err != nil {
		if !errors.Is(err, container.ErrNotFound) {
			e.log.Warn("ask Docker for a container of Mesos", "container", i.ID, "err", err)
		}
		return g, false
	}
	e.mu.Lock()
	e.docker[i.ID] = inDocker{id: d.ID, group: d.Cgroup, exit: d.Exit}
	e.mu.Unlock()
	return d.Cgroup, d.State == container.Running && d.Cgroup.CPU != "" && e.read(i.ID, d.Cgroup, i)
}

// lookInDocker finds a task's container: the one that its own program made, if it is of that kind, else Mesos'.
func (e *Engine) lookInDocker(ctx context.Context, t Task) (container.Info, error) {
	if len(t.Holds) == 0 {
		return e.o.Docker.OfMesos(ctx, t.ContainerID)
	}
	for _, name := range t.Holds {
		i, err := e.o.Docker.Inspect(ctx, name)
		former := err == nil && i.Exit != nil && i.Exit.Finished.Before(t.Started) // of the task before this one
		if !errors.Is(err, container.ErrNotFound) && !former {
			return i, err
		}
	}
	return container.Info{}, container.ErrNotFound
}

// endedInDocker says whether Docker has said of a container that it has ended: Mesos' word may come later.
func (e *Engine) endedInDocker(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.docker[id].exit != nil
}

// dockerExit is how a container ended that Docker still has: its status, where Mesos only says that the task ended.
func (e *Engine) dockerExit(ctx context.Context, id string) *container.Exit {
	e.mu.Lock()
	known := e.docker[id]
	e.mu.Unlock()
	if known.id == "" || known.exit != nil {
		return known.exit
	}
	ctx, cancel := context.WithTimeout(ctx, dockerTime)
	defer cancel()
	i, err := e.o.Docker.Inspect(ctx, known.id)
	if err != nil || i.Exit == nil {
		return nil // Mesos' word is all there is
	}
	known.exit = i.Exit
	e.mu.Lock()
	e.docker[id] = known
	e.mu.Unlock()
	return i.Exit
}
