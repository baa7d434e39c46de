package ckpt

import (
	"context"
	"log/slog"
	"time"

	"github.com/docker/docker/client"

	"qosctl/cgroup"
	"qosctl/container"
)

// Options are what a Keeper is made of.
type Options struct {
	Dir         string           // of the checkpoints, mode 0700; CRIU's configuration files stand in <Dir>/.conf
	Node        string           // this node's name
	Engine      container.Engine // that holds the containers: Docker
	Docker      *client.Client   // the same Docker
	Cgroups     *cgroup.FS       //
	Proc        string           // "/proc"
	Driver      string           // auto, docker, runtime, none
	Runtime     string           // name by which our OCI runtime is registered with Docker: "qosctl"
	Keep        int              // checkpoints of a job; the newest are kept
	MaxBytes    int64            // of all checkpoints together; 0: what the disk has
	DumpTime    time.Duration    // a dump that takes longer is stopped; plus a second for each 64 MiB resident
	RestoreTime time.Duration    // likewise
	Logger      *slog.Logger     // nil: nothing is logged
}

// Keeper keeps a node's checkpoints. All methods may be called at once; two operations on one container are not done at once (ErrBusy).
type Keeper struct {
	o Options
}

// Report says which driver was chosen, and what every check found.
type Report struct {
	Driver string  `json:"driver"` // "": none, jobs are resized in place only
	Class  Class   `json:"class"`
	Checks []Check `json:"checks"`
}

// Check is one finding of the self-test.
type Check struct {
	Name   string        `json:"name"`
	OK     bool          `json:"ok"`
	Text   string        `json:"text"`
	Remedy string        `json:"remedy,omitempty"` // what to do about it
	Took   time.Duration `json:"took,omitempty"`
}

// New opens the store. It starts nothing.
func New(o Options) (*Keeper, error) { return &Keeper{o: o}, nil }

// Test runs the self-test (a tiny container is started, checkpointed and restored, by each driver until one has passed; at most 30 s) and
// chooses the driver.
func (k *Keeper) Test(ctx context.Context) Report { return Report{} }

// Report is what the last Test found.
func (k *Keeper) Report() Report { return Report{} }

// Prepare adds to the spec of a container that is about to be created what its checkpoints need: the OCI runtime and annotations.
// Without a driver it does nothing.
func (k *Keeper) Prepare(s *container.Spec) error { return nil }

// Take checkpoints a container. When it returns the images and the writable layer are complete, and the container has exited, or runs on if
// o.Keep. After an error that wraps ErrDump or ErrRefused the container runs on as before.
func (k *Keeper) Take(ctx context.Context, o Order) (Manifest, error) { return Manifest{}, ErrDisabled }

// Seal hashes, syncs and names what Take has taken; digest is the SHA-256 of the manifest. One that is sealed is only looked at.
func (k *Keeper) Seal(ctx context.Context, r Ref) (m Manifest, digest string, err error) {
	return m, "", ErrDisabled
}

// Restorable says why a checkpoint can't be restored into a container made of s, in words; nil if nothing is known against it: class,
// image, mounts, TTY, memory.
func (k *Keeper) Restorable(ctx context.Context, r Ref, s container.Spec) error { return ErrDisabled }

// Restore makes the container of s, with the checkpoint's changed files, and starts it from the checkpoint. It returns when the processes run, in
// the right cgroup, with the limits of s in force. After an error there is no container of s.
func (k *Keeper) Restore(ctx context.Context, r Ref, s container.Spec) (Restored, error) {
	return Restored{}, ErrDisabled
}

// Resumed says what became of the restore of a checkpoint into container id that a former agent began: what Restore, or Back, would have
// returned had it lived. ErrNone: its processes were never let go. (Restore writes this down, in the checkpoint's work directory, by container.)
func (k *Keeper) Resumed(ctx context.Context, r Ref, id string) (Restored, error) {
	return Restored{}, ErrNone
}

// Back restores a checkpoint into the container that it was taken of, which must still be there, exited.
func (k *Keeper) Back(ctx context.Context, r Ref) (Restored, error) { return Restored{}, ErrDisabled }

// List describes the checkpoints of a job, or of all ("") in order of job and sequence. A partial one has no Files; a damaged one is left out and logged.
func (k *Keeper) List(ctx context.Context, job string) ([]Manifest, error) { return nil, nil }

// Verify reads a sealed checkpoint whole and compares it with its manifest: ErrDamaged names the file.
func (k *Keeper) Verify(ctx context.Context, r Ref) (Manifest, error) { return Manifest{}, ErrDisabled }

// Remove removes a checkpoint that nothing is being restored from.
func (k *Keeper) Remove(ctx context.Context, r Ref) error { return ErrDisabled }

// Prune removes the checkpoints of jobs that wanted does not want, and of those it wants all but the newest Keep.
func (k *Keeper) Prune(ctx context.Context, wanted func(job string) bool) error { return nil }

// Recover takes up what a former agent has begun and not ended: a dump under way is waited for (at most its time), complete images are
// kept, for Seal; all else is undone, and the container thawed. It returns the checkpoints that are complete and whose container has
// exited without their agent having noted it, newest last.
func (k *Keeper) Recover(ctx context.Context) ([]Manifest, error) { return nil, nil }
