package ckpt

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"qosctl/container"
)

// runtimeDriver uses runc itself: `runc checkpoint` on a container that Docker manages, which Docker sees exit, and for the restore our
// own OCI runtime (package ociruntime), so that Docker sees a start. It needs nothing experimental of Docker.
type runtimeDriver struct {
	base
	runtime string // its name in Docker
	helper  string // socket of who calls runc for us; "": we do
}

func (*runtimeDriver) name() string { return "runtime" }

func (d *runtimeDriver) ready(s *container.Spec) error {
	d.confOf(s.ID).annotate(s)
	s.Runtime = d.runtime
	return nil
}

// stateDirs are where containerd has runc keep the state of Docker's containers.
var stateDirs = []string{"/run/docker/runtime-*/moby", "/run/containerd/runc/moby", "/run/docker/*/runtime-*/moby"}

// rootOf finds runc's root directory of a container.
func rootOf(dockerID string) (string, error) {
	for _, pattern := range stateDirs {
		found, err := filepath.Glob(filepath.Join(pattern, dockerID, "state.json"))
		if err != nil {
			return "", err
		}
		if len(found) > 0 {
			return filepath.Dir(filepath.Dir(found[0])), nil
		}
	}
	return "", fmt.Errorf("runc has no state of container %s below %s", dockerID, strings.Join(stateDirs, ", "))
}

func (d *runtimeDriver) dump(ctx context.Context, o dump) (stats DumpStats, err error) {
	c, err := d.docker.ContainerInspect(ctx, o.Container)
	if err != nil {
		return stats, fmt.Errorf("look at container %s: %w", o.Container, err)
	}
	if err := d.confOf(o.Container).writeCRIU(criuOptions(o.Allow, d.v2())); err != nil {
		return stats, err
	}
	order := dumpOrder{Container: c.ID, Images: o.Images, Work: o.Work, Keep: o.Keep, Locks: o.Allow.FileLocks, TCP: o.Allow.TCPEstablished}
	take := order.run
	if d.helper != "" {
		take = func(ctx context.Context) error { return askDump(ctx, d.helper, order) }
	}
	if err := take(ctx); err != nil {
		d.endDump(ctx, c.ID, o.Work)
		return stats, withLog(err, filepath.Join(o.Work, dumpLog))
	}
	if !o.Keep {
		if err := d.exited(ctx, o.Container); err != nil {
			return stats, err
		}
	}
	return readDump(o.Work), nil
}

func (d *runtimeDriver) restore(ctx context.Context, r restore) (restored, error) {
	begin := time.Now()
	c, err := d.prepareRestore(r, true) // Docker has our OCI runtime let them go
	if err != nil {
		return restored{}, err
	}
	o := restoreFile{Version: 1, Images: r.Images, Work: r.Work}
	if r.Allow.FileLocks {
		o.Flags = append(o.Flags, "--file-locks")
	}
	if r.Allow.TCPEstablished {
		o.Flags = append(o.Flags, "--tcp-established")
	}
	if err := c.writeRestore(o); err != nil {
		return restored{}, err
	}
	defer os.Remove(c.restore()) //nolint:errcheck // a later start of this container must not restore it again; it is overwritten or swept
	return d.restored(ctx, r, begin, d.begin(ctx, r, ""))
}

// runOutliving runs a program in a session of its own: it goes on if we are killed, and whoever comes after us finds its pid in work.
// When ctx ends it is killed with all that it has started.
func runOutliving(ctx context.Context, work, name string, args ...string) error {
	out, err := os.OpenFile(filepath.Join(work, name+".out"), os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("run %s: %w", name, err)
	}
	defer out.Close()                                                     //nolint:errcheck // the program's own
	cmd := exec.CommandContext(context.WithoutCancel(ctx), name, args...) // it is ended below, with all that it has started
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run %s: %w", name, err)
	}
	if p, err := processOf(cmd.Process.Pid); err == nil {
		_ = writeFile(filepath.Join(work, pidName), []byte(p.String()+"\n"), 0o600) // without it a successor waits for nothing
	}
	done := make(chan error, 1)
	var wait sync.WaitGroup
	wait.Go(func() { done <- cmd.Wait() })
	defer wait.Wait()
	select {
	case err = <-done:
	case <-ctx.Done():
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // may have ended just now
		<-done                                        //nolint:errcheck // it was killed
		return fmt.Errorf("%s was stopped: %w", name, context.Cause(ctx))
	}
	if err == nil {
		return nil
	}
	text := make([]byte, 2<<10)
	n, _ := out.ReadAt(text, 0) // what there is
	if words := lastWords(text[:n]); words != "" {
		return fmt.Errorf("%s: %w: %s", name, err, words)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// runcMessage is what runc logs to its standard error.
var runcMessage = regexp.MustCompile(`level=(?:error|fatal) msg="((?:[^"\\]|\\.)*)"`)

// lastWords is the last line that a program has written to its standard error; of a line of runc's log, what it says.
func lastWords(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	last := strings.TrimSpace(lines[len(lines)-1])
	if m := runcMessage.FindStringSubmatch(last); m != nil {
		if s, err := strconv.Unquote(`"` + m[1] + `"`); err == nil {
			last = s
		}
	}
	return strings.Join(strings.Fields(last), " ")
}
