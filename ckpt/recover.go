package ckpt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"
	"golang.org/x/sys/unix"
)

// List describes the checkpoints of a job, or of all ("") in order of job and sequence. A partial one has no Files; a damaged one is left out and logged.
func (k *Keeper) List(_ context.Context, job string) (list []Manifest, err error) {
	jobs := []string{job}
	if job == "" {
		if jobs, err = k.store.jobs(); err != nil {
			return nil, err
		}
	}
	for _, job := range jobs {
		entries, err := k.store.entries(job)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			m, err := k.glance(e)
			if err != nil {
				k.log.Warn("a checkpoint can't be read", "checkpoint", e.name, "err", err)
				continue
			}
			if m.Sequence > 0 {
				list = append(list, m)
			}
		}
	}
	return list, nil
}

// glance reads what one directory says of itself; nothing of one that is not complete.
func (k *Keeper) glance(e entry) (m Manifest, err error) {
	if e.ext == goneExt || e.ext == fetchExt {
		return m, nil
	}
	dir, err := k.store.open(e.name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) { // sealed or removed just now
			return m, nil
		}
		return m, err
	}
	defer dir.Close() //nolint:errcheck // only read
	if e.ext == "" {
		m, _, err = readManifest(dir, e.ref)
		return m, err
	}
	p, err := readPlan(dir, e.ref)
	if err != nil || p.State != dumped {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return Manifest{}, err
	}
	return p.Manifest, nil
}

// Remove removes a checkpoint that nothing is being restored from.
func (k *Keeper) Remove(_ context.Context, r Ref) error {
	release, err := k.locks.idle(r)
	if err != nil {
		return err
	}
	defer release()
	name, sealed, err := k.store.find(r)
	if err != nil {
		return err
	}
	if !sealed && !k.mayEnd(entry{ref: r, name: name, ext: partialExt}) {
		return fmt.Errorf("%w: another node is taking checkpoint %s", ErrBusy, r)
	}
	return k.store.remove(name)
}

// Prune removes the checkpoints of jobs that wanted does not want, and of those it wants all but the newest Keep. Now and then it removes what
// drivers have left of containers that are gone.
func (k *Keeper) Prune(ctx context.Context, wanted func(job string) bool) error {
	jobs, err := k.store.jobs()
	if err != nil {
		return err
	}
	var errs []error
	for _, job := range jobs {
		if ctx.Err() != nil {
			break
		}
		keep := 0
		if wanted(job) {
			keep = max(1, k.o.Keep)
		}
		errs = append(errs, k.pruneJob(job, keep))
	}
	if k.sweepDue(time.Now()) {
		k.sweepConf(ctx)
	}
	return errors.Join(errs...)
}

func (k *Keeper) pruneJob(job string, keep int) error {
	entries, err := k.store.entries(job)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range slices.Backward(entries) {
		if e.ext == fetchExt && keep > 0 && !k.left(e) {
			continue // one that comes in, or may be asked for again
		}
		if m, err := k.glance(e); keep > 0 && e.ext != goneExt && e.ext != fetchExt && err == nil {
			if m.Sequence > 0 {
				keep--
			}
			continue // one that is being made counts for nothing
		}
		if !k.mayEnd(e) {
			continue
		}
		if _, err := k.glance(e); err != nil && keep > 0 && !errors.Is(err, ErrDamaged) {
			k.log.Warn("a checkpoint can't be read now", "checkpoint", e.ref.String(), "err", err)
			continue
		}
		release, err := k.locks.idle(e.ref)
		if err != nil {
			continue // in use: next time
		}
		errs = append(errs, k.store.remove(e.name))
		release()
	}
	if err := errors.Join(errs...); err != nil || keep > 0 || k.o.Shared { // another node may be beginning one just now
		return err
	}
	if left, err := k.store.entries(job); err == nil && len(left) == 0 {
		return k.store.root.RemoveAll(job) // with its counter
	}
	return nil
}

// Recover takes up what a former agent has begun and not ended: a dump under way is waited for (at most its time), complete images are
// kept, for Seal; all else is undone, and the container thawed. It returns the checkpoints that are complete and whose container has
// exited without their agent having noted it, newest last. Beside a RecoverError that holds for all but the checkpoints that it names.
func (k *Keeper) Recover(ctx context.Context) (list []Manifest, err error) {
	if err := k.sweepTests(ctx); err != nil {
		if client.IsErrConnectionFailed(err) && !k.anything() {
			return nil, nil // no Docker, and nothing that waits for it
		}
		return nil, err
	}
	jobs, err := k.store.jobs()
	if err != nil {
		return nil, err
	}
	failed := RecoverError{}
	for _, job := range jobs {
		entries, err := k.store.entries(job)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			m, err := k.takeUp(ctx, e)
			if err != nil {
				failed[e.ref] = err
				continue
			}
			if m.Sequence > 0 && !m.Kept {
				list = append(list, m)
			}
		}
	}
	k.sweepConf(ctx)
	slices.SortStableFunc(list, func(a, b Manifest) int { return cmp.Compare(a.Taken.UnixNano(), b.Taken.UnixNano()) })
	if len(failed) > 0 {
		return list, failed
	}
	return list, nil
}

// Complete ends what a Take that returned ErrStopped has left. ErrNone: there is no checkpoint after all, and the container runs on if it has not
// ended. After any other error it is to be called again.
func (k *Keeper) Complete(ctx context.Context, r Ref) (m Manifest, err error) {
	release, err := k.locks.sealing(ctx, r)
	if err != nil {
		return m, err
	}
	defer release()
	name, sealed, err := k.store.find(r)
	if err != nil {
		return m, err
	}
	e := entry{ref: r, name: name, ext: partialExt}
	if sealed {
		m, err = k.glance(entry{ref: r, name: name})
	} else {
		m, err = k.takeUp(ctx, e)
	}
	if err == nil && m.Sequence == 0 {
		return m, fmt.Errorf("checkpoint %s: %w: its dump had not ended", r, ErrNone)
	}
	return m, err
}

// anything says whether the store has anything that Docker must be asked about.
func (k *Keeper) anything() bool {
	jobs, err := k.store.jobs()
	return err != nil || len(jobs) > 0
}

// takeUp ends or undoes what one directory is left of.
func (k *Keeper) takeUp(ctx context.Context, e entry) (m Manifest, err error) {
	switch {
	case e.ext == "" || !k.mayEnd(e):
		return m, nil
	case e.ext == goneExt:
		return m, k.store.remove(e.name)
	case e.ext == fetchExt:
		return m, k.takeUpFetch(e)
	}
	dir, err := k.store.open(e.name)
	if err != nil {
		return m, err
	}
	defer dir.Close() //nolint:errcheck // each write was synced
	p, err := readPlan(dir, e.ref)
	if errors.Is(err, fs.ErrNotExist) {
		if _, _, merr := readManifest(dir, e.ref); merr == nil {
			return m, k.finish(e.ref) // it was about to be named
		}
	}
	if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, fs.ErrNotExist) {
		return m, err // an error that passes: it may be a whole checkpoint
	}
	if err != nil || p.State == begun {
		k.log.Info("a checkpoint that was just begun is removed", "checkpoint", e.ref.String())
		return m, k.store.remove(e.name)
	}
	if err := k.torn(dir, p); err != nil {
		if !errors.Is(err, ErrDamaged) {
			return m, err
		}
		k.log.Error("a checkpoint was not on the disk yet when the machine stopped: it is removed", "checkpoint", e.ref.String(), "err", err)
		return m, k.store.remove(e.name)
	}
	if p.State == dumping {
		if done, err := k.awaitDump(ctx, dir, e, &p); err != nil || !done {
			return m, err
		}
	}
	if p.Manifest.Kept {
		return p.Manifest, k.release(ctx, p.Manifest.Container.ID)
	}
	return p.Manifest, nil
}

// awaitDump waits for a dump that has outlived its agent, and completes the checkpoint if it has succeeded; else it is undone.
func (k *Keeper) awaitDump(ctx context.Context, dir *os.Root, e entry, p *plan) (done bool, err error) {
	base := k.store.path(e.name)
	work, id := filepath.Join(base, workName), p.Manifest.Container.ID
	k.awaitWork(ctx, base, work, limit(k.o.DumpTime, p.Manifest.Resident))
	c, err := k.inspect(ctx, id)
	gone := errdefs.IsNotFound(err)
	if err != nil && !gone {
		return false, err
	}
	images, runs := filepath.Join(base, imagesName), !gone && c.State.Running
	whole := complete(images, work)
	if !gone && !p.Manifest.Kept { // CRIU has ended its processes; Docker notices some tenths of a second later
		whole = ended(images, work, func(within time.Duration) bool { return k.ends(ctx, id, within) })
		runs = runs && !whole
	}
	if !gone && whole && runs == p.Manifest.Kept {
		if !p.Manifest.Kept {
			if _, err := k.o.Engine.Wait(ctx, id); err != nil {
				return false, err
			}
			if err := packFile(ctx, upperDir(c), dir); err != nil {
				return false, err
			}
		}
		_ = os.Remove(filepath.Join(work, "images.link")) // the docker driver's
		p.Manifest.Dump = readDump(work)
		k.log.Info("a checkpoint that outlived its agent is complete", "checkpoint", e.ref.String(), "container", id)
		return true, p.complete(dir)
	}
	if !gone {
		if err := k.release(ctx, id); err != nil {
			return false, err
		}
	}
	k.log.Warn("a checkpoint that was under way is undone", "checkpoint", e.ref.String(), "container", id, "runs", runs, "complete", whole)
	return false, k.store.remove(e.name)
}

// ends says whether a container ends within a time.
func (k *Keeper) ends(ctx context.Context, id string, within time.Duration) bool {
	ctx, stop := context.WithTimeout(ctx, within)
	defer stop()
	_, err := k.o.Engine.Wait(ctx, id)
	return err == nil
}

// awaitWork waits for CRIU and runc at work on files below a directory, and for the process that dumps into work; those that take too long are killed.
func (k *Keeper) awaitWork(ctx context.Context, dir, work string, most time.Duration) {
	until := time.Now().Add(most)
	for {
		p, ours := dumper(work)
		others := openedBelow(k.proc(), dir)
		if !ours && len(others) == 0 || ctx.Err() != nil {
			return
		}
		if time.Now().After(until) {
			if ours {
				_ = unix.Kill(-p.pid, unix.SIGKILL) // its session: CRIU too
			}
			for _, pid := range others {
				_ = unix.Kill(pid, unix.SIGKILL) // may have ended just now
			}
		}
		if pause(ctx, 50*time.Millisecond) != nil {
			return
		}
	}
}

// openedBelow lists the processes of CRIU and runc that have a file below a directory open: CRIU at work for Docker has no pid that we know. The
// name matters: what CRIU puts into the processes that it dumps has the log open too, and they must not be killed.
func openedBelow(proc, dir string) (pids []int) {
	links, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "fd", "*"))
	if err != nil {
		return nil
	}
	for _, l := range links {
		to, err := os.Readlink(l)
		if err != nil || to != dir && !strings.HasPrefix(to, dir+"/") {
			continue
		}
		dir := filepath.Dir(filepath.Dir(l))
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() || slices.Contains(pids, pid) {
			continue
		}
		name, err := os.ReadFile(filepath.Join(dir, "comm"))
		if n := strings.TrimSpace(string(name)); err == nil && (n == "criu" || n == "runc") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// release thaws a container that a dump left frozen.
func (k *Keeper) release(ctx context.Context, id string) error {
	c, err := k.inspect(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !c.State.Paused {
		return nil
	}
	return k.thaw(ctx, newDrivers(k.o)[0], id)
}
