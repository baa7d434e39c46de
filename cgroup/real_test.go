package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestQuotaBites(t *testing.T) {
	f := host(t)
	path := group(t, f)
	g := make1(t, f, path+"/job")
	if _, err := limitsOf(t, f, path).SetShares(100); err != nil { // other load must not be what slows the spinner
		t.Fatal(err)
	}
	l := limitsOf(t, f, g.CPU)
	if changed, err := l.SetCPUs(0.3); !changed || err != nil {
		t.Fatalf("%v, %v", changed, err)
	}
	r, err := f.OpenReader(g)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := start(t, f, g.CPU, spinner(t))
	if got, err := f.Of(cmd.Process.Pid); got != g || err != nil {
		t.Errorf("Of = %+v, %v; want %+v", got, err, g)
	}
	var first, last Sample
	until(t, "the spinner to be throttled", func() bool { return errors.Join(r.Read(&first), r.Throttling(&first)) == nil && first.Throttled >= 3 })
	until(t, "two seconds", func() bool {
		return errors.Join(r.Read(&last), r.Throttling(&last)) != nil || last.At.Sub(first.At) >= 2*time.Second
	})
	span := last.At.Sub(first.At)
	got := (last.Usage - first.Usage).Seconds() / span.Seconds()
	t.Logf("quota 0.3 CPUs, used %.3f over %v, throttled %d of %d periods", got, span, last.Throttled-first.Throttled, last.Periods-first.Periods)
	if got < 0.3*0.85 || got > 0.3*1.15 {
		t.Errorf("uses %.3f CPUs, quota 0.3", got)
	}
	if err := r.Split(&last); err != nil || last.User+last.System == 0 || last.ThrottledTime <= first.ThrottledTime || last.Periods <= first.Periods {
		t.Errorf("counters stand still: %+v then %+v", first, last)
	}
	if u, err := r.Usage(); err != nil || u < last.Usage {
		t.Errorf("usage %v, %v after %v", u, err, last.Usage)
	}
}

func TestRemovedCgroupIsGoneForKeptFiles(t *testing.T) {
	f := host(t)
	path := group(t, f)
	r, err := f.OpenReader(same(path))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	l := limitsOf(t, f, path)
	for _, again := range []bool{false, true} {
		if err := f.Remove(path); err != nil {
			t.Fatal(err)
		}
		if again { // one of the same name is another cgroup
			make1(t, f, path)
		}
		var s Sample
		if err := r.Read(&s); !errors.Is(err, ErrGone) {
			t.Errorf("Read: %v", err)
		}
		if _, err := r.Usage(); !errors.Is(err, ErrGone) {
			t.Errorf("Usage: %v", err)
		}
		if _, err := l.SetCPUs(1); !errors.Is(err, ErrGone) {
			t.Errorf("SetCPUs: %v", err)
		}
		if _, err := l.SetShares(3); !errors.Is(err, ErrGone) {
			t.Errorf("SetShares: %v", err)
		}
	}
}

func TestKernelsRefusalsAreNamed(t *testing.T) {
	f := host(t)
	if f.cpu.unified {
		t.Skip("SKIPPED, needs cgroup v1: v2 takes any quota")
	}
	path := group(t, f)
	make1(t, f, path+"/mid")
	make1(t, f, path+"/mid/leaf")
	top, mid, leaf := limitsOf(t, f, path), limitsOf(t, f, path+"/mid"), limitsOf(t, f, path+"/mid/leaf")
	set := func(l *Limits, cpus float64, want error) {
		t.Helper()
		before, _ := l.CPUs()
		changed, err := l.SetCPUs(cpus)
		if !errors.Is(err, want) || changed != (err == nil) {
			t.Errorf("SetCPUs(%g) = %v, %v; want %v", cpus, changed, err, want)
		}
		if err != nil && !errors.Is(err, errRange) && !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%v does not keep the kernel's own error", err)
		}
		if after, _ := l.CPUs(); err != nil && after != before {
			t.Errorf("a refused quota changed %g to %g", before, after)
		}
	}
	set(top, 1, nil)
	set(leaf, 1.5, errAboveParent) // two levels up, over an unlimited one
	set(leaf, 0.75, nil)
	set(top, 0.5, errBelowChild) // two levels down
	set(top, 0.0001, errRange)
	set(mid, 0.75, nil)
	set(mid, -1, nil)
	set(leaf, 0.5, nil)
	set(top, 0.5, nil)
	set(top, -1, nil)
	set(leaf, 8, nil)
}

func TestBurstAboveANewQuotaIsLoweredByTheKernelsRule(t *testing.T) {
	f := host(t)
	path := group(t, f)
	name := "cpu.cfs_burst_us"
	if f.cpu.unified {
		name = "cpu.max.burst"
	}
	if !exists(filepath.Join(f.cpu.at(path), name)) {
		t.Skip("SKIPPED, needs a kernel with CFS burst (5.14)")
	}
	l := limitsOf(t, f, path)
	if _, err := l.SetCPUs(0.5); err != nil {
		t.Fatal(err)
	}
	if err := f.writeOnce(f.cpu.at(path), name, "40000"); err != nil {
		t.Fatal(err)
	}
	if changed, err := l.SetCPUs(0.2); !changed || err != nil {
		t.Fatalf("%v, %v", changed, err)
	}
	if got, err := readNumber(f.cpu.at(path), name); got != 20000 || err != nil {
		t.Errorf("burst is %d µs, %v", got, err)
	}
}

func TestUnchangedQuotaIsNotWrittenToTheKernel(t *testing.T) {
	f := host(t)
	path := group(t, f)
	s := new(spy).on(f)
	l := limitsOf(t, f, path)
	for _, cpus := range []float64{-1, 0.5, 0.5, 0.5, 0.7, 0.7, -1, -1} {
		if _, err := l.SetCPUs(cpus); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if _, err := l.SetShares(2); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.texts) != 4 {
		t.Errorf("wrote %q, want three quotas and one of shares", s.texts)
	}
}

// comets fork and end at once, all the time: whoever kills by a list of pids is always late.
const comets = `cat; f() { f & }; f; f; f; f; f; f; f; f; wait`

func TestKillEndsATreeThatForksAllTheTime(t *testing.T) {
	for _, how := range []string{"with all the host has", "without a freezer"} {
		t.Run(strings.ReplaceAll(how, " ", "-"), func(t *testing.T) {
			f := host(t)
			path := group(t, f)
			leaf := path + "/a/b"
			make1(t, f, leaf)
			if _, err := limitsOf(t, f, path).SetCPUs(0.3); err != nil { // the neighbours need theirs
				t.Fatal(err)
			}
			start(t, f, leaf, exec.Command("sh", "-c", comets))
			start(t, f, path, spinner(t))
			seen := map[int]bool{}
			until(t, "the tree to fork", func() bool {
				pids, err := f.Procs(path)
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range pids {
					seen[p] = true
				}
				return len(seen) > 30
			})
			killer := *f
			if how == "without a freezer" {
				if f.cpu.unified {
					t.Skip("v2 has one always")
				}
				if _, err := limitsOf(t, f, path).SetCPUs(0.02); err != nil { // starved, they are caught by rounds
					t.Fatal(err)
				}
				killer.freezer = nil
			}
			ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
			defer stop()
			began := time.Now()
			if err := killer.Kill(ctx, path); err != nil {
				t.Fatal(err)
			}
			t.Logf("killed in %v, %d processes seen", time.Since(began), len(seen))
			if pids, err := f.Procs(path); len(pids) > 0 || err != nil {
				t.Errorf("left: %v, %v", pids, err)
			}
		})
	}
}

func TestKillRefusesTheCallersOwnCgroup(t *testing.T) {
	f := host(t)
	path := group(t, f)
	before, err := f.Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	memory := memoryOf(t, f)
	if err := f.Join(path, os.Getpid()); err != nil {
		t.Fatal(err)
	}
	err = f.Kill(t.Context(), path)
	for _, h := range f.hierarchies() {
		back := before.CPU
		if h == f.memory && !h.unified {
			back = memory
		}
		if err := f.writeOnce(h.at(back), "cgroup.procs", fmt.Sprint(os.Getpid())); err != nil {
			t.Fatal(err)
		}
	}
	if !errors.Is(err, errSelf) {
		t.Errorf("%v", err)
	}
}

// memoryOf is the memory cgroup of this process, which need not be that of its CPU time.
func memoryOf(t *testing.T, f *FS) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); len(parts) == 3 && slices.Contains(strings.Split(parts[1], ","), "memory") {
			p, err := f.memory.visible(parts[2])
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
	}
	return "/"
}

func TestRemoveOfAFullCgroupNamesWhoIsInIt(t *testing.T) {
	f := host(t)
	path := group(t, f)
	cmd := start(t, f, path, spinner(t))
	if err := f.Remove(path); !errors.Is(err, syscall.EBUSY) || !strings.Contains(err.Error(), fmt.Sprintf("[%d]", cmd.Process.Pid)) {
		t.Errorf("%v", err)
	}
	if err := f.Kill(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if err := f.Remove(path); err != nil {
		t.Error(err)
	}
}

func TestAProcessThatHasExitedHasNoCgroup(t *testing.T) {
	f := host(t)
	path := group(t, f)
	cmd := start(t, f, path, exec.Command("cat"))
	pid := cmd.Process.Pid
	if f.cpu.unified {
		t.Skip("SKIPPED, needs cgroup v1: v2 keeps a zombie where it was")
	}
	until(t, "it to exit", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		dead, err := parseExiting(b)
		return err == nil && dead
	})
	if g, err := f.Of(pid); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a zombie is in %+v, %v", g, err)
	}
	if err := f.Join(path, 1<<22+1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a process that never was has joined: %v", err)
	}
}

func TestMemoryLimitHoldsInTheKernel(t *testing.T) {
	f := host(t)
	path := group(t, f)
	if f.memory == nil {
		t.Skip("SKIPPED, needs the memory controller")
	}
	s := new(spy).on(f)
	for _, bytes := range []int64{64 << 20, 64 << 20, 32 << 20, -1, -1} {
		if err := f.SetMemory(path, bytes); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.texts) != 3 {
		t.Errorf("wrote %q, want three limits", s.texts)
	}
	if n, err := f.OOMKills(path); n != 0 || err != nil {
		t.Errorf("%d OOM kills, %v", n, err)
	}
}

func TestKillEndsWhatSomebodyElseHasFrozen(t *testing.T) {
	f := host(t)
	if f.freezer == nil {
		t.Skip("SKIPPED, needs the freezer")
	}
	path := group(t, f)
	make1(t, f, path+"/inner")
	start(t, f, path+"/inner", spinner(t))
	if _, thaw := f.freeze(t.Context(), path+"/inner"); thaw == nil {
		t.Fatal("nothing frozen")
	}
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	if err := f.Kill(ctx, path); err != nil {
		t.Error(err)
	}
}

func TestADelegatedSubtreeIsEnoughForAnOrdinaryUser(t *testing.T) {
	f := host(t)
	if os.Getuid() != 0 {
		t.Skip("SKIPPED, needs root to delegate a subtree")
	}
	if f.cpu.unified {
		t.Skip("SKIPPED, needs cgroup v1")
	}
	path := group(t, f)
	for _, h := range f.hierarchies() {
		if err := os.Chown(h.at(path), 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	asNobody(t, func() {
		if err := f.Access(); !errors.Is(err, ErrNoAccess) {
			t.Errorf("Access: %v", err)
		}
		if err := f.AccessBelow(path + "/a/b"); err != nil {
			t.Errorf("AccessBelow: %v", err)
		}
		g, err := f.Create(path + "/a/b")
		if err != nil {
			t.Errorf("Create: %v", err)
			return
		}
		l, err := f.OpenLimits(g)
		if err != nil {
			t.Errorf("OpenLimits: %v", err)
			return
		}
		defer l.Close()
		if changed, err := l.SetCPUs(0.5); !changed || err != nil {
			t.Errorf("SetCPUs: %v, %v", changed, err)
		}
		if err := f.Remove(path + "/a"); err != nil {
			t.Errorf("Remove: %v", err)
		}
	})
}
