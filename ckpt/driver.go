package ckpt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"qosctl/cgroup"
	"qosctl/container"
)

// driver lets CRIU dump and restore containers. Both methods are bounded by their context: when it ends they stop CRIU (by its pid), and
// leave the container running and thawed (dump) or not running (restore).
type driver interface {
	// name is docker or runtime.
	name() string
	// ready adds to the spec of a container that is about to be created what it takes to be dumped and restored by this driver.
	ready(s *container.Spec) error
	// freeze stops the container's processes, so that counters and files can be read; thaw lets them go on. dump takes a frozen container.
	freeze(ctx context.Context, id string) error
	thaw(ctx context.Context, id string) error
	// dump writes the processes of a frozen container to d.Images. Unless d.Keep they are gone then, and the container has exited;
	// with it they are still frozen.
	dump(ctx context.Context, d dump) (DumpStats, error)
	// restore starts a created container from r.Images. zero is the counter of r.Counter when its processes were let go.
	restore(ctx context.Context, r restore) (restored, error)
}

// dump is one order to a driver.
type dump struct {
	Container string // the engine's id
	Images    string // directory for CRIU's images, empty
	Work      string // directory for its log and statistics
	Keep      bool
	Allow     Allow
	Init      bool // docker-init is its first process
}

// restore is one order to a driver.
type restore struct {
	Container string
	Images    string
	Work      string
	Counter   cgroup.Group // whose reading is wanted at the moment when the processes are let go
	Allow     Allow
	Init      bool
}

type restored struct {
	RestoreStats
	Zero int64 // nanoseconds
}

// Names of files in a work directory.
const (
	dumpLog    = "dump.log"
	restoreLog = "restore.log"
	pidName    = "pid"  // of the process that dumps: pid and start time, for a Keeper that comes later
	zeroName   = "zero" // the counter when the processes were let go
	dumpDone   = "Dumping finished successfully"

	restoreDone = "Restore finished successfully"
)

// base is what both drivers have.
type base struct {
	docker  *client.Client
	cgroups *cgroup.FS
	conf    string // directory of the configuration files
	proc    string
}

// newDrivers are the drivers in the order in which they are tried.
func newDrivers(o Options) []driver {
	b := base{docker: o.Docker, cgroups: o.Cgroups, conf: filepath.Join(o.Dir, o.conf()), proc: cmp.Or(o.Proc, "/proc")}
	return []driver{&runtimeDriver{base: b, runtime: o.Runtime, helper: o.Helper}, &dockerDriver{base: b}}
}

func (b base) confOf(id string) conf { return conf{b.conf, id} }

// v2 says whether this host has cgroup v2 alone.
func (b base) v2() bool { return b.cgroups.Mode() == cgroup.V2 }

func (b base) freeze(ctx context.Context, id string) error {
	err := b.docker.ContainerPause(ctx, id)
	if err != nil && strings.Contains(err.Error(), "already paused") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("freeze container %s: %w", id, err)
	}
	return nil
}

func (b base) thaw(ctx context.Context, id string) error {
	err := b.docker.ContainerUnpause(ctx, id)
	if err != nil && strings.Contains(err.Error(), "not paused") {
		err = b.thawAgain(ctx, id)
	}
	if err != nil {
		return fmt.Errorf("thaw container %s: %w", id, err)
	}
	return nil
}

// thawAgain thaws a container that Docker holds for frozen and runc does not: CRIU thaws the cgroup as soon as it holds the processes, and if
// it was killed then, Docker can't unpause them. They are frozen once more.
func (b base) thawAgain(ctx context.Context, id string) error {
	c, err := b.docker.ContainerInspect(ctx, id)
	if err != nil || !c.State.Paused {
		return err
	}
	root, err := rootOf(c.ID)
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "runc", "--root", root, "pause", c.ID).CombinedOutput()
	if err != nil {
		return fmt.Errorf("runc pause: %w: %s", err, lastWords(out))
	}
	return b.docker.ContainerUnpause(ctx, id)
}

// exited waits until Docker knows that a container has ended.
func (b base) exited(ctx context.Context, id string) error {
	for {
		c, err := b.docker.ContainerInspect(ctx, id)
		if err != nil && !client.IsErrConnectionFailed(err) {
			return fmt.Errorf("look at container %s: %w", id, err)
		}
		if err == nil && !c.State.Running && !c.State.Paused { // a daemon that is away is waited for
			return nil
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("container %s does not end: %w", id, err)
		}
	}
}

// runs checks that a restored container does, or did: a job that was checkpointed at its end has ended again by now.
func (b base) runs(ctx context.Context, r restore) error {
	c, err := b.docker.ContainerInspect(ctx, r.Container)
	if err != nil {
		return fmt.Errorf("look at container %s: %w", r.Container, err)
	}
	if c.State.Running && c.State.Pid > 0 || !c.State.Running && succeeded(filepath.Join(r.Work, restoreLog), restoreDone) {
		return nil
	}
	return fmt.Errorf("container %s is %s (exit code %d)", r.Container, c.State.Status, c.State.ExitCode)
}

// zero reads what the hook has written.
func (b base) zero(work string) (int64, error) {
	text, err := os.ReadFile(filepath.Join(work, zeroName))
	if err != nil {
		return 0, fmt.Errorf("read the counter at the restore's end: %w", err)
	}
	return parseZero(strings.TrimSpace(string(text)))
}

// prepareRestore writes the configuration of a restore; held: the processes stay frozen until they are let go.
func (b base) prepareRestore(r restore, held bool, more ...string) (conf, error) {
	c := b.confOf(r.Container)
	if err := c.writeHook(b.cgroups, r.Counter, r.Work, held); err != nil {
		return c, err
	}
	lines := append(criuOptions(r.Allow, b.v2()), "action-script "+c.hook())
	if r.Init { // docker-init's mounts can't be restored otherwise; a dump refuses the option
		lines = append(lines, "mntns-compat-mode")
	}
	return c, c.writeCRIU(append(lines, more...))
}

// begin starts a container that is to be restored. When ctx ends, whatever is restoring it is killed, with what it has made so far: Docker
// would wait for it for ever. So is a CRIU that has outlived the runc that Docker says has failed.
func (b base) begin(ctx context.Context, r restore, checkpoint string) error {
	c, err := b.docker.ContainerInspect(ctx, r.Container)
	if err != nil {
		return fmt.Errorf("look at container %s: %w", r.Container, err)
	}
	end := func(ctx context.Context) {
		b.endWork(ctx, c.ID, "restore", r.Work)
		_ = b.cgroups.Kill(ctx, filepath.Join(c.HostConfig.CgroupParent, c.ID)) // most likely nothing is in it
	}
	err = insist(ctx, end, func(ctx context.Context) error {
		return b.docker.ContainerStart(ctx, r.Container, dcontainer.StartOptions{CheckpointID: checkpoint})
	})
	if err == nil || ctx.Err() != nil {
		return err
	}
	if now, lerr := b.docker.ContainerInspect(ctx, r.Container); lerr == nil && !now.State.Running {
		last, stop := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
		defer stop()
		end(last)
	}
	return err
}

// endDump ends what is at work on a dump that has failed: CRIU outlives a runc that was killed, and would end the container later.
func (b base) endDump(ctx context.Context, dockerID, work string) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer stop()
	b.endWork(ctx, dockerID, "checkpoint", work)
}

// restored finishes a restore whose start was answered.
func (b base) restored(ctx context.Context, r restore, begin time.Time, err error) (restored, error) {
	if err == nil {
		err = b.runs(ctx, r)
	}
	if err != nil {
		return restored{}, withLog(err, filepath.Join(r.Work, restoreLog))
	}
	out := restored{RestoreStats: readRestore(r.Work)}
	out.Whole = time.Since(begin)
	if out.Zero, err = b.zero(r.Work); err != nil {
		return restored{}, err
	}
	return out, nil
}

// withLog adds what CRIU's log says to an error, in words.
func withLog(err error, log string) error {
	err = oneLine{err}
	switch text := explain(log); {
	case text != "":
		return fmt.Errorf("%s: %w", text, err)
	case strings.Contains(err.Error(), "unixpacket"): // runc's socket to CRIU
		return fmt.Errorf("CRIU ended without a word: somebody has killed it, or the machine had no memory left: %w", err)
	}
	return err
}

// oneLine is an error whose text is one line: runc's has two.
type oneLine struct{ error }

func (e oneLine) Error() string { return strings.Join(strings.Fields(e.error.Error()), " ") }
func (e oneLine) Unwrap() error { return e.error }

// ended says whether a dump has ended the container's processes. CRIU ends them when all images are written, the inventory last, and says so in
// its log after that: one that was killed in between has not said it, and the images are all that there is of the job. ends waits a while
// for the container's end.
func ended(images, work string, ends func(within time.Duration) bool) bool {
	if complete(images, work) {
		return ends(undoTime)
	}
	return inventoried(images) && ends(killTime)
}

// complete says whether a dump was finished: CRIU says so at the end of its log.
func complete(images, work string) bool {
	return inventoried(images) && succeeded(filepath.Join(work, dumpLog), dumpDone)
}

func inventoried(images string) bool {
	i, err := os.Stat(filepath.Join(images, "inventory.img"))
	return err == nil && i.Size() > 0
}

// process is a program that may outlive us, by its pid and start time.
type process struct {
	pid   int
	start string
}

// processOf reads the start time of a process: a pid alone may be somebody else's by now.
func processOf(pid int) (process, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	_, rest, ok := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if !ok || len(f) < 20 {
		return process{}, errors.New("/proc/PID/stat has another form")
	}
	return process{pid, f[19]}, nil
}

func (p process) String() string { return strconv.Itoa(p.pid) + " " + p.start }

// dumper is the process that dumps into a work directory; false: it has ended, or there never was one.
func dumper(work string) (process, bool) {
	b, err := os.ReadFile(filepath.Join(work, pidName))
	if err != nil {
		return process{}, false
	}
	var p process
	if _, err := fmt.Sscanf(string(b), "%d %s", &p.pid, &p.start); err != nil || p.pid <= 1 {
		return process{}, false
	}
	now, err := processOf(p.pid)
	return p, err == nil && now == p
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
