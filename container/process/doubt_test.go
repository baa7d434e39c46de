package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qosctl/container"
)

// dyingShim makes the test binary a shim that dies, or stops, at a moment that the next argument names.
const dyingShim = "dying-shim"

// The moments.
const (
	dieFirst   = "first"   // before it has claimed the container
	dieClaimed = "claimed" // the container is claimed, the init stage runs and has not been let go
	dieSilent  = "silent"  // the command runs, and the shim has not said so
	stopFirst  = "stop"    // stops before it has claimed the container, until it gets SIGCONT
)

func dyingShimMain(when string, args []string) int {
	stage := args[0]
	var err error
	switch {
	case when == dieFirst && stage == stageRun:
		err = unix.Kill(os.Getpid(), unix.SIGKILL)
	case when == dieClaimed && stage == stageInit:
		err = unix.Kill(os.Getppid(), unix.SIGKILL)
	case when == dieSilent && stage == stageRun:
		err = dieReplying()
	case when == stopFirst && stage == stageRun:
		err = unix.Kill(os.Getpid(), unix.SIGSTOP)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	return ShimMain(args)
}

// dieReplying puts a pipe of our own where the shim replies, and kills the shim when something comes out of it.
func dieReplying() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	// The engine's end stays open until the shim is dead.
	if _, err = unix.FcntlInt(replyFD, unix.F_DUPFD_CLOEXEC, 10); err == nil {
		err = unix.Dup3(int(w.Fd()), replyFD, unix.O_CLOEXEC)
	}
	go func() {
		_, _ = r.Read(make([]byte, 1))
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	}()
	return errors.Join(err, w.Close())
}

// dying is an engine whose shims die at the moment.
func dying(t *testing.T, when string) *Engine {
	t.Helper()
	o := options(t)
	o.Shim = []string{"/proc/self/exe", dyingShim, when}
	return open(t, o)
}

// TestStartInDoubt kills the shim at each stage of a start: whenever the command may run the error says so, and never else.
func TestStartInDoubt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		when    string
		doubt   bool
		state   container.State
		command string
	}{
		{dieFirst, false, container.Created, "true"},
		{dieClaimed, false, container.Exited, "true"},
		{dieSilent, true, container.Running, "echo ran; exec sleep 1000"},
	} {
		t.Run(c.when, func(t *testing.T) {
			t.Parallel()
			e := dying(t, c.when)
			if err := e.Create(t.Context(), container.Spec{ID: "x", Command: c.command, Limits: container.Limits{CPUs: 0.5}}); err != nil {
				t.Fatal(err)
			}
			defer stopAll(t, e)
			err := e.Start(t.Context(), "x")
			if err == nil || !strings.Contains(err.Error(), "without an answer") || errors.Is(err, container.ErrStarted) != c.doubt {
				t.Errorf("start: %v", err)
			}
			if n := e.kept(); n != 0 && !c.doubt {
				t.Errorf("limits of %d containers are open", n)
			}
			i, err := e.Inspect(t.Context(), "x")
			if err != nil || i.State != c.state || c.doubt == (i.PID == 0) {
				t.Errorf("%+v, %v", i, err)
			}
			if e.mu.Lock(); len(e.children) > 0 && !c.doubt {
				t.Errorf("not reaped: %v", e.children)
			}
			e.mu.Unlock()
		})
	}
}

// TestStartInDoubtHasEnded: the command that ran without the shim's word had ended before Start looked.
func TestStartInDoubtHasEnded(t *testing.T) {
	t.Parallel()
	e := dying(t, dieSilent)
	if err := e.Create(t.Context(), container.Spec{ID: "x", Command: "echo ran"}); err != nil {
		t.Fatal(err)
	}
	defer stopAll(t, e)
	if err := e.Start(t.Context(), "x"); !errors.Is(err, container.ErrStarted) {
		t.Errorf("start: %v", err)
	}
	// On a busy machine the shim has written the end before it is killed.
	if x, err := e.Wait(t.Context(), "x"); err != nil || !x.Unknown && x.Code != 0 {
		t.Errorf("exit %+v, %v", x, err)
	}
	if out, err := os.ReadFile(filepath.Join(e.o.Dir, "x", "stdout")); err != nil || string(out) != "ran\n" {
		t.Errorf("output %q, %v", out, err)
	}
}

// TestStartContextEnds: the caller went while the shim was at work, which starts the command all the same.
func TestStartContextEnds(t *testing.T) {
	t.Parallel()
	e := dying(t, stopFirst)
	if err := e.Create(t.Context(), container.Spec{ID: "x", Command: "exit 3"}); err != nil {
		t.Fatal(err)
	}
	defer stopAll(t, e)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := e.Start(ctx, "x"); !errors.Is(err, container.ErrStarted) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("start: %v", err)
	}
	e.mu.Lock()
	for pid := range e.children {
		if err := stopped(t, e, pid); err != nil {
			t.Error(err)
		}
		if err := unix.Kill(pid, unix.SIGCONT); err != nil {
			t.Error(err)
		}
	}
	e.mu.Unlock()
	if x, err := e.Wait(t.Context(), "x"); err != nil || x.Code != 3 {
		t.Errorf("exit %+v, %v", x, err)
	}
}

// stopped waits until a process has stopped.
func stopped(t *testing.T, e *Engine, pid int) error {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); ; <-tick.C {
		b, err := os.ReadFile(filepath.Join(e.proc.dir, fmt.Sprint(pid), "stat"))
		if err != nil {
			return err
		}
		if state, _, err := parseStat(b); err != nil || state == 'T' {
			return err
		}
		if time.Now().After(end) {
			return errors.New("the shim did not stop")
		}
	}
}

// TestEndedKeepNoFiles counts the open files that stand in the engine's cgroups, after containers that were read and resized have ended and are kept.
func TestEndedKeepNoFiles(t *testing.T) {
	t.Parallel()
	e := open(t, options(t))
	defer stopAll(t, e)
	const containers = 6
	id := func(n int) string { return fmt.Sprintf("c%d", n) }
	for n := range containers {
		s := container.Spec{ID: id(n), Command: "while ! [ -e go ]; do sleep 0.02; done", Limits: container.Limits{CPUs: 0.5, Shares: 0.5}}
		if err := e.Create(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if err := e.Start(t.Context(), s.ID); err != nil {
			t.Fatal(err)
		}
		if err := e.Resize(t.Context(), s.ID, container.Limits{CPUs: 0.6}); err != nil {
			t.Error(err)
		}
	}
	if n := openBelow(t, e.o.CgroupParent); n < containers {
		t.Errorf("%d files are open while %d containers run: this test counts nothing", n, containers)
	}
	stale, err := e.load(id(0)) // as of one who looked before the end
	if err != nil {
		t.Fatal(err)
	}
	for n := range containers {
		if err := os.WriteFile(filepath.Join(e.o.Dir, id(n), sandboxName, "go"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Wait(t.Context(), id(n)); err != nil {
			t.Error(err)
		}
	}
	// One whose command can't be run has had its limits set too.
	if err := e.Create(t.Context(), container.Spec{ID: "bad", Args: []string{"/no/such"}, Limits: container.Limits{CPUs: 0.5}}); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context(), "bad"); err == nil || errors.Is(err, container.ErrStarted) {
		t.Errorf("start: %v", err)
	}
	if i := e.info(stale); i.State != container.Running {
		t.Errorf("%+v", i)
	}
	if n := openBelow(t, e.o.CgroupParent); n != 0 {
		t.Errorf("%d files are open after all containers have ended", n)
	}
	if i, err := e.Inspect(t.Context(), id(1)); err != nil || i.State != container.Exited || i.Limits.CPUs != 0.5 {
		t.Errorf("kept: %+v, %v", i, err)
	}
}

// openBelow counts this process's open files in the cgroups below parent.
func openBelow(t *testing.T, parent string) int {
	t.Helper()
	ents, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, d := range ents {
		if to, err := os.Readlink("/proc/self/fd/" + d.Name()); err == nil && strings.Contains(to, parent+"/") {
			n++
		}
	}
	return n
}

// kept is the number of containers whose limits are open.
func (e *Engine) kept() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.limits)
}
