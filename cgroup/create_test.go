package cgroup

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestCreateOnV2EnablesWhatIsMissingOnTheWay(t *testing.T) {
	t.Parallel()
	f := scratch(t, "v2-6.1")
	// The kernel fills a new directory; a fixture's parent is filled by hand.
	mid := f.cpu.at("/qosctl")
	put(t, filepath.Join(mid, "cgroup.controllers"), "cpu memory pids\n")
	put(t, filepath.Join(mid, "cgroup.subtree_control"), "memory\n")
	s := new(spy).on(f)
	for range 2 {
		g, err := f.Create("/qosctl/x/")
		if err != nil || g != same("/qosctl/x") {
			t.Fatalf("%+v, %v", g, err)
		}
	}
	// A fixture replaces the text: the second time memory is missing from it.
	if d := cmp.Diff([]string{"+cpu", "+cpu", "+memory"}, s.texts); d != "" {
		t.Error(d)
	}
}

func put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestCreateOnV2NamesWhyAControllerIsNotHandedOn(t *testing.T) {
	t.Parallel()
	f := scratch(t, "v2-6.1")
	if _, err := f.Create("/system.slice/qosctl.service/x"); err == nil || !strings.Contains(err.Error(), "no cpu controller") {
		t.Errorf("%v", err)
	}
	(&spy{refuse: func(string) error { return syscall.EBUSY }}).on(f)
	if _, err := f.Create(scope + "/x"); err == nil || !strings.Contains(err.Error(), "processes of its own") {
		t.Errorf("%v", err)
	}
}

func TestCreateAndRemoveOnV1CoverEveryHierarchyOnce(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]int{"v1-debian9": 3, "v1-centos7": 3, "hybrid": 4} {
		f := scratch(t, host)
		if n := len(f.hierarchies()); n != want {
			t.Errorf("%s: %d hierarchies, want %d", host, n, want)
		}
		if _, err := f.Create("/qosctl/a/b"); err != nil {
			t.Fatal(err)
		}
		for _, h := range f.hierarchies() {
			if !exists(h.at("/qosctl/a/b")) {
				t.Errorf("%s: not in %s", host, h.dir)
			}
		}
		if err := f.Remove("/qosctl"); err != nil {
			t.Error(err)
		}
		for _, h := range f.hierarchies() {
			if exists(h.at("/qosctl")) {
				t.Errorf("%s: still in %s", host, h.dir)
			}
		}
	}
}

func TestTheWholeHostIsNeverMadeKilledRemovedOrLimited(t *testing.T) {
	t.Parallel()
	f := fixture(t, "hybrid")
	for _, path := range []string{"/", "//", "/.", "", "x", "/..", "/a/../..", "/a/../b"} {
		_, err := f.Create(path)
		for name, err := range map[string]error{
			"Create": err, "Kill": f.Kill(t.Context(), path), "Remove": f.Remove(path), "SetMemory": f.SetMemory(path, 1<<20),
		} {
			if !errors.Is(err, errBadPath) {
				t.Errorf("%s(%q): %v", name, path, err)
			}
		}
	}
}

func TestJoinTellsAMissingProcessFromAMissingCgroup(t *testing.T) {
	t.Parallel()
	f := scratch(t, "hybrid")
	if err := f.Join("/absent", 1); !errors.Is(err, ErrGone) {
		t.Errorf("%v", err)
	}
	if err := f.Join("/mesos", 0); err == nil {
		t.Error("process 0 joined")
	}
	(&spy{refuse: func(string) error { return syscall.ESRCH }}).on(f)
	if err := f.Join("/mesos", 4711); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrGone) {
		t.Errorf("%v", err)
	}
}

func TestKillGivesUpWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	f := scratch(t, "v2-6.1") // its processes never die, and its cgroup.kill is only a file
	put(t, filepath.Join(f.cpu.at(scope), "cgroup.kill"), "")
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	err := f.Kill(ctx, scope)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "[7301 7302]") {
		t.Errorf("%v", err)
	}
}

func TestControllersHandedToV2OnAV1HostAreUsedThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	put(t, root+"/unified/cgroup.controllers", "cpu pids\n")
	put(t, root+"/unified/cgroup.subtree_control", "cpu\n")
	put(t, root+"/unified/job/cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\n")
	put(t, root+"/memory/memory.limit_in_bytes", "9223372036854771712\n")
	put(t, root+"/freezer/cgroup.procs", "")
	put(t, dir+"/proc/7/cgroup", "3:memory:/m\n2:freezer:/f\n0::/job\n")
	f := openTree(t, dir)
	if f.Mode() != Hybrid || !f.cpu.unified || f.memory.unified || f.freezer.unified {
		t.Errorf("%s %+v", f.Mode(), f)
	}
	g, err := f.Of(7)
	if g != same("/job") || err != nil {
		t.Errorf("%+v, %v", g, err)
	}
	checkSample(t, f, g, Sample{Usage: 5000, User: 3000, System: 2000})
	if _, err := f.Create("/own"); err != nil || !exists(root+"/unified/own") || !exists(root+"/memory/own") || !exists(root+"/freezer/own") {
		t.Errorf("not made everywhere: %v", err)
	}
}

// asNobody runs do on a thread that has given up its rights. The thread ends with it.
func asNobody(t *testing.T, do func()) {
	t.Helper()
	if os.Getuid() != 0 {
		do()
		return
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread is not fit for anything else
		_, _, e := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534)
		if e != 0 {
			done <- e
			return
		}
		do()
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal("give up rights:", err)
	}
}

func TestAnOrdinaryUserIsToldWhatIsMissing(t *testing.T) {
	f, err := New(Options{})
	if err != nil {
		t.Skip("this host has no cgroups that we can use:", err)
	}
	asNobody(t, func() {
		if err := f.Access(); !errors.Is(err, ErrNoAccess) || !strings.Contains(err.Error(), "delegated") && !strings.Contains(err.Error(), "read-write") {
			t.Errorf("Access: %v", err)
		}
		if _, err := f.Create("/qosctl-test-nobody"); !errors.Is(err, ErrNoAccess) {
			t.Errorf("Create: %v", err)
		}
		if f.Mode() == V2 {
			return // its root has no limits
		}
		l, err := f.OpenLimits(same("/"))
		if err != nil {
			t.Errorf("limits can't be read: %v", err)
			return
		}
		defer l.Close()
		if _, err := l.CPUs(); err != nil {
			t.Error(err)
		}
		if changed, err := l.SetShares(0.123); changed || !errors.Is(err, ErrNoAccess) {
			t.Errorf("SetShares: %v, %v", changed, err)
		}
	})
}
