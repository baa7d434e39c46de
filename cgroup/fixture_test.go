package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const (
	dockerID = "4f1a8b1d0c6e4a53b8f0e2d7c9b6a5f4e3d2c1b0a9f8e7d6c5b4a39281706f5e"
	mesosID  = "9a1cd0a5-4e53-4d1b-8f0a-1c2d3e4f5a6b"
	scope    = "/system.slice/docker-" + dockerID + ".scope"
)

// fixture opens a host of testdata: plain trees, written by hand in the form that such hosts have, figures made up. Its ticks are 10 ms, whatever this machine has.
func fixture(t testing.TB, name string) *FS {
	t.Helper()
	return openTree(t, filepath.Join("testdata", name))
}

func openTree(t testing.TB, dir string) *FS {
	t.Helper()
	f, err := New(Options{Root: filepath.Join(dir, "root"), Proc: filepath.Join(dir, "proc")})
	if err != nil {
		t.Fatal(err)
	}
	f.tick = int64(10 * time.Millisecond)
	return f
}

// scratch is a copy of a fixture that may be written: a write replaces what a file holds, as in the kernel.
func scratch(t testing.TB, name string) *FS {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", name))); err != nil {
		t.Fatal(err)
	}
	f := openTree(t, dir)
	f.pwrite = func(fd int, b []byte, off int64) (int, error) {
		if err := syscall.Ftruncate(fd, 0); err != nil {
			return 0, err
		}
		return syscall.Pwrite(fd, append(slices.Clip(b), '\n'), off)
	}
	return f
}

func same(path string) Group { return Group{CPU: path, CPUAcct: path} }

func TestFixtureHostsAreFoundReadAndMeasured(t *testing.T) {
	t.Parallel()
	ms := time.Millisecond
	for _, tc := range []struct {
		host   string
		pid    int
		mode   Mode
		group  Group
		sample Sample
		cpus   float64 // quota
		shares float64
		online float64
	}{
		{
			"v1-debian9", 2412, V1, same("/docker/" + dockerID),
			Sample{Usage: 5123456789, User: 4010 * ms, System: 1110 * ms, Periods: 240, Throttled: 31, ThrottledTime: 1804512034},
			1.5, 1.5, 4,
		},
		{
			"v1-debian9", 3107, V1, same("/mesos/" + mesosID),
			Sample{Usage: 61234567890, User: 58010 * ms, System: 3220 * ms, Periods: 1200, Throttled: 600, ThrottledTime: 29123456789},
			0.5, 0.5, 4,
		},
		{"v1-debian9", 1, V1, same("/"), Sample{Usage: 98765432109876, User: 81234560 * ms, System: 17530970 * ms}, -1, 1, 4},
		{
			"v1-centos7", 5120, V1, same(scope),
			Sample{Usage: 312345678901, User: 299990 * ms, System: 12340 * ms, Periods: 3600, Throttled: 1200, ThrottledTime: 71234567890},
			0.8, 819.0 / 1024, 7,
		},
		{
			"v2-6.1", 7301, V2, same(scope),
			Sample{Usage: 61234567000, User: 58012345000, System: 3222222000, Periods: 1200, Throttled: 600, ThrottledTime: 29123456000},
			0.5, 0.5, 16,
		},
		{
			"hybrid", 4711, Hybrid, same("/mesos/" + mesosID),
			Sample{Usage: 31234567890, User: 28010 * ms, System: 3220 * ms, Periods: 900, Throttled: 450, ThrottledTime: 19123456789},
			0.5, 0.25, 2,
		},
	} {
		t.Run(tc.host+tc.group.CPU, func(t *testing.T) {
			t.Parallel()
			f := fixture(t, tc.host)
			if f.Mode() != tc.mode {
				t.Errorf("mode %s, want %s", f.Mode(), tc.mode)
			}
			if got := f.CPUs(); got != tc.online {
				t.Errorf("%g CPUs online, want %g", got, tc.online)
			}
			g, err := f.Of(tc.pid)
			if err != nil || g != tc.group {
				t.Fatalf("Of(%d) = %+v, %v; want %+v", tc.pid, g, err, tc.group)
			}
			checkSample(t, f, g, tc.sample)
			l, err := f.OpenLimits(g)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if got, err := l.CPUs(); err != nil || got != tc.cpus {
				t.Errorf("quota of %g CPUs, %v; want %g", got, err, tc.cpus)
			}
			if got, err := l.Shares(); err != nil || got != tc.shares {
				t.Errorf("shares of %g CPUs, %v; want %g", got, err, tc.shares)
			}
		})
	}
}

func checkSample(t *testing.T, f *FS, g Group, want Sample) {
	t.Helper()
	r, err := f.OpenReader(g)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got Sample
	if err := errors.Join(r.Read(&got), r.Throttling(&got), r.Split(&got)); err != nil {
		t.Fatal(err)
	}
	if got.At.IsZero() {
		t.Error("a sample has no time")
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(Sample{}, "At")); d != "" {
		t.Error(d)
	}
	if u, err := r.Usage(); err != nil || u != want.Usage {
		t.Errorf("usage %v, %v; want %v", u, err, want.Usage)
	}
}

func TestOfRefusesWhatIsNoPlaceBelowTheRoot(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, host string
		pid        int
		want       error
	}{
		{"a path that leaves the hierarchy", "v1-debian9", 666, errBadPath},
		{"dots further down", "v1-debian9", 667, errBadPath},
		{"a zombie, which v1 shows in the root", "v1-debian9", 700, fs.ErrNotExist},
		{"a process that is exiting", "v1-debian9", 701, fs.ErrNotExist},
		{"not a cgroup file", "v1-debian9", 702, errMalformed},
		{"no such process", "v1-debian9", 9999, fs.ErrNotExist},
		{"a removed v2 cgroup", "v2-6.1", 7400, ErrGone},
		{"outside of our v2 namespace", "v2-6.1", 7401, errBadPath},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if g, err := fixture(t, tc.host).Of(tc.pid); !errors.Is(err, tc.want) {
				t.Errorf("Of(%d) = %+v, %v; want %v", tc.pid, g, err, tc.want)
			}
		})
	}
	if _, err := fixture(t, "v1-debian9").Of(-1); err == nil {
		t.Error("process -1 has a cgroup")
	}
}

func TestAbsentCgroupsAreGone(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"v1-debian9", "v1-centos7", "v2-6.1", "hybrid"} {
		f := fixture(t, host)
		if _, err := f.OpenReader(same("/absent")); !errors.Is(err, ErrGone) {
			t.Errorf("%s: OpenReader: %v", host, err)
		}
		if _, err := f.OpenLimits(same("/absent")); !errors.Is(err, ErrGone) {
			t.Errorf("%s: OpenLimits: %v", host, err)
		}
		if _, err := f.Procs("/absent"); !errors.Is(err, ErrGone) {
			t.Errorf("%s: Procs: %v", host, err)
		}
		if err := f.Kill(t.Context(), "/absent"); err != nil {
			t.Errorf("%s: Kill: %v", host, err)
		}
		if err := f.Remove("/absent"); err != nil {
			t.Errorf("%s: Remove: %v", host, err)
		}
		if _, err := f.OpenReader(Group{}); !errors.Is(err, errBadPath) {
			t.Errorf("%s: OpenReader of no group: %v", host, err)
		}
	}
}

func TestProcsListsATreeOnce(t *testing.T) {
	t.Parallel()
	for host, want := range map[string][]int{"v1-debian9": {1, 412, 2412, 2440, 3107}, "v2-6.1": {1, 7301, 7302}, "hybrid": {1, 4711}} {
		got, err := fixture(t, host).Procs("/")
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%s: %v %s", host, err, d)
		}
	}
}

func TestOOMKillsAreCountedWhereTheKernelDoes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		host, path string
		want       uint64
	}{{"hybrid", "/mesos/" + mesosID, 3}, {"v1-centos7", scope, 0}, {"v2-6.1", scope, 2}, {"v2-6.1", "/", 0}} {
		if got, err := fixture(t, tc.host).OOMKills(tc.path); err != nil || got != tc.want {
			t.Errorf("%s %s: %d, %v; want %d", tc.host, tc.path, got, err, tc.want)
		}
	}
}

func TestHostWithoutCgroupsIsRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	for _, root := range []string{empty, filepath.Join(empty, "absent")} {
		if _, err := New(Options{Root: root, Proc: empty}); err == nil {
			t.Errorf("%s was taken for a cgroup root", root)
		}
	}
	if err := os.MkdirAll(filepath.Join(empty, "memory"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Root: empty, Proc: empty}); err == nil {
		t.Error("a host without the cpu controller was accepted")
	}
}
