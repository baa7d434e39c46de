package ckpt

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/system"

	"qosctl/container"
)

const (
	testImage = "qosctl-selftest:2"
	testTime  = 40 * time.Second // of the whole self-test
	tryTime   = 15 * time.Second // of one dump or restore
	testLabel = "qosctl.selftest"
)

// errHangs ends a try.
var errHangs = errors.New("it hangs")

// Test runs the self-test (a tiny container is started, checkpointed and restored, by each driver until one has passed) and
// chooses the driver. It is bounded, and leaves nothing but a tiny image behind. A test that was cut off, or that Docker did not answer,
// says nothing of a driver that has passed before: it stays.
func (k *Keeper) Test(ctx context.Context) Report {
	ctx, stop := context.WithTimeout(ctx, testTime)
	defer stop()
	t := &selftest{k: k}
	name := t.run(ctx)
	r := Report{Driver: name, Checks: t.checks}
	switch before := k.Report(); {
	case name != "":
		r.Class = k.class(context.WithoutCancel(ctx), name)
	case before.Driver != "" && (ctx.Err() != nil || t.silent):
		t.found("self-test", time.Now(), fmt.Errorf("it came to no end; driver %s, which has passed before, stays", before.Driver), "", "qosctl doctor --again")
		r = Report{Driver: before.Driver, Class: before.Class, Checks: t.checks}
	}
	k.choose(r.Driver, r)
	return r
}

// selftest gathers findings.
type selftest struct {
	k      *Keeper
	checks []Check
	silent bool // Docker does not answer
}

func (t *selftest) found(name string, begin time.Time, err error, good, remedy string) bool {
	c := Check{Name: name, OK: err == nil, Text: good, Took: time.Since(begin)}
	if err != nil {
		c.Text, c.Remedy = err.Error(), remedy
	}
	t.checks = append(t.checks, c)
	return err == nil
}

// run returns the name of the driver that has passed; "": none.
func (t *selftest) run(ctx context.Context) string {
	k := t.k
	if k.o.Driver == "none" {
		t.found("driver", time.Now(), errors.New("switched off (checkpoint.driver: none)"), "", "checkpoint.driver: auto")
		return ""
	}
	begin := time.Now()
	info, err := k.o.Docker.Info(ctx)
	if !t.found("docker", begin, err, "Docker "+info.ServerVersion+" answers", "systemctl status docker; engine.docker in the configuration says where it is") {
		t.silent = true
		return ""
	}
	live := errors.New("a restart of Docker would end all containers")
	if info.LiveRestoreEnabled {
		live = nil
	}
	t.found("live-restore", time.Now(), live, "containers outlive a restart of Docker", `"live-restore": true in /etc/docker/daemon.json`)
	out, err := exec.CommandContext(ctx, "criu", "--version").CombinedOutput()
	if !t.found("criu", begin, err, strings.ReplaceAll(strings.TrimSpace(string(out)), "\n", ", "), "install criu (Debian: apt-get install criu), 4.2 or newer where jobs have IP sockets") {
		return ""
	}
	begin = time.Now()
	if !t.found("image", begin, t.image(ctx), "a tiny image for the test is there", "the error says what Docker minds") {
		return ""
	}
	for _, d := range newDrivers(k.o) {
		if k.o.Driver != "auto" && k.o.Driver != "" && k.o.Driver != d.name() {
			continue
		}
		if t.try(ctx, d, info) {
			return d.name()
		}
	}
	return ""
}

// remedyOf says what a driver lacks, and what helps if its test fails.
func remedyOf(name, runtime string, info system.Info) (remedy string, missing error) {
	if name == "docker" {
		if !info.ExperimentalBuild {
			return `"experimental": true in /etc/docker/daemon.json`, errors.New("checkpoints are switched off in Docker")
		}
		return "where this Docker can't restore (28 and its neighbours): qosctl oci-runtime install", nil
	}
	if _, ok := info.Runtimes[runtime]; !ok {
		return "qosctl oci-runtime install", errors.New("our OCI runtime is not registered with Docker")
	}
	return "criu check --all says what the kernel lacks", nil
}

// try takes a driver through a checkpoint and a restore.
func (t *selftest) try(ctx context.Context, d driver, info system.Info) bool {
	begin := time.Now()
	remedy, err := remedyOf(d.name(), t.k.o.Runtime, info)
	if err == nil {
		err = t.cycle(ctx, d, "/idle")
	}
	if errors.Is(err, errHangs) {
		remedy = "a machine without hardware breakpoints needs CRIU_FAULT=130 in CRIU's environment: a program /usr/local/sbin/criu with `CRIU_FAULT=130 exec /usr/sbin/criu \"$@\"`"
	}
	if !t.found("driver "+d.name(), begin, err, "a container was checkpointed and restored", remedy) {
		return false
	}
	begin = time.Now()
	t.found("ip sockets", begin, t.cycle(ctx, d, "/listen"), "a listening socket was checkpointed and restored",
		"jobs with IP sockets can't be checkpointed on this node; CRIU 4.2 can on every kernel")
	return true
}

// cycle starts a container, checkpoints it and restores it into another one.
func (t *selftest) cycle(ctx context.Context, d driver, program string) (err error) {
	k := t.k
	name := "qosctl-selftest-" + strings.ToLower(rand.Text()[:8])
	dir := filepath.Join(k.o.Dir, k.o.scratch(), name)
	release, err := k.locks.container(name) // no container has that name: its directory is not swept meanwhile
	if err != nil {
		return err
	}
	defer release()
	defer func() { err = errors.Join(err, t.clear(context.WithoutCancel(ctx), dir, d, name+"-1", name+"-2")) }()
	images, work, again := filepath.Join(dir, imagesName), filepath.Join(dir, workName), filepath.Join(dir, "restore")
	for _, p := range []string{images, work, again} {
		if err := os.MkdirAll(p, 0o700); err != nil {
			return fmt.Errorf("make a directory: %w", err)
		}
	}
	for i := range 2 {
		s := container.Spec{
			ID: fmt.Sprintf("%s-%d", name, i+1), Image: testImage, Args: []string{program}, Network: "none", Parent: name,
			Labels: map[string]string{testLabel: name}, Limits: container.Limits{MemBytes: 64 << 20},
		}
		if err := d.ready(&s); err != nil {
			return err
		}
		if err := k.o.Engine.Create(ctx, s); err != nil {
			return err
		}
	}
	one, two := name+"-1", name+"-2"
	if err := k.o.Engine.Start(ctx, one); err != nil {
		return err
	}
	return t.there(ctx, d, one, two, images, work, again)
}

func (t *selftest) there(ctx context.Context, d driver, one, two, images, work, again string) error {
	i, err := t.k.o.Engine.Inspect(ctx, one)
	if err != nil {
		return err
	}
	try, stop := context.WithTimeoutCause(ctx, tryTime, errHangs)
	defer stop()
	if err := d.freeze(try, one); err != nil {
		return err
	}
	if _, err := d.dump(try, dump{Container: one, Images: images, Work: work}); err != nil {
		return fmt.Errorf("dump: %w", errors.Join(err, d.thaw(context.WithoutCancel(ctx), one)))
	}
	try2, stop2 := context.WithTimeoutCause(ctx, tryTime, errHangs)
	defer stop2()
	if _, err := d.restore(try2, restore{Container: two, Images: images, Work: again, Counter: i.Cgroup}); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if _, err := t.k.place(ctx, two); err != nil { // mended if need be: a restore does the same
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

// clear removes what a cycle has made.
func (t *selftest) clear(ctx context.Context, dir string, d driver, ids ...string) error {
	ctx, stop := context.WithTimeout(ctx, tryTime)
	defer stop()
	var errs []error
	for _, id := range ids {
		err := t.k.o.Engine.Stop(ctx, id, 0)
		if errors.Is(err, container.ErrNotFound) || errors.Is(err, container.ErrNotRunning) {
			err = nil
		}
		rerr := t.k.o.Engine.Remove(ctx, id)
		if errors.Is(rerr, container.ErrNotFound) {
			rerr = nil
		}
		errs = append(errs, err, rerr)
		conf{filepath.Join(t.k.o.Dir, t.k.o.conf()), id}.clear()
	}
	if err := errors.Join(append(errs, RemoveAll(dir))...); err != nil {
		return fmt.Errorf("clear up after the test of driver %s: %w", d.name(), err)
	}
	return nil
}

// sweepTests removes containers that a self-test of a killed agent has left.
func (k *Keeper) sweepTests(ctx context.Context) error {
	list, err := k.o.Docker.ContainerList(ctx, dcontainer.ListOptions{All: true})
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	var errs []error
	for _, c := range list {
		if _, ok := c.Labels[testLabel]; ok {
			errs = append(errs, k.o.Docker.ContainerRemove(ctx, c.ID, dcontainer.RemoveOptions{Force: true}))
		}
	}
	return errors.Join(errs...)
}

// image makes the test's image, once: two programs of a hundred bytes.
func (t *selftest) image(ctx context.Context) error {
	_, err := t.k.o.Docker.ImageInspect(ctx, testImage)
	if err == nil || !errdefs.IsNotFound(err) {
		return err
	}
	idle, listen, err := testPrograms()
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, program := range map[string][]byte{"idle": idle, "listen": listen} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Typeflag: tar.TypeReg, Size: int64(len(program))}); err != nil {
			return fmt.Errorf("make an image: %w", err)
		}
		if _, err := w.Write(program); err != nil {
			return fmt.Errorf("make an image: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("make an image: %w", err)
	}
	r, err := t.k.o.Docker.ImageImport(ctx, image.ImportSource{Source: &buf, SourceName: "-"}, testImage, image.ImportOptions{})
	if err != nil {
		return fmt.Errorf("import an image: %w", err)
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}

// clone is a report whose findings its reader may keep.
func (r Report) clone() Report {
	r.Checks = slices.Clone(r.Checks)
	return r
}
