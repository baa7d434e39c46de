package cli

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"qosctl/agent"
	"qosctl/agent/api"
)

// safeBuffer may be written to and read at once.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(data)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// until looks again and again until ok, or fails.
func until(t *testing.T, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(limit)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited %s for: %s", limit, what)
		}
	}
}

// given are the ports that tests have: the kernel may name one again as soon as it is closed.
var given sync.Map

// freePort is an address that was free a moment ago, and that no other test has.
func freePort(t *testing.T) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().String()
		_ = l.Close() // it was opened to be closed
		if _, taken := given.LoadOrStore(address, true); !taken {
			return address
		}
	}
}

// program runs this test's binary as qosctl.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := exec.LookPath("qosctl") // testscript.Main has put it there
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	return cmd
}

func devArgs(t *testing.T, dir string) []string {
	t.Helper()
	return []string{"dev", "--dir", dir, "--listen", freePort(t), "--marathon", freePort(t), "--chronos", freePort(t), "--mesos", freePort(t), "--deploy", "0s"}
}

// TestDevRunsAJobAndLeavesNothingBehind is the whole of it: real processes in real cgroups, an agent killed in between.
func TestDevRunsAJobAndLeavesNothingBehind(t *testing.T) {
	if err := agent.Default().Cgroup.Check(); err != nil {
		t.Skip("needs write access to cgroups: ", err)
	}
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	base, err := os.MkdirTemp("", "qd") // t.TempDir's path is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	dir := filepath.Join(base, "d")
	var log safeBuffer
	dev := program(t, devArgs(t, dir)...)
	dev.Stdout, dev.Stderr = &log, &log
	if err := dev.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { ended <- dev.Wait() })
	defer wg.Wait()
	defer func() {
		_ = dev.Process.Kill() // if it has not ended by itself
		if t.Failed() {
			t.Log(log.String())
		}
	}()
	socket := filepath.Join(dir, "run", "qosctl.sock")
	c, err := api.New(api.Options{Address: socket})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	until(t, "the agent is ready", 20*time.Second, func() bool { return c.Ready(t.Context()) == nil })

	submit := program(t, "--agent", socket, "submit", "-", "--follow")
	submit.Stdin = strings.NewReader(`{"id":"/quick","cmd":"echo hello; sleep 2; exit 0","cpus":0.1,"mem":32,"qos":{"duration":1,"desv_deadline":0.5,"deadline":60,"executions":1}}`)
	out, err := submit.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "/quick met its deadline") {
		t.Fatalf("%v\n%s", err, out)
	}
	// Another dev in the same place is refused.
	if out, err := program(t, devArgs(t, dir)...).CombinedOutput(); exitStatusOf(err) != exitConflict || !strings.Contains(string(out), "another `qosctl dev` runs in "+dir) {
		t.Errorf("%v\n%s", err, out)
	}
	if err := dev.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("dev ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("dev doesn't end")
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", dir, err)
	}
	left, err := filepath.Glob("/sys/fs/cgroup/*/qosctl-dev-" + shortHash(dir))
	if err != nil || len(left) > 0 {
		t.Errorf("cgroups are left: %v, %v", left, err)
	}
}

func exitStatusOf(err error) int {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode()
	}
	return 0
}

func TestDevSaysWhichAddressIsTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := devOpts{listen: freePort(t), chronos: l.Addr().String()}
	err = o.checkPorts([]devNode{{listen: o.listen}})
	if exitCodeOf(err) != exitConflict || !strings.Contains(err.Error(), "--chronos "+l.Addr().String()+": address already in use") || !strings.Contains(hintOf(err), "--chronos") {
		t.Errorf("%v", err)
	}
}

func TestAChildIsStartedAgainUntilThereIsNoPointInIt(t *testing.T) {
	t.Parallel()
	var log safeBuffer
	sh := func(script string) *child {
		return &child{name: "x", path: "/bin/sh", args: []string{"-c", script}, out: newPrefixer(&log).as("x", 31), grace: time.Second}
	}
	mark := filepath.Join(t.TempDir(), "mark")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	done := make(chan error, 1)
	wg.Go(func() {
		done <- supervise(ctx, sh("echo up >>"+mark+"; [ $(wc -l <"+mark+") -gt 2 ] || kill -9 $$; exec sleep 1000"))
	})
	until(t, "third start", 20*time.Second, func() bool { data, _ := os.ReadFile(mark); return strings.Count(string(data), "up") == 3 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	wg.Wait()
	if n := strings.Count(log.String(), "x | ended (signal: killed), starting it again\n"); n != 2 {
		t.Errorf("said it %d times:\n%s", n, log.String())
	}
	// Wrong use doesn't get better, and ends the other one too.
	if err := supervise(t.Context(), sh("exec sleep 1000"), sh("exit 2")); err == nil || !strings.Contains(err.Error(), "the x process ended: exit status 2") {
		t.Errorf("got %v", err)
	}
	if err := supervise(t.Context(), &child{name: "y", path: "/nowhere", out: &log}); err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestDevFlagsMakeAConfiguration(t *testing.T) {
	t.Parallel()
	good := devOpts{dir: t.TempDir(), policy: "none", controlMode: "act", period: 500 * time.Millisecond, listen: defaultListen, marathon: defaultMarathon, chronos: defaultChronos, mesos: defaultMesos, level: "info"}
	only := func(o devOpts) (agent.Config, error) {
		_, list, err := o.configs()
		return append(list, agent.Config{})[0], err
	}
	if c, err := only(good); err != nil || c.Control.Sample != good.period || c.Control.Policy != "none" {
		t.Errorf("%+v, %v", c.Control, err)
	}
	for self, want := range map[string]string{"/opt/qosctl": "/opt/qosctl", "/my tools/qosctl": "/d/qosctl", "/a'b/qosctl": "/d/qosctl"} {
		if got := (devOpts{dir: "/d"}).command(self); got != want {
			t.Errorf("%s: %s", self, got)
		}
	}
	blank := devOpts{dir: "/a b"}
	if err := blank.complete(&app{}); exitCodeOf(err) != exitUsage || !strings.Contains(err.Error(), "--dir") {
		t.Errorf("got %v", err)
	}
	bad := good
	bad.policy = "fast"
	if _, err := only(bad); exitCodeOf(err) != exitUsage || !strings.Contains(err.Error(), "control.policy") {
		t.Errorf("got %v", err)
	}
	for _, given := range []string{"x", "=y", "x=", "x=/nowhere"} {
		if _, err := parseImages([]string{given}); exitCodeOf(err) != exitUsage {
			t.Errorf("--map-image %s: %v", given, err)
		}
	}
}

func TestPrefixerKeepsLinesWhole(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	p := newPrefixer(&b)
	x, y := p.as("x", 1), p.as("y", 2)
	for _, w := range []struct {
		to   interface{ Write([]byte) (int, error) }
		text string
	}{{x, "a"}, {y, "b\nc"}, {x, "d\n\n"}, {y, "\n"}} {
		if _, err := w.to.Write([]byte(w.text)); err != nil {
			t.Fatal(err)
		}
	}
	if want := "y | b\nx | ad\nx | \ny | c\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}
