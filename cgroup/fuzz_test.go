package cgroup

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/cgroups/v3"
)

// seed adds every file of the fixtures that has one of these names.
func seed(f *testing.F, names ...string) {
	f.Helper()
	err := filepath.WalkDir("testdata", func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !slices.Contains(names, d.Name()) {
			return err
		}
		b, err := os.ReadFile(p)
		f.Add(b)
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
}

func FuzzParseUsage(f *testing.F) {
	seed(f, "cpuacct.usage")
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := parseUsage(b); err == nil && d < 0 {
			t.Errorf("%q: %d", b, d)
		}
	})
}

func FuzzParseAcctStat(f *testing.F) {
	seed(f, "cpuacct.stat")
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Sample
		if err := parseAcctStat(b, 1e7, &s); s.User < 0 || s.System < 0 || err != nil && s != (Sample{}) {
			t.Errorf("%q: %+v, %v", b, s, err)
		}
	})
}

func FuzzParseCPUStat(f *testing.F) {
	seed(f, "cpu.stat")
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Sample
		usage, err := parseCPUStat(b, &s)
		if s.Usage < 0 || s.User < 0 || s.System < 0 || s.ThrottledTime < 0 {
			t.Errorf("%q: %+v, %v", b, s, err)
		}
		if only, err2 := parseUsageUsec(b); err == nil && usage && err2 != nil || err == nil && !usage && only != 0 {
			t.Errorf("%q: usage %v, read alone %v %v", b, s.Usage, only, err2)
		}
	})
}

func FuzzParseCPUMax(f *testing.F) {
	seed(f, "cpu.max")
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := parseCPUMax(b)
		if err != nil {
			return
		}
		if again, err := parseCPUMax(appendCPUMax(nil, w)); err != nil || again != w {
			t.Errorf("%q: %+v, written and read again %+v, %v", b, w, again, err)
		}
	})
}

func FuzzParseQuota(f *testing.F) {
	seed(f, "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us", "cpu.shares")
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := parseQuota(b)
		if err == nil {
			if again, err := parseQuota(appendQuota(nil, q)); err != nil || again != q {
				t.Errorf("%q: %d, %v", b, again, err)
			}
		}
		if p, err := parsePeriod(b); err == nil && p < 0 {
			t.Errorf("%q: %d", b, p)
		}
	})
}

// FuzzParseProcCgroup holds ours against containerd's parser, which is the field's.
func FuzzParseProcCgroup(f *testing.F) {
	seed(f, "cgroup")
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseProcCgroup(b)
		if err != nil || bytes.ContainsAny(b, "\r") {
			return
		}
		theirs, unified, err := cgroups.ParseCgroupFromReaderUnified(bytes.NewReader(b))
		if err != nil {
			return // a line longer than its buffer
		}
		if string(p.cpu) != theirs["cpu"] || string(p.cpuacct) != theirs["cpuacct"] {
			t.Errorf("%q: %q %q, theirs %q", b, p.cpu, p.cpuacct, theirs)
		}
		// An empty name in a list is the unified hierarchy to them; the kernel writes none.
		if !strings.Contains(string(b), ",:") && !strings.Contains(string(b), ":,") && !strings.Contains(string(b), ",,") && string(p.unified) != unified {
			t.Errorf("%q: %q, theirs %q", b, p.unified, unified)
		}
		for _, path := range [][]byte{p.cpu, p.cpuacct, p.unified} {
			if c, err := cleanPath(string(path)); err == nil && strings.Contains(c+"/", "/../") {
				t.Errorf("%q leaves the root as %q", path, c)
			}
		}
	})
}

func FuzzParseExiting(f *testing.F) {
	seed(f, "stat")
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parseExiting(b) })
}

func FuzzParseMountinfo(f *testing.F) {
	seed(f, "mountinfo")
	f.Fuzz(func(t *testing.T, b []byte) {
		byName := map[string]*hierarchy{}
		fromMountinfo(b, "/sys/fs/cgroup", byName)
		for name, h := range byName {
			if _, ok := cutDir(h.dir, "/sys/fs/cgroup"); !ok {
				t.Errorf("%q: controller %q is at %q", b, name, h.dir)
			}
		}
	})
}

func FuzzParseProcs(f *testing.F) {
	seed(f, "cgroup.procs")
	f.Fuzz(func(t *testing.T, b []byte) {
		pids, err := parseProcs(b, nil)
		for _, p := range pids {
			if p <= 0 {
				t.Errorf("%q: %v, %v", b, pids, err)
			}
		}
	})
}

func FuzzParseCPUList(f *testing.F) {
	seed(f, "cpuset.cpus", "cpuset.effective_cpus", "cpuset.cpus.effective")
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := parseCPUList(b); n < 0 || n > maxCPU {
			t.Errorf("%q: %d, %v", b, n, err)
		}
	})
}

func FuzzParseOOMKills(f *testing.F) {
	seed(f, "memory.oom_control", "memory.events")
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parseOOMKills(b) })
}

func FuzzParseFrozen(f *testing.F) {
	seed(f, "freezer.state", "cgroup.events")
	f.Fuzz(func(_ *testing.T, b []byte) { _ = parseFrozen(b) })
}
