package docker

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/system"
)

// info is what the daemon says of itself, asked once it answers.
type info struct {
	mu    sync.Mutex
	known bool
	system.Info
}

// daemon asks the daemon about itself, once.
func (e *Engine) daemon(ctx context.Context) (system.Info, error) {
	e.info.mu.Lock()
	defer e.info.mu.Unlock()
	if e.info.known {
		return e.info.Info, nil
	}
	i, err := e.o.Client.Info(ctx)
	if err != nil {
		return i, e.failed(ctx, "ask Docker about itself", err)
	}
	e.info.Info, e.info.known = i, true
	return i, nil
}

// parentOf is the cgroup parent, as Docker wants it, of an execution: a path with the cgroupfs driver, a slice with systemd's.
func (e *Engine) parentOf(i system.Info, parent string) string {
	if i.CgroupDriver != "systemd" {
		return path.Join(e.o.Parent, parent)
	}
	slice := strings.ReplaceAll(strings.Trim(e.o.Parent, "/"), "/", "-")
	if parent == "" {
		return slice + ".slice"
	}
	return slice + "-" + strings.ReplaceAll(parent, "-", "_") + ".slice" // each dash would be a slice of its own
}

// parentPath is the cgroup of a parent as Docker has it; "" for one that is not ours.
func (e *Engine) parentPath(parent string) string {
	if strings.HasPrefix(parent, e.o.Parent+"/") {
		return parent
	}
	if name, ok := strings.CutSuffix(parent, ".slice"); ok {
		var dir string
		for i := range name {
			if name[i] == '-' {
				dir = path.Join(dir, name[:i]+".slice")
			}
		}
		return "/" + path.Join(dir, parent)
	}
	return ""
}

// clearParent removes an execution's cgroup in all hierarchies once no container is in it.
func (e *Engine) clearParent(ctx context.Context, parent string) {
	p := e.parentPath(parent)
	if p == "" || strings.HasSuffix(p, ".slice") || p == e.o.Parent {
		return // systemd's own to remove
	}
	sums, err := e.o.Client.ContainerList(ctx, dcontainer.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", labelParent+"="+parent))})
	if err != nil || len(sums) > 0 {
		return
	}
	if err := removeEverywhere(e.o.Cgroups.Root(), p); err != nil {
		e.log.Warn("remove an execution's cgroup", "cgroup", p, "err", err)
	}
}

// Clear removes the cgroup of all executions, in every hierarchy where it is empty.
func (e *Engine) Clear() error {
	dirs, err := filepath.Glob(filepath.Join(e.o.Cgroups.Root(), "*", e.o.Parent))
	for _, dir := range dirs {
		_ = removeBelow(dir) // what is in use stays
	}
	return err
}

// removeEverywhere removes a cgroup, and those below it, from all hierarchies: runc makes it in each one there is.
func removeEverywhere(root, p string) error {
	dirs, err := filepath.Glob(filepath.Join(root, "*", p))
	if err != nil {
		return fmt.Errorf("find cgroup %s: %w", p, err)
	}
	for _, dir := range append(dirs, filepath.Join(root, p)) {
		if err := removeBelow(dir); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("remove cgroup %s: %w", p, err)
		}
	}
	return nil
}

func removeBelow(dir string) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range list {
		if f.IsDir() {
			if err := removeBelow(filepath.Join(dir, f.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(dir)
}
