package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// spy counts the writes of f, and has the kernel refuse some of them.
type spy struct {
	texts  []string
	refuse func(text string) error
}

func (s *spy) on(f *FS) *spy {
	next := f.pwrite
	f.pwrite = func(fd int, b []byte, off int64) (int, error) {
		s.texts = append(s.texts, string(b))
		if s.refuse != nil {
			if err := s.refuse(string(b)); err != nil {
				return 0, err
			}
		}
		return next(fd, b, off)
	}
	return s
}

func limitsOf(t *testing.T, f *FS, path string) *Limits {
	t.Helper()
	l, err := f.OpenLimits(same(path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestOnlyAChangedQuotaIsWritten(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		host, path string
		cpus       float64
		text       string
	}{
		{"v1-debian9", "/mesos/" + mesosID, 0.5, ""},
		{"v1-debian9", "/mesos/" + mesosID, 0.500001, ""},
		{"v1-debian9", "/mesos/" + mesosID, 0.75, "75000"},
		{"v1-debian9", "/mesos/" + mesosID, -1, "-1"},
		{"v1-debian9", "/mesos", -2, ""},
		{"v1-centos7", scope, 2, "200000"},
		{"hybrid", "/mesos/" + mesosID, 0.5, ""}, // its period is 50 ms
		{"hybrid", "/mesos/" + mesosID, 1, "50000"},
		{"v2-6.1", scope, 0.5, ""},
		{"v2-6.1", scope, 1.25, "125000 100000"},
		{"v2-6.1", scope, -1, "max 100000"},
		{"v2-6.1", "/system.slice", -1, ""},
	} {
		f := scratch(t, tc.host)
		s := new(spy).on(f)
		l := limitsOf(t, f, tc.path)
		for range 2 { // the second time it is in force
			if _, err := l.SetCPUs(tc.cpus); err != nil {
				t.Errorf("%s %s %g: %v", tc.host, tc.path, tc.cpus, err)
			}
		}
		if got := strings.Join(s.texts, "|"); got != tc.text {
			t.Errorf("%s %s: SetCPUs(%g) wrote %q, want %q", tc.host, tc.path, tc.cpus, got, tc.text)
		}
	}
}

func TestOnlyChangedSharesAreWritten(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		host, path string
		cpus       float64
		text       string
	}{
		{"v1-debian9", "/mesos/" + mesosID, 0.5, ""},
		{"v1-debian9", "/mesos/" + mesosID, 2, "2048"},
		{"v2-6.1", scope, 0.5, ""},
		{"v2-6.1", scope, 3, "300"},
	} {
		f := scratch(t, tc.host)
		s := new(spy).on(f)
		l := limitsOf(t, f, tc.path)
		for i := range 2 {
			changed, err := l.SetShares(tc.cpus)
			if err != nil || changed != (i == 0 && tc.text != "") {
				t.Errorf("%s: SetShares(%g) = %v, %v", tc.host, tc.cpus, changed, err)
			}
		}
		if got, err := l.Shares(); got != tc.cpus || err != nil {
			t.Errorf("%s: shares of %g CPUs, %v; want %g", tc.host, got, err, tc.cpus)
		}
		if got := strings.Join(s.texts, "|"); got != tc.text {
			t.Errorf("%s: SetShares(%g) wrote %q, want %q", tc.host, tc.cpus, got, tc.text)
		}
	}
}

func TestForeignQuotaIsSeenAndSetAgain(t *testing.T) {
	t.Parallel()
	f := scratch(t, "v2-6.1")
	l := limitsOf(t, f, scope)
	if err := f.writeOnce(f.cpu.at(scope), "cpu.max", "20000 50000"); err != nil {
		t.Fatal(err)
	}
	if got, err := l.CPUs(); got != 0.4 || err != nil {
		t.Errorf("%g CPUs, %v", got, err)
	}
	if changed, err := l.SetCPUs(0.5); !changed || err != nil {
		t.Fatalf("%v, %v", changed, err)
	}
	b, err := os.ReadFile(filepath.Join(f.cpu.at(scope), "cpu.max"))
	if string(b) != "25000 50000\n" || err != nil {
		t.Errorf("cpu.max is %q, %v: not in the period in force", b, err)
	}
}

func TestBurstAboveANewQuotaIsLoweredFirst(t *testing.T) {
	t.Parallel()
	f := scratch(t, "v2-6.1")
	if err := f.writeOnce(f.cpu.at(scope), "cpu.max.burst", "40000"); err != nil {
		t.Fatal(err)
	}
	burst := 40000
	s := &spy{refuse: func(text string) error {
		if text == "30000" {
			burst = 30000
		}
		if text == "30000 100000" && burst > 30000 {
			return syscall.EINVAL
		}
		return nil
	}}
	s.on(f)
	if changed, err := limitsOf(t, f, scope).SetCPUs(0.3); !changed || err != nil {
		t.Fatalf("%v, %v", changed, err)
	}
	if got, want := strings.Join(s.texts, "|"), "30000 100000|30000|30000 100000"; got != want {
		t.Errorf("wrote %q, want %q", got, want)
	}
}

func TestRefusedQuotaNamesItsCause(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, path string
		cpus       float64
		want       error
	}{
		{"above the parent", "/docker/" + dockerID, 3, errAboveParent},
		{"below a child", "/docker", 1, errBelowChild},
		{"no cause found", "/docker/" + dockerID, 1.25, syscall.EINVAL},
		{"too small to ask", "/docker/" + dockerID, 0.001, errRange},
	} {
		f := scratch(t, "v1-debian9")
		if err := f.writeOnce(f.cpu.at("/docker"), "cpu.cfs_quota_us", "200000"); err != nil {
			t.Fatal(err)
		}
		(&spy{refuse: func(string) error { return syscall.EINVAL }}).on(f)
		if changed, err := limitsOf(t, f, tc.path).SetCPUs(tc.cpus); changed || !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, %v", tc.name, changed, err)
		}
	}
}

func TestMissingCPUControllerIsNamed(t *testing.T) {
	t.Parallel()
	f := scratch(t, "v2-6.1")
	if err := os.Mkdir(f.cpu.at("/bare"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := f.OpenLimits(same("/bare")); err == nil || errors.Is(err, ErrGone) || !strings.Contains(err.Error(), "subtree_control") {
		t.Errorf("%v", err)
	}
	if _, err := f.OpenLimits(same("/")); err == nil || !strings.Contains(err.Error(), "root cgroup") {
		t.Errorf("%v", err)
	}
}

func TestClosedFilesAreNeverUsed(t *testing.T) {
	t.Parallel()
	f := scratch(t, "v1-debian9")
	l := limitsOf(t, f, "/mesos")
	r, err := f.OpenReader(same("/mesos"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := errors.Join(l.Close(), r.Close()); err != nil {
			t.Error(err)
		}
	}
	var s Sample
	if err := r.Read(&s); !errors.Is(err, errClosed) {
		t.Error(err)
	}
	if _, err := l.SetCPUs(1); !errors.Is(err, errClosed) {
		t.Error(err)
	}
}

func TestMemoryLimitIsWrittenWhenItChanges(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for _, tc := range []struct {
		host, path string
		bytes      int64
		text       string
	}{
		{"v1-debian9", "/docker/" + dockerID, 256 * mib, ""},
		{"v1-debian9", "/docker/" + dockerID, 256*mib + 17, ""}, // the kernel keeps whole pages
		{"v1-debian9", "/docker/" + dockerID, 128 * mib, "134217728"},
		{"v1-debian9", "/docker/" + dockerID, -5, "-1"},
		{"v1-debian9", "/mesos", -1, ""},
		{"v2-6.1", scope, 256 * mib, ""},
		{"v2-6.1", scope, 512 * mib, "536870912"},
		{"v2-6.1", scope, -1, "max"},
		{"v2-6.1", "/system.slice", -1, ""},
	} {
		f := scratch(t, tc.host)
		s := new(spy).on(f)
		if err := f.SetMemory(tc.path, tc.bytes); err != nil {
			t.Errorf("%s %s: %v", tc.host, tc.path, err)
		}
		if got := strings.Join(s.texts, "|"); got != tc.text {
			t.Errorf("%s: SetMemory(%d) wrote %q, want %q", tc.host, tc.bytes, got, tc.text)
		}
	}
	f := scratch(t, "v1-debian9")
	if err := f.SetMemory("/mesos", 0); err == nil {
		t.Error("a limit of 0 bytes was set")
	}
	(&spy{refuse: func(string) error { return syscall.EBUSY }}).on(f)
	if err := f.SetMemory("/mesos", mib); !errors.Is(err, syscall.EBUSY) || !strings.Contains(err.Error(), "uses more") {
		t.Errorf("%v", err)
	}
}
