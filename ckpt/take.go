package ckpt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"qosctl/cgroup"
)

// undoTime bounds each step of what is done after a failure or an end of the caller's context: thawing, waiting for an exit, clearing up.
const undoTime = 30 * time.Second

// killTime is how long processes that were told to die may take to give their memory back.
const killTime = 5 * time.Second

var (
	errLimit  = errors.New("its time limit has passed")
	errFrozen = errors.New("its images are complete, and it stands frozen")
)

// taking is a checkpoint in the making.
type taking struct {
	k      *Keeper
	d      driver
	o      Order
	s      subject
	ref    Ref
	dir    *os.Root
	path   string
	plan   plan
	began  time.Time
	unhold func() // of the container's root file system
}

// Take checkpoints a container. When it returns the images and the writable layer are complete, and the container has exited, or runs on if
// o.Keep. After an error that wraps ErrDump or ErrRefused the container runs on as before (a BackError: once more). After ErrStopped it does not (it
// may stand frozen), or nobody knows: its images are kept, and Complete is to be called for the checkpoint that is returned.
func (k *Keeper) Take(ctx context.Context, o Order) (Manifest, error) {
	t := &taking{k: k, o: o, d: k.chosen(), began: time.Now()}
	if t.d == nil || k.docker == nil {
		return Manifest{}, ErrDisabled
	}
	if err := o.check(); err != nil {
		return Manifest{}, err
	}
	release, err := k.locks.container(o.Container)
	if err != nil {
		return Manifest{}, err
	}
	defer release()
	select { // one dump at a time: two would only make both freezes longer
	case k.disk <- struct{}{}:
		defer func() { <-k.disk }()
	case <-ctx.Done():
		return Manifest{}, fmt.Errorf("%w: wait for the one before: %w", ErrDump, context.Cause(ctx))
	}
	if t.s, err = k.preflight(ctx, o); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ErrDump, err)
		}
		return Manifest{}, err
	}
	leave, err := t.begin(ctx)
	if err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrDump, noSpace(err))
	}
	defer leave()
	defer t.dir.Close()
	t.unhold = k.mounts.hold(o.Container, t.s.info.GraphDriver.Data["MergedDir"])
	defer t.unhold()
	k.step("begun")
	if err = t.run(ctx); err != nil {
		if errors.Is(err, ErrStopped) {
			return t.plan.Manifest, err
		}
		return Manifest{}, err
	}
	k.log.Info("checkpoint taken", "job", o.Job, "container", o.Container, "checkpoint", t.ref.String(),
		"cpu", t.plan.Manifest.CPU, "resident", t.plan.Manifest.Resident, "took", t.plan.Manifest.Dump.Whole)
	return t.plan.Manifest, nil
}

// begin makes the directory with its plan.
func (t *taking) begin(ctx context.Context) (leave func(), err error) {
	k, o, c := t.k, t.o, t.s.info
	if t.ref, err = k.store.next(o.Job, o.After); err != nil {
		return nil, err
	}
	if leave, err = k.locks.share(ctx, t.ref); err != nil {
		return nil, err
	}
	memory := resident(k.proc(), t.s.pids)
	t.plan = plan{State: begun, Group: o.Group, Limit: limit(k.o.DumpTime, memory), Boot: k.boot(), Manifest: Manifest{
		Version: formatVersion, Job: o.Job, Name: o.Name, Sequence: t.ref.Sequence, Epoch: o.Epoch, Execution: o.Execution, Incarnation: o.Incarnation,
		Node: k.o.Node, Class: k.Report().Class, Resident: memory, Kept: o.Keep, Allow: o.Allow, Taken: t.began, Reason: o.Reason, Spec: o.Spec,
		Container: Container{
			ID: o.Container, Engine: c.ID, Image: c.Config.Image, ImageID: c.Image, Mounts: destinations(c), Volumes: anonymous(c), TTY: c.Config.Tty, Stdin: c.Config.OpenStdin,
			Init: c.HostConfig.Init != nil && *c.HostConfig.Init, StatContainer: o.Container, Cgroup: t.counted(),
		},
	}}
	name := t.ref.partial()
	t.path = k.store.path(name)
	if err = t.lay(name); err != nil {
		leave()
		if t.dir == nil { // it is not ours
			return nil, err
		}
		return nil, errors.Join(err, t.dir.Close(), k.store.root.RemoveAll(name))
	}
	return leave, nil
}

func (t *taking) counted() string {
	if t.o.Group.CPUAcct != "" {
		return t.o.Group.CPUAcct
	}
	return t.o.Group.CPU
}

func (t *taking) lay(name string) (err error) {
	if err = t.k.store.root.Mkdir(name, 0o700); err != nil { // in a shared directory another node may have taken the sequence
		return fmt.Errorf("make the checkpoint's directory: %w", err)
	}
	if t.dir, err = t.k.store.open(name); err != nil {
		return err
	}
	for _, sub := range []string{imagesName, workName} {
		if err = t.dir.Mkdir(sub, 0o700); err != nil {
			return err
		}
	}
	return writePlan(t.dir, t.plan)
}

// limit is how long a dump or a restore of so much memory may take.
func limit(base time.Duration, memory int64) time.Duration {
	if base <= 0 {
		base = time.Minute
	}
	return base + time.Duration(memory>>26)*time.Second
}

// run freezes, dumps and thaws. It undoes what it began when it fails.
func (t *taking) run(ctx context.Context) error {
	lctx, stop := context.WithTimeoutCause(ctx, t.plan.Limit, errLimit)
	defer stop()
	err := t.freeze(lctx)
	if err == nil {
		err = t.images(lctx)
	}
	if err != nil && (t.o.Keep || !t.over(ctx)) {
		return t.undo(ctx, err)
	}
	if err != nil {
		t.plan.Manifest.Dump = readDump(filepath.Join(t.path, workName))
		t.k.log.Warn("the dump is complete all the same", "container", t.o.Container, "checkpoint", t.ref.String(), "err", err)
	}
	if !t.o.Keep {
		if err = t.exited(ctx); err != nil {
			return t.back(ctx, err)
		}
	}
	t.plan.Manifest.Dump.Whole = time.Since(t.began)
	if err = t.plan.complete(t.dir); err != nil {
		if t.o.Keep {
			return t.undo(ctx, err)
		}
		return t.back(ctx, err)
	}
	t.k.step("dumped")
	if t.o.Keep {
		if err := t.thaw(ctx); err != nil {
			return t.stopped(errFrozen, err)
		}
	}
	return nil
}

// freeze stops the processes and notes what they have had.
func (t *taking) freeze(ctx context.Context) error {
	t.plan.State = dumping // from here on a crash may leave it frozen
	if err := writePlan(t.dir, t.plan); err != nil {
		return err
	}
	if err := t.still(ctx); err != nil {
		return err
	}
	t.k.step("frozen")
	now, err := t.k.host.counter(t.o.Group)
	if err != nil {
		return fmt.Errorf("read the CPU time of container %s: %w", t.o.Container, err)
	}
	if now < t.o.Zero {
		t.k.log.Warn("the counter stands below where the incarnation began", "container", t.o.Container, "counter", now, "zero", t.o.Zero)
	}
	m := &t.plan.Manifest
	m.Counter, m.CPU = now, t.o.Base+max(0, now-t.o.Zero)
	m.Resident = max(m.Resident, resident(t.k.proc(), t.s.pids))
	if err = writePlan(t.dir, t.plan); err != nil {
		return err
	}
	t.k.step("noted")
	return nil
}

// images has the driver dump. A container that goes on running has its layer copied first: whoever finds complete images then has all.
func (t *taking) images(ctx context.Context) error {
	if t.o.Keep {
		if err := t.layer(ctx); err != nil {
			return err
		}
		t.k.step("layer")
	}
	stats, err := t.d.dump(ctx, dump{
		Container: t.o.Container, Images: filepath.Join(t.path, imagesName), Work: filepath.Join(t.path, workName),
		Keep: t.o.Keep, Allow: t.o.Allow, Init: t.plan.Manifest.Container.Init,
	})
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		return err
	}
	t.plan.Manifest.Dump = stats
	t.k.step("images")
	return nil
}

// layer copies the writable layer; where it can't be reached nothing may be in it.
func (t *taking) layer(ctx context.Context) error {
	return t.k.layer(ctx, t.s, t.dir)
}

func (k *Keeper) layer(ctx context.Context, s subject, dir *os.Root) error {
	if s.upper == "" {
		if err := k.unchanged(ctx, s.info); err != nil {
			return err
		}
	}
	return packFile(ctx, s.upper, dir)
}

// over says whether a dump that was reported as failed has in truth ended: images complete and the container gone.
func (t *taking) over(ctx context.Context) bool {
	return ended(filepath.Join(t.path, imagesName), filepath.Join(t.path, workName), func(within time.Duration) bool {
		return t.k.ends(context.WithoutCancel(ctx), t.o.Container, within)
	})
}

// exited waits until the container has exited, then copies its layer. The processes are gone: the caller's patience no longer matters.
func (t *taking) exited(ctx context.Context) error {
	ctx, stop := context.WithTimeoutCause(context.WithoutCancel(ctx), undoTime, errLimit)
	defer stop()
	if _, err := t.k.o.Engine.Wait(ctx, t.o.Container); err != nil {
		return fmt.Errorf("wait for the exit of container %s: %w", t.o.Container, err)
	}
	t.k.step("exited")
	lctx, stop := context.WithTimeoutCause(context.WithoutCancel(ctx), limit(t.k.o.DumpTime, t.s.need), errLimit)
	defer stop()
	if err := t.layer(lctx); err != nil {
		return err
	}
	t.k.step("layer")
	return nil
}

func (t *taking) thaw(ctx context.Context) error { return t.k.thaw(ctx, t.d, t.o.Container) }

// thaw lets a container go on, whatever became of the caller's context. It tries for as long as undoTime: a container left frozen does nothing
// for ever.
func (k *Keeper) thaw(ctx context.Context, d driver, id string) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer stop()
	again := time.NewTicker(500 * time.Millisecond)
	defer again.Stop()
	for {
		err := d.thaw(ctx, id)
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("container %s may be left frozen, let it go on with docker unpause or its cgroup's freezer: %w", id, err)
		}
	}
}

// undo thaws the container and removes what was made. A container that can't be thawed keeps its plan, for Complete.
func (t *taking) undo(ctx context.Context, cause error) error {
	if err := t.thaw(ctx); err != nil { // Docker can't be asked: it may have ended, or stand frozen, and by its plan alone somebody looks after it
		return t.stopped(cause, err)
	}
	err := fmt.Errorf("%w: %w", ErrDump, noSpace(cause))
	if errors.Is(cause, ErrRefused) {
		err = cause
	}
	if rerr := t.k.store.remove(t.ref.partial()); rerr != nil {
		err = errors.Join(err, rerr)
	}
	return err
}

// back is the way back when the images are complete, the container is gone and the rest failed: it is restored where it was. If that fails too
// the images stay for Recover.
func (t *taking) back(ctx context.Context, cause error) error {
	ctx = context.WithoutCancel(ctx)
	since := time.Now()
	t.unhold()
	out, err := t.k.back(ctx, t.d, t.plan, t.path)
	if err != nil {
		return t.stopped(cause, err)
	}
	err = fmt.Errorf("%w: %w", ErrDump, noSpace(cause))
	if rerr := t.k.store.remove(t.ref.partial()); rerr != nil {
		err = errors.Join(err, rerr)
	}
	return &BackError{Since: since, Overhead: max(0, out.Zero-t.plan.Manifest.Counter), Err: err}
}

// stopped is an error after which the images are all that there is of the job.
func (t *taking) stopped(cause, why error) error {
	t.k.log.Error("container is stopped, its checkpoint not complete", "container", t.o.Container, "checkpoint", t.ref.String(), "cause", cause, "err", why)
	return fmt.Errorf("container %s: %w: %w; %w", t.o.Container, ErrStopped, noSpace(cause), why)
}

// noSpace lets callers see a full disk as ErrSpace.
func noSpace(err error) error {
	full := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || err != nil && strings.Contains(err.Error(), "No space left on device")
	if full && !errors.Is(err, ErrSpace) {
		return fmt.Errorf("%w: %w", ErrSpace, err)
	}
	return err
}

// host is what a Keeper asks of the kernel.
type host interface {
	counter(g cgroup.Group) (time.Duration, error)
	pids(g cgroup.Group) ([]int, error)
	of(pid int) (cgroup.Group, error)
	move(g cgroup.Group, pid int) error
	cpus(g cgroup.Group) (float64, error) // quota in force
}
