package cgroup

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// roleKey makes a copy of the test binary play a process that a test watches.
const roleKey = "CGROUP_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleKey) {
	case "":
		os.Exit(m.Run())
	case "spin": // once its input ends
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		for { //nolint:staticcheck // using 100% CPU is its role
		}
	}
	os.Exit(2)
}

// host opens this machine's cgroups for a test that writes them, or skips it loudly.
func host(t testing.TB) *FS {
	t.Helper()
	f, err := New(Options{})
	if err != nil {
		t.Skip("SKIPPED, needs a host with cgroups:", err)
	}
	if err := f.Access(); err != nil {
		t.Skip("SKIPPED, needs root or a delegated cgroup subtree:", err)
	}
	return f
}

// group makes a cgroup of the test's own, and empties and removes it at the end. Its name says whose it is.
func group(t testing.TB, f *FS) string {
	t.Helper()
	path := fmt.Sprintf("/qosctl-test-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-"))
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		if err := f.Kill(ctx, path); err != nil {
			t.Error(err)
		}
		if err := f.Remove(path); err != nil {
			t.Error(err)
		}
	})
	make1(t, f, path)
	return path
}

func make1(t testing.TB, f *FS, path string) Group {
	t.Helper()
	g, err := f.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// start runs a command in the cgroup at path: it waits for its input to end, which is when it has joined.
func start(t testing.TB, f *FS, path string, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if err := f.Join(path, cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// spinner is a process that keeps one CPU busy.
func spinner(t testing.TB) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleKey+"=spin", "GOMAXPROCS=1")
	return cmd
}

// until looks every millisecond until is() holds, for ten seconds at most.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	end := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("waited ten seconds for", what)
		}
	}
}
