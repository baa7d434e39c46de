package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"path/filepath"
	"syscall"

	"qosctl/cgroup"
)

// groups are the tasks' cgroups, by ContainerID.
type groups interface {
	create(id string, cpus float64) error
	join(id string, pid int) error
	procs(id string) (pids []int, ok bool) // ok: there are cgroups to look into
	kill(ctx context.Context, id string) error
	remove(id string) error
	path(id string) string // "": no cgroups
	close()
}

// noGroups is for a user who may not make cgroups: tasks are told by their sessions only.
type noGroups struct{}

func (noGroups) create(string, float64) error       { return nil }
func (noGroups) join(string, int) error             { return nil }
func (noGroups) procs(string) ([]int, bool)         { return nil, false }
func (noGroups) kill(context.Context, string) error { return nil }
func (noGroups) remove(string) error                { return nil }
func (noGroups) path(string) string                 { return "" }
func (noGroups) close()                             {}

// realGroups are cgroups <parent>/<ContainerID> in every hierarchy that the host has of cpu, cpuacct, freezer and memory.
type realGroups struct {
	fs     *cgroup.FS
	root   string
	parent string
}

// openGroups finds out whether cgroups can be written.
func openGroups(o Options, log *slog.Logger) (groups, error) {
	fs, err := cgroup.New(cgroup.Options{Root: o.CgroupRoot, Proc: o.Proc, Logger: log})
	if err != nil {
		log.Warn("tasks run without cgroups: there are none here that can be used", "root", o.CgroupRoot, "err", err)
		return noGroups{}, nil
	}
	err = fs.AccessBelow(o.Parent)
	switch {
	case errors.Is(err, cgroup.ErrNoAccess):
		log.Warn("tasks run without cgroups: run as root, or give the user a delegated subtree", "parent", o.Parent, "err", err)
		return noGroups{}, nil
	case err != nil:
		return nil, fmt.Errorf("open cgroups: %w", err)
	}
	return &realGroups{fs: fs, root: o.CgroupRoot, parent: o.Parent}, nil
}

func (g *realGroups) path(id string) string { return path.Join(g.parent, id) }

// overhead is what Mesos books for a command executor beside its task's CPUs.
const overhead = 0.1

// create makes a container's cgroup with shares for the task and its executor, and no quota. No memory limit is set either: a
// stand-in's container stands elsewhere, and development is no place for the OOM killer.
func (g *realGroups) create(id string, cpus float64) error {
	group, err := g.fs.Create(g.path(id))
	if err != nil {
		return err
	}
	limits, err := g.fs.OpenLimits(group)
	if err != nil {
		return err
	}
	_, err = limits.SetShares(cpus + overhead)
	return errors.Join(err, limits.Close())
}

func (g *realGroups) join(id string, pid int) error { return g.fs.Join(g.path(id), pid) }

func (g *realGroups) procs(id string) ([]int, bool) {
	pids, err := g.fs.Procs(g.path(id))
	if errors.Is(err, cgroup.ErrGone) {
		return nil, true
	}
	return pids, err == nil
}

func (g *realGroups) kill(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, killPatience)
	defer cancel()
	return g.fs.Kill(ctx, g.path(id))
}

func (g *realGroups) remove(id string) error { return g.fs.Remove(g.path(id)) }

// close removes the parent, unless somebody else has a cgroup in it: it is never removed with what stands below.
func (g *realGroups) close() {
	dirs, _ := filepath.Glob(filepath.Join(g.root, "*", g.parent)) // the pattern is well formed, or nothing is removed
	for _, dir := range append(dirs, filepath.Join(g.root, g.parent)) {
		_ = syscall.Rmdir(dir) // not there, or not empty
	}
}
