package process

import (
	"context"
	"errors"
	"fmt"
	"os"

	"qosctl/cgroup"
	"qosctl/container"
)

// Inspect describes one container. Its limits are read from the kernel while it runs.
func (e *Engine) Inspect(ctx context.Context, id string) (container.Info, error) {
	if err := ctx.Err(); err != nil {
		return container.Info{}, err
	}
	r, err := e.load(id)
	if err != nil {
		return container.Info{}, fmt.Errorf("inspect: %w", err)
	}
	return e.info(r), nil
}

// List describes all containers in order of their ids. One whose files are spoilt is listed as exited, with the reason.
func (e *Engine) List(ctx context.Context) ([]container.Info, error) {
	ids, err := e.ids()
	if err != nil {
		return nil, err
	}
	infos := make([]container.Info, 0, len(ids))
	for _, id := range ids {
		if err = ctx.Err(); err != nil {
			return nil, err
		}
		r, err := e.load(id)
		if errors.Is(err, container.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list containers: %w", err)
		}
		infos = append(infos, e.info(r))
	}
	return infos, nil
}

// ids are the containers that have a directory, in order.
func (e *Engine) ids() ([]string, error) {
	ents, err := os.ReadDir(e.o.Dir)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	var ids []string
	for _, d := range ents {
		if d.IsDir() && idPattern.MatchString(d.Name()) {
			ids = append(ids, d.Name())
		}
	}
	return ids, nil
}

func (e *Engine) info(r *record) container.Info {
	i := container.Info{
		ID: r.id, Labels: r.conf.Spec.Labels, State: r.state,
		Created: r.conf.Created, Started: r.run.Started, Limits: r.conf.Spec.Limits, Cgroup: r.run.Group,
	}
	if r.state == container.Exited {
		x := r.exit
		i.Exit = &x
	}
	if r.state == container.Running {
		i.PID = r.run.PID
		e.inForce(r, &i.Limits)
	}
	return i
}

// inForce replaces the limits asked for at creation by those in force.
func (e *Engine) inForce(r *record, l *container.Limits) {
	lim, err := e.open(r.id, r.run.Group)
	if err == nil {
		if l.CPUs, err = lim.CPUs(); err == nil {
			l.Shares, err = lim.Shares()
		}
	}
	if err != nil && !errors.Is(err, cgroup.ErrGone) && !errors.Is(err, container.ErrNotRunning) && !e.over(r.id) {
		e.log.Warn("read limits in force", "container", r.id, "err", err)
	}
}

// Quota reads the quota in force through files that are kept open.
func (e *Engine) Quota(id string, g cgroup.Group) (float64, error) {
	l, err := e.open(id, g)
	if err != nil {
		return 0, fmt.Errorf("read the quota of container %s: %w", id, err)
	}
	return l.CPUs()
}

// Resize changes the limits of a container in place: in the kernel if it runs, in its directory, for its start, if it was not started.
func (e *Engine) Resize(ctx context.Context, id string, l container.Limits) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := checkLimits(l); err != nil {
		return fmt.Errorf("resize container %s: %w", id, err)
	}
	r, err := e.load(id)
	if err != nil {
		return fmt.Errorf("resize: %w", err)
	}
	switch {
	case r.state == container.Exited, r.starting, r.state == container.Running && !r.hasRun:
		return fmt.Errorf("resize container %s: %w", id, container.ErrNotRunning)
	case r.state == container.Created:
		merge(&r.conf.Spec.Limits, l)
		err = writeFile(r.dir, configName, r.conf)
	default:
		err = e.apply(id, r.cgroup(), r.run.Group, l)
		if errors.Is(err, cgroup.ErrGone) {
			err = errors.Join(container.ErrNotRunning, err, e.forgetLimits(id))
		} else if err != nil && e.over(id) { // its files were closed under our hands
			err = errors.Join(container.ErrNotRunning, err)
		}
	}
	if err != nil {
		return fmt.Errorf("resize container %s: %w", id, err)
	}
	return nil
}

// over reports whether a container has ended by now.
func (e *Engine) over(id string) bool {
	r, err := e.load(id)
	return err == nil && r.state == container.Exited
}

// merge sets in l what with says.
func merge(l *container.Limits, with container.Limits) {
	if with.CPUs != 0 {
		l.CPUs = with.CPUs
	}
	if with.Shares != 0 {
		l.Shares = with.Shares
	}
	if with.MemBytes != 0 {
		l.MemBytes = with.MemBytes
	}
}
