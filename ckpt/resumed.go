package ckpt

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	"qosctl/cgroup"
	"qosctl/container"
)

// Resumed says what became of the restore of a checkpoint into container id that a former agent began: what Restore, or Back, would have
// returned had it lived. One that is still under way is waited for, at most its time. ErrNone: its processes were never let go, and nobody is
// at work on them any more.
func (k *Keeper) Resumed(ctx context.Context, r Ref, id string) (out Restored, err error) {
	none := fmt.Errorf("restore of %s into %s: %w", r, id, ErrNone)
	if !validContainer(id) {
		return out, none
	}
	work := filepath.Join(k.store.path(k.o.scratch()), id)
	var of Ref
	b, err := os.ReadFile(filepath.Join(work, marker))
	if err != nil || json.Unmarshal(b, &of) != nil || of != r {
		return out, none
	}
	k.awaitWork(ctx, work, work, limit(k.o.RestoreTime, k.residentIn(ctx, r)))
	if ctx.Err() != nil {
		return out, none
	}
	zero, err := base{}.zero(work)
	if err != nil {
		k.endRestore(ctx, id)
		return out, none
	}
	out = Restored{Zero: time.Duration(zero), Stats: readRestore(work)}
	i, err := k.o.Engine.Inspect(ctx, id)
	switch {
	case err == nil && i.State == container.Created: // restored, and frozen for ever: the Docker that was to start it is gone
		k.endRestore(ctx, id)
		return Restored{}, none
	case err == nil:
		out.Group = cgroup.Group{CPU: i.Cgroup.CPUAcct, CPUAcct: i.Cgroup.CPUAcct}
	}
	return out, nil
}

// residentIn is how much memory a checkpoint holds; 0: it can't be read.
func (k *Keeper) residentIn(ctx context.Context, r Ref) int64 {
	src, err := k.open(ctx, r, false)
	if err != nil {
		return 0
	}
	defer src.close()
	return src.m.Resident
}

// endRestore ends who is at work on the restore of a container that does not run, and what of it was made. Docker may know nothing of it: one that
// was killed in the middle leaves runc, CRIU and frozen processes behind. It is not asked about the container, which it keeps locked while it starts it.
func (k *Keeper) endRestore(ctx context.Context, id string) {
	if k.docker == nil {
		return
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer stop()
	list, err := k.docker.ContainerList(ctx, dcontainer.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("name", "^/?"+id+"$"))})
	if err != nil || len(list) != 1 || list[0].State == dcontainer.StateRunning || list[0].State == dcontainer.StatePaused {
		return
	}
	c := list[0]
	b := base{proc: k.proc()}
	b.endWork(ctx, c.ID, "restore", filepath.Join(k.store.path(k.o.scratch()), id))
	if parent := c.Labels[labelParent]; strings.HasPrefix(parent, "/") {
		_ = k.o.Cgroups.Kill(ctx, path.Join(parent, c.ID)) // most likely nothing is in it
	}
}

// labelParent has a container's cgroup parent (container/docker).
const labelParent = "qosctl.parent"
