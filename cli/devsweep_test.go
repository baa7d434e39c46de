package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"qosctl/agent"
	"qosctl/agent/api"
)

// devWithAJob is a dev with a job that runs, and that job's process.
type devWithAJob struct {
	dir string
	cmd *exec.Cmd
	log *safeBuffer
	job int
}

// startDev starts a dev in dir and waits until its agent is ready. Its end is waited for at the end of the test.
func startDev(t *testing.T, dir string) (*exec.Cmd, *safeBuffer) {
	t.Helper()
	log := new(safeBuffer)
	dev := program(t, devArgs(t, dir)...)
	dev.Stdout, dev.Stderr = log, log
	dev.WaitDelay = time.Second
	if err := dev.Start(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = dev.Wait() })
	t.Cleanup(func() {
		_ = dev.Process.Kill() // if it has not ended by itself
		wg.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	c, err := api.New(api.Options{Address: filepath.Join(dir, "run", "qosctl.sock")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	until(t, "the agent is ready", 30*time.Second, func() bool { return c.Ready(t.Context()) == nil })
	return dev, log
}

func newDevWithAJob(t *testing.T) devWithAJob {
	t.Helper()
	if err := agent.Default().Cgroup.Check(); err != nil {
		t.Skip("needs write access to cgroups: ", err)
	}
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	base, err := os.MkdirTemp("", "qk") // t.TempDir's path is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	d := devWithAJob{dir: filepath.Join(base, "d")}
	t.Cleanup(func() {
		groups := agent.Default().Cgroup
		groups.Parent = "/qosctl-dev-" + shortHash(d.dir)
		if err := groups.Clear(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll(base) // after the processes
	})
	d.cmd, d.log = startDev(t, d.dir)
	submit := program(t, "--agent", filepath.Join(d.dir, "run", "qosctl.sock"), "submit", "-")
	submit.Stdin = strings.NewReader(`{"id":"/long","cmd":"trap '' TERM; echo $$ >` + base + `/pid; while :; do sleep 1; done","cpus":0.1,"mem":32,"qos":{"duration":1,"desv_deadline":0.5,"deadline":600,"executions":1}}`)
	if out, err := submit.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	until(t, "the job runs", 20*time.Second, func() bool {
		data, err := os.ReadFile(filepath.Join(base, "pid"))
		d.job, _ = strconv.Atoi(strings.TrimSpace(string(data)))
		return err == nil && d.job > 0
	})
	return d
}

// withArgs are the processes with dir in their arguments.
func withArgs(t *testing.T, dir string) map[int]string {
	t.Helper()
	found := make(map[int]string)
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if line := string(bytes.ReplaceAll(data, []byte{0}, []byte(" "))); err == nil && strings.Contains(line, dir) {
			found[pid] = line
		}
	}
	return found
}

// gone waits until nothing of a dev is there.
func (d devWithAJob) gone(t *testing.T) {
	t.Helper()
	until(t, "the directory is removed", 90*time.Second, func() bool { _, err := os.Stat(d.dir); return errors.Is(err, os.ErrNotExist) })
	until(t, "the job has ended", 5*time.Second, func() bool { return errors.Is(syscall.Kill(d.job, 0), syscall.ESRCH) })
	until(t, "its processes have ended", 5*time.Second, func() bool { return len(withArgs(t, d.dir)) == 0 })
	if left, err := filepath.Glob("/sys/fs/cgroup/*/qosctl-dev-" + shortHash(d.dir)); err != nil || len(left) > 0 {
		t.Errorf("cgroups are left: %v, %v", left, err)
	}
}

// TestAKilledDevIsClearedUpByItsGuard kills dev with a job that doesn't heed SIGTERM.
func TestAKilledDevIsClearedUpByItsGuard(t *testing.T) {
	d := newDevWithAJob(t)
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	d.gone(t)
}

// TestTheNextDevClearsUp kills dev, its guard, agent and scheduler.
func TestTheNextDevClearsUp(t *testing.T) {
	d := newDevWithAJob(t)
	guards := 0
	for pid, line := range withArgs(t, d.dir) {
		if strings.Contains(line, " devguard ") {
			guards++
		}
		if pid != d.cmd.Process.Pid && (strings.Contains(line, " devguard ") || strings.Contains(line, " agent ")) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	if guards != 1 {
		t.Errorf("%d guards", guards)
	}
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	next, log := startDev(t, d.dir)
	if !strings.Contains(log.String(), "was killed") {
		t.Errorf("said\n%s", log.String())
	}
	if err := syscall.Kill(d.job, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the former job is there: %v", err)
	}
	out, err := program(t, "--agent", filepath.Join(d.dir, "run", "qosctl.sock"), "jobs", "--all").CombinedOutput()
	if err != nil || strings.Contains(string(out), "/long") {
		t.Errorf("%v\n%s", err, out)
	}
	if err := next.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	d.gone(t)
}

func TestMarkOfADev(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "d")
	open := func() *devDirectory {
		d, err := openDevDir(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := open()
	if err := d.mark(devMark{PID: os.Getpid(), Keep: true, Nodes: []nodeMark{{Dir: "/d", Agent: "/a", Mesos: "/m"}}}); err != nil || d.dead != nil {
		t.Fatal(err, d.dead)
	}
	if _, err := openDevDir(t.Context(), path); exitCodeOf(err) != exitConflict {
		t.Errorf("got %v", err)
	}
	d.close() // killed
	d = open()
	if d.dead == nil || len(d.dead.Nodes) != 1 || d.dead.Nodes[0] != (nodeMark{Dir: "/d", Agent: "/a", Mesos: "/m"}) || !d.dead.Keep || !d.dead.lives() {
		t.Errorf("%+v", d.dead)
	}
	if err := d.remove(true); err != nil {
		t.Error(err)
	}
	d.close()
	d = open()
	if d.dead != nil {
		t.Errorf("ended in order, but %+v", d.dead)
	}
	if err := d.remove(false); err != nil {
		t.Error(err)
	}
	d.close()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if (&devMark{PID: 1 << 30}).lives() {
		t.Error("a process that can't be lives")
	}
	for _, bad := range []string{"", "x", "{}", `{"nodes":[{"agent":"/a"}]}`} {
		if m := readMark(strings.NewReader(bad)); m != nil {
			t.Errorf("%q: %+v", bad, m)
		}
	}
}
