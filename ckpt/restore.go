package ckpt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/client"

	"qosctl/cgroup"
	"qosctl/container"
)

// marker is the file in a restore's work directory that says of what it is.
const marker = "restore.json"

// source is a checkpoint that is being restored from.
type source struct {
	m      Manifest
	dir    *os.Root
	path   string
	sealed bool
	leave  func()
}

func (s *source) close() {
	_ = s.dir.Close() // only read
	s.leave()
}

// open takes a complete checkpoint for a restore. A sealed one is read whole first: what is damaged is not run.
func (k *Keeper) open(ctx context.Context, r Ref, whole bool) (s *source, err error) {
	s = &source{}
	if s.leave, err = k.locks.share(ctx, r); err != nil {
		return nil, err
	}
	name, sealed, err := k.store.find(r)
	if err == nil {
		s.dir, err = k.store.open(name)
	}
	if err != nil {
		s.leave()
		return nil, err
	}
	s.path, s.sealed = k.store.path(name), sealed
	switch {
	case sealed && whole:
		s.m, err = verify(ctx, s.dir, r)
	case sealed:
		s.m, _, err = readManifest(s.dir, r)
	default:
		var p plan
		p, err = readPlan(s.dir, r)
		s.m = p.Manifest
		if err == nil && k.foreign(p.Manifest.Node) {
			err = fmt.Errorf("checkpoint %s: %w: node %s is taking it", r, ErrBusy, p.Manifest.Node)
		}
		if err == nil && p.State != dumped {
			err = fmt.Errorf("checkpoint %s: %w: its images are not complete", r, ErrNone)
		}
		if err == nil {
			err = k.torn(s.dir, p)
		}
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// Restorable says why a checkpoint can't be restored into a container made of s, in words; nil if nothing is known against it: class,
// TTY, memory. Image and mounts are looked at when the container is made.
func (k *Keeper) Restorable(ctx context.Context, r Ref, s container.Spec) error {
	if k.chosen() == nil {
		return ErrDisabled
	}
	src, err := k.open(ctx, r, false)
	if err != nil {
		return err
	}
	defer src.close()
	if err := k.Report().Class.Compatible(src.m.Class); err != nil {
		return err
	}
	if s.Limits.MemBytes > 0 && s.Limits.MemBytes < src.m.Resident {
		return refuse("its memory limit is %s now, and %s are resident in the checkpoint: give the job more memory", mib(s.Limits.MemBytes), mib(src.m.Resident))
	}
	return nil
}

// Restore makes the container of s, with the checkpoint's changed files, and starts it from the checkpoint. It returns when the processes run, in
// the right cgroup, with the limits of s in force, or have ended since. After an error there is no container of s.
func (k *Keeper) Restore(ctx context.Context, r Ref, s container.Spec) (Restored, error) {
	d := k.chosen()
	if d == nil {
		return Restored{}, ErrDisabled
	}
	release, err := k.locks.container(s.ID)
	if err != nil {
		return Restored{}, err
	}
	defer release()
	if done, err := k.clearFormer(ctx, r, s.ID); err != nil || done != nil {
		if err != nil {
			return Restored{}, err
		}
		return *done, nil
	}
	src, err := k.open(ctx, r, true)
	if err != nil {
		return Restored{}, err
	}
	defer src.close()
	defer k.pace.begin()()
	begin := time.Now()
	out, err := k.restoreNew(ctx, d, src, r, s)
	for try := 1; err != nil; try++ {
		k.drop(ctx, s.ID)
		if try == restoreTries || !disturbed(err) || ctx.Err() != nil {
			return Restored{}, err
		}
		k.log.Warn("restore again", "checkpoint", r.String(), "container", s.ID, "err", err)
		out, err = k.restoreNew(ctx, d, src, r, s)
	}
	out.Stats.Whole = time.Since(begin)
	return out, nil
}

// restoreTries bounds the tries of a restore that others disturb.
const restoreTries = 3

// disturbed says whether a restore has failed for what somebody else did at that moment: on a hybrid host CRIU goes through the cgroups of all
// containers in the unified hierarchy, and gives up if one is removed meanwhile.
func disturbed(err error) bool { return strings.Contains(err.Error(), "bad cgroup path: unified") }

// clearFormer removes what a try before this one left of a container. One that was let go is the result of that try.
func (k *Keeper) clearFormer(ctx context.Context, r Ref, id string) (*Restored, error) {
	i, err := k.o.Engine.Inspect(ctx, id)
	if errors.Is(err, container.ErrNotFound) {
		return nil, nil //nolint:nilnil // as it should be
	}
	if err != nil {
		return nil, err
	}
	over := i.State == container.Exited && succeeded(filepath.Join(k.store.path(k.o.scratch()), id, restoreLog), restoreDone)
	if out, err := k.Resumed(ctx, r, id); err == nil && (i.State == container.Running || over) {
		return &out, nil
	}
	k.drop(ctx, id)
	return nil, nil //nolint:nilnil // it is gone
}

// drop removes a container whose restore failed.
func (k *Keeper) drop(ctx context.Context, id string) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer stop()
	if err := k.o.Engine.Stop(ctx, id, 0); errors.Is(err, container.ErrNotRunning) { // most likely
		k.endRestore(ctx, id)
	}
	if err := k.o.Engine.Remove(ctx, id); err != nil && !errors.Is(err, container.ErrNotFound) {
		k.log.Warn("remove a container whose restore failed", "container", id, "err", err)
	}
}

func (k *Keeper) restoreNew(ctx context.Context, d driver, src *source, r Ref, s container.Spec) (out Restored, err error) {
	if err := d.ready(&s); err != nil {
		return out, err
	}
	if err := k.mountAnonymous(ctx, src.m, &s); err != nil {
		return out, err
	}
	if err := k.o.Engine.Create(ctx, s); err != nil {
		if errors.Is(err, container.ErrNoImage) {
			return out, fmt.Errorf("%w: %w", ErrRestore, err)
		}
		return out, err
	}
	c, err := k.inspect(ctx, s.ID)
	if err != nil {
		return out, err
	}
	if err := fits(src.m, destinations(c), c.Image, c.Config.Tty); err != nil {
		return out, fmt.Errorf("%w: %w", ErrRestore, err)
	}
	if err := unpackFile(ctx, src.dir, upperDir(c)); err != nil {
		return out, fmt.Errorf("%w: changed files: %w", ErrRestore, noSpace(err))
	}
	k.step("unpacked")
	if out, err = k.letGo(ctx, d, src, r, s.ID); err != nil {
		return out, err
	}
	if out.Repaired, err = k.place(ctx, s.ID); err != nil {
		return out, fmt.Errorf("%w: %w", ErrRestore, err)
	}
	if err := k.o.Engine.Resize(ctx, s.ID, container.Limits{CPUs: s.Limits.CPUs, Shares: s.Limits.Shares}); err != nil {
		k.log.Warn("limits after a restore", "container", s.ID, "err", err) // the control loop sets them again
	}
	return out, nil
}

// fits says what a container lacks that the checkpoint needs.
func fits(m Manifest, mounts []string, image string, tty bool) error {
	switch {
	case m.Container.ImageID != image:
		return fmt.Errorf("image %s is another one now: CRIU maps files of the old one", m.Container.Image)
	case m.Container.TTY != tty:
		return errors.New("the job's terminal (tty) was changed")
	}
	for _, d := range m.Container.Mounts {
		if !slices.Contains(mounts, d) {
			return fmt.Errorf("the job has no volume at %s any more", d)
		}
	}
	return nil
}

// letGo has the driver restore the processes, and notes where their account begins.
func (k *Keeper) letGo(ctx context.Context, d driver, src *source, r Ref, id string) (out Restored, err error) {
	i, err := k.o.Engine.Inspect(ctx, id)
	if err != nil {
		return out, err
	}
	work := filepath.Join(k.store.path(k.o.scratch()), id)
	b, err := json.Marshal(r)
	if err == nil {
		err = RemoveAll(work)
	}
	if err == nil {
		err = os.Mkdir(work, 0o700)
	}
	if err == nil {
		err = writeFile(filepath.Join(work, marker), b, 0o600)
	}
	if err != nil {
		return out, fmt.Errorf("prepare a restore: %w", err)
	}
	counted := cgroup.Group{CPU: i.Cgroup.CPUAcct, CPUAcct: i.Cgroup.CPUAcct}
	k.makeParent(counted)
	lctx, stop := context.WithTimeoutCause(ctx, limit(k.o.RestoreTime, src.m.Resident), ErrTime)
	defer stop()
	k.step("restoring")
	res, err := d.restore(lctx, restore{
		Container: id, Images: filepath.Join(src.path, imagesName), Work: work, Counter: counted, Allow: src.m.Allow, Init: src.m.Container.Init,
	})
	if err != nil {
		if lctx.Err() != nil && ctx.Err() == nil {
			return out, fmt.Errorf("%w: %w: %w", ErrRestore, ErrTime, err)
		}
		if client.IsErrConnectionFailed(err) || ctx.Err() != nil {
			return out, fmt.Errorf("restore %s: %w", r, err) // nothing is known against the checkpoint
		}
		return out, fmt.Errorf("%w: %w", ErrRestore, noSpace(err))
	}
	k.step("restored")
	return Restored{Zero: time.Duration(res.Zero), Group: counted, Stats: res.RestoreStats}, nil
}

// makeParent makes the cgroup whose counter is read, if the restore is the first in it: the counter is read before the container runs.
func (k *Keeper) makeParent(g cgroup.Group) {
	if g.CPUAcct == "" {
		return
	}
	if _, err := k.o.Cgroups.Create(g.CPUAcct); err != nil {
		k.log.Warn("make the execution's cgroup", "cgroup", g.CPUAcct, "err", err) // the hook fails then, and says so
	}
}

// place makes sure that a restored container's processes are in its own cgroup. With cgroup v2 and runc < 1.2 they may be in the old one's, or
// in the root. A container that has ended since has none.
func (k *Keeper) place(ctx context.Context, id string) (repaired bool, err error) {
	c, err := k.inspect(ctx, id)
	if err != nil || !c.State.Running {
		return false, err
	}
	own, err := k.host.of(c.State.Pid)
	if err != nil {
		if k.ends(ctx, id, killTime) {
			return false, nil
		}
		return false, fmt.Errorf("find the cgroup of a restored process: %w", err)
	}
	if strings.Contains(path.Base(own.CPU), c.ID) {
		return false, nil
	}
	want := cgroup.Group{CPU: path.Join(c.HostConfig.CgroupParent, c.ID), CPUAcct: path.Join(c.HostConfig.CgroupParent, c.ID)}
	pids, err := k.host.pids(own)
	if err != nil {
		return false, fmt.Errorf("list the restored processes: %w", err)
	}
	if own.CPU == "/" {
		pids = []int{c.State.Pid} // everybody's: only the first is surely ours
	}
	for _, pid := range pids {
		if err := k.host.move(want, pid); err != nil {
			return false, fmt.Errorf("move a restored process from cgroup %s to %s: %w", own.CPU, want.CPU, err)
		}
	}
	k.log.Warn("restored processes were in another cgroup: moved", "container", id, "from", own.CPU, "to", want.CPU)
	return true, nil
}

func validContainer(id string) bool {
	return id != "" && len(id) <= 128 && !strings.ContainsAny(id, "/\x00") && id[0] != '.'
}

// Back restores a checkpoint into the container that it was taken of, which must still be there, exited.
func (k *Keeper) Back(ctx context.Context, r Ref) (Restored, error) {
	d := k.chosen()
	if d == nil {
		return Restored{}, ErrDisabled
	}
	src, err := k.open(ctx, r, true)
	if err != nil {
		return Restored{}, err
	}
	defer src.close()
	release, err := k.locks.container(src.m.Container.ID)
	if err != nil {
		return Restored{}, err
	}
	defer release()
	return k.backFrom(ctx, d, src, r)
}

func (k *Keeper) backFrom(ctx context.Context, d driver, src *source, r Ref) (Restored, error) {
	id := src.m.Container.ID
	i, err := k.o.Engine.Inspect(ctx, id)
	if err != nil {
		return Restored{}, err
	}
	if i.State != container.Exited {
		return Restored{}, refuse("container %s is %s: it is no way back", id, i.State)
	}
	if err := k.mounts.free(ctx, id); err != nil {
		return Restored{}, err
	}
	defer k.pace.begin()()
	begin := time.Now()
	out, err := k.letGo(ctx, d, src, r, id)
	if err != nil {
		return Restored{}, err
	}
	if out.Repaired, err = k.place(ctx, id); err != nil {
		return Restored{}, fmt.Errorf("%w: %w", ErrRestore, err)
	}
	out.Stats.Whole = time.Since(begin)
	return out, nil
}

// back is the way back of a checkpoint that is being taken: its container is locked already.
func (k *Keeper) back(ctx context.Context, d driver, p plan, dir string) (Restored, error) {
	return k.backFrom(ctx, d, &source{m: p.Manifest, path: dir}, p.Manifest.ref())
}
