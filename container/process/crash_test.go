package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qosctl/cgroup"
	"qosctl/container"
)

// agentEnv makes the test binary an agent-like process that creates and starts containers over and over, until it is killed.
const agentEnv = "QOSCTL_TEST_AGENT"

// agentMain creates and starts containers numbered from the one given, and says so.
func agentMain(args []string) int {
	dir, parent, first, command := args[0], args[1], args[2], args[3]
	fs, err := cgroup.New(cgroup.Options{})
	if err != nil {
		return 1
	}
	e, err := New(Options{Dir: dir, Shim: []string{"/proc/self/exe", "shim"}, Cgroups: fs, CgroupParent: parent})
	if err != nil {
		return 1
	}
	n, err := strconv.Atoi(first)
	if err != nil {
		return 2
	}
	for ; ; n++ {
		id := fmt.Sprintf("c%06d", n)
		if err = e.Create(context.Background(), container.Spec{ID: id, Command: command, Labels: map[string]string{"n": id}}); err != nil {
			return 1
		}
		if err = e.Start(context.Background(), id); err != nil {
			return 1
		}
		fmt.Fprintln(os.Stdout, "started", id)
	}
}

// startAgent runs agentMain in a process of its own and waits for its first container.
func startAgent(t *testing.T, o Options, first int, command string) (kill func(), lines *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", o.Dir, o.CgroupParent, strconv.Itoa(first), command)
	cmd.Env = append(os.Environ(), agentEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	kill = func() {
		if !killed {
			killed = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed
		}
	}
	t.Cleanup(kill)
	lines = bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("the agent started nothing")
	}
	return kill, lines
}

func stopAll(t *testing.T, e *Engine) {
	t.Helper()
	infos, err := e.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range infos {
		if err = e.Stop(t.Context(), i.ID, 0); err != nil && !errors.Is(err, container.ErrNotRunning) {
			t.Error(err)
		}
		if err = e.Remove(t.Context(), i.ID); err != nil {
			t.Error(err)
		}
	}
}

// TestAgentKilled kills an agent with -9 at moments spread over Create and Start: whatever it left, each payload has run at most once,
// what runs can be waited for, and what was only created can be started.
func TestAgentKilled(t *testing.T) {
	t.Parallel()
	o := options(t)
	marks := t.TempDir()
	command := `echo $$ >> ` + marks + `/$(basename $(dirname $PWD)); echo ran; while ! [ -e ` + marks + `/go ]; do sleep 0.05; done; exit 3`
	const rounds = 12
	for n := range rounds {
		kill, _ := startAgent(t, o, n*1000, command)
		delay := time.NewTimer(time.Duration(n) * 4 * time.Millisecond)
		<-delay.C
		kill()
	}
	e := open(t, o)
	defer stopAll(t, e)
	var infos []container.Info
	settled := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C { // a shim may still be at work
		var err error
		if infos, err = e.List(t.Context()); err != nil {
			t.Fatal(err)
		}
		busy := false
		for _, i := range infos {
			r, err := e.load(i.ID)
			busy = busy || err != nil || r.starting
		}
		if !busy || time.Now().After(settled) {
			break
		}
	}
	if len(infos) < rounds {
		t.Errorf("%d containers, at least %d were started", len(infos), rounds)
	}
	for _, i := range infos {
		if i.Labels["n"] != i.ID {
			t.Errorf("labels of %s: %v", i.ID, i.Labels)
		}
		if i.State == container.Created {
			t.Logf("%s was only created", i.ID)
			// A shim that the agent had just started may come first.
			if err := e.Start(t.Context(), i.ID); err != nil && !errors.Is(err, container.ErrStarted) {
				t.Error(err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(marks, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, i := range infos {
		x, err := e.Wait(t.Context(), i.ID)
		if err != nil || x.Code != 3 {
			t.Errorf("exit of %s: %+v, %v", i.ID, x, err)
		}
		pids, err := os.ReadFile(filepath.Join(marks, i.ID))
		if err != nil || strings.Count(string(pids), "\n") != 1 {
			t.Errorf("%s ran %d times: %v", i.ID, strings.Count(string(pids), "\n"), err)
		}
	}
}

// TestShimKilled: the payload lives on, its output and its end are still there; only its exit status is lost.
func TestShimKilled(t *testing.T) {
	t.Parallel()
	e := open(t, options(t))
	ev, err := e.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err = e.Create(t.Context(), container.Spec{ID: "x", Command: `sleep 1000 & echo up; while ! [ -e go ]; do sleep 0.01; done; echo done; exit 3`}); err != nil {
		t.Fatal(err)
	}
	if err = e.Start(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	defer stopAll(t, e)
	logs, err := e.Logs(t.Context(), "x", container.Stdout, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close() //nolint:errcheck // nothing was written
	if _, err = io.ReadFull(logs, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	r, err := e.load("x")
	if err != nil || r.shim == 0 || r.shim != r.run.Shim.PID {
		t.Fatalf("shim %d, pid.json says %+v, %v", r.shim, r.run, err)
	}
	if err = unix.Kill(r.shim, unix.SIGTERM); err != nil { // stopping a service sends this first
		t.Fatal(err)
	}
	if err = unix.Kill(r.shim, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err = e.proc.wait(t.Context(), r.run.Shim); err != nil {
		t.Fatal(err)
	}
	i, err := e.Inspect(t.Context(), "x")
	if err != nil || i.State != container.Running || i.PID != r.run.PID {
		t.Errorf("without its shim: %+v, %v", i, err)
	}
	if err = e.Resize(t.Context(), "x", container.Limits{CPUs: 0.5}); err != nil {
		t.Error(err)
	}
	if err = os.WriteFile(filepath.Join(r.dir, sandboxName, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	x, err := e.Wait(t.Context(), "x")
	if err != nil || !x.Unknown || x.Code != container.CodeUnknown || x.CPU == 0 || x.Reason == "" {
		t.Errorf("exit %+v, %v", x, err)
	}
	if b, err := io.ReadAll(logs); err != nil || string(b) != "done\n" {
		t.Errorf("output %q, %v", b, err)
	}
	if pids, err := e.o.Cgroups.Procs(r.conf.Cgroup); err != nil || len(pids) > 0 {
		t.Errorf("left in the cgroup: %v, %v", pids, err)
	}
	for _, want := range []container.EventKind{container.EventStart, container.EventExit} {
		if got := <-ev; got.Kind != want {
			t.Errorf("event %+v, want %s", got, want)
		}
	}
}

// TestShimSignalled: what a service manager or a terminal sends to stop an agent does not reach a job.
func TestShimSignalled(t *testing.T) {
	t.Parallel()
	e := open(t, options(t))
	if err := e.Create(t.Context(), container.Spec{ID: "x", Command: "sleep 0.3; exit 4"}); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	defer stopAll(t, e)
	r, err := e.load("x")
	if err != nil {
		t.Fatal(err)
	}
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE} {
		if err = unix.Kill(r.shim, sig); err != nil {
			t.Fatal(err)
		}
	}
	if x, err := e.Wait(t.Context(), "x"); err != nil || x.Code != 4 {
		t.Errorf("exit %+v, %v", x, err)
	}
}

// TestShimKilledWhileStarting: a shim that dies between its claim and the payload leaves an exited container, never one that starts twice.
func TestShimKilledWhileStarting(t *testing.T) {
	t.Parallel()
	e := open(t, options(t))
	if err := e.Create(t.Context(), container.Spec{ID: "x", Command: "echo ran"}); err != nil {
		t.Fatal(err)
	}
	defer stopAll(t, e)
	if err := os.WriteFile(filepath.Join(e.o.Dir, "x", startedName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	i, err := e.Inspect(t.Context(), "x")
	if err != nil || i.Exit == nil || !i.Exit.Unknown || !strings.Contains(i.Exit.Reason, "before its command ran") {
		t.Errorf("%+v, %v", i.Exit, err)
	}
	if err = e.Start(t.Context(), "x"); !errors.Is(err, container.ErrStarted) {
		t.Errorf("start: %v", err)
	}
}

// TestRandomKills kills the shim, or not, at random moments of many short starts, and counts how often each payload ran.
func TestRandomKills(t *testing.T) {
	t.Parallel()
	e := open(t, options(t))
	defer stopAll(t, e)
	for n := range 15 {
		id := fmt.Sprintf("c%d", n)
		if err := e.Create(t.Context(), container.Spec{ID: id, Command: "echo ran"}); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- e.Start(t.Context(), id) }()
		dir, pid := filepath.Join(e.o.Dir, id), 0
		for pid == 0 && len(done) == 0 {
			pid, _ = lockHolder(dir)
		}
		hit := time.NewTimer(time.Duration(n) * 1500 * time.Microsecond)
		<-hit.C
		if pid != 0 {
			_ = unix.Kill(pid, unix.SIGKILL) // it may be gone
		}
		serr := <-done
		neverRan := serr != nil && !errors.Is(serr, container.ErrStarted)
		if i, err := e.Inspect(t.Context(), id); err == nil && i.State == container.Created { // killed before it had claimed the container
			if serr = e.Start(t.Context(), id); serr != nil {
				t.Error(serr)
			}
			neverRan = false
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		x, err := e.Wait(ctx, id)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		out, err := os.ReadFile(filepath.Join(dir, string(container.Stdout)))
		if err != nil || len(out) > 0 && string(out) != "ran\n" {
			t.Errorf("%s wrote %q, %v", id, out, err)
		}
		if neverRan && len(out) > 0 {
			t.Errorf("%s ran, and its start said that it did not: %v", id, serr)
		}
		if !x.Unknown && x.Code == 0 && string(out) != "ran\n" {
			t.Errorf("%s: exit %+v without output; start said %v", id, x, serr)
		}
		if err = e.Start(t.Context(), id); !errors.Is(err, container.ErrStarted) {
			t.Errorf("start %s again: %v", id, err)
		}
	}
}
