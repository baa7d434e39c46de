package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// A Docker container of ours is counted by its execution's cgroup, which stands above its own.
func TestCPUTimeIsTheCountedCgroupsAndThrottlingTheLimitedOnes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		host         string
		own, counted string
	}{
		{"v1-debian9", "/docker/" + dockerID, "/mesos/" + mesosID},
		{"v2-6.1", scope, "/system.slice"},
		{"v2-6.1", scope, "/"},
		{"hybrid", "/mesos/" + mesosID, "/mesos"},
	} {
		t.Run(tc.host+tc.counted, func(t *testing.T) {
			t.Parallel()
			f := fixture(t, tc.host)
			own, counted := sampleOf(t, f, same(tc.own)), sampleOf(t, f, same(tc.counted))
			if own.Usage == counted.Usage {
				t.Fatal("the fixture can't tell them apart")
			}
			want := own
			want.Usage, want.User, want.System = counted.Usage, counted.User, counted.System
			checkSample(t, f, Group{CPU: tc.own, CPUAcct: tc.counted}, want)
			checkSample(t, f, Group{CPUAcct: tc.counted}, Sample{Usage: want.Usage, User: want.User, System: want.System})
		})
	}
}

func sampleOf(t *testing.T, f *FS, g Group) (s Sample) {
	t.Helper()
	r, err := f.OpenReader(g)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := errors.Join(r.Read(&s), r.Throttling(&s), r.Split(&s)); err != nil {
		t.Fatal(err)
	}
	s.At = time.Time{}
	return s
}

func TestAGroupNeedsTheCgroupThatIsCounted(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"v1-debian9", "v2-6.1", "hybrid"} {
		f := fixture(t, host)
		for _, g := range []Group{{CPU: "/"}, {CPU: "../up", CPUAcct: "/"}, {CPUAcct: "relative"}} {
			if _, err := f.OpenReader(g); !errors.Is(err, errBadPath) {
				t.Errorf("%s: %+v: %v", host, g, err)
			}
		}
		for _, g := range []Group{{CPUAcct: "/absent"}, {CPU: "/absent", CPUAcct: "/"}, {CPU: "/", CPUAcct: "/absent"}} {
			if _, err := f.OpenReader(g); !errors.Is(err, ErrGone) {
				t.Errorf("%s: %+v: %v", host, g, err)
			}
		}
	}
}

func TestAClosedReaderOfTwoCgroupsReadsNothing(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"v1-debian9", "v2-6.1"} {
		r, err := fixture(t, host).OpenReader(Group{CPUAcct: "/"})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		var s Sample
		if err := r.Read(&s); !errors.Is(err, errClosed) {
			t.Errorf("%s: read: %v", host, err)
		}
		if _, err := r.Usage(); !errors.Is(err, errClosed) {
			t.Errorf("%s: usage: %v", host, err)
		}
		if err := r.Split(&s); host == "v1-debian9" && !errors.Is(err, errClosed) {
			t.Errorf("%s: split: %v", host, err)
		}
	}
}

func TestTwoCgroupsAreReadWithoutAllocations(t *testing.T) {
	f := fixture(t, "v2-6.1")
	r, err := f.OpenReader(Group{CPU: scope, CPUAcct: "/system.slice"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var s Sample
	if n := testing.AllocsPerRun(100, func() { err = errors.Join(err, r.Read(&s), r.Throttling(&s)) }); n > 0 || err != nil {
		t.Errorf("%g allocations, %v", n, err)
	}
}

// A limited cgroup without the cpu controller has no throttling lines; those of the counted one are not taken for its own.
func TestThrottlingOfTheCountedCgroupIsNotTheContainers(t *testing.T) {
	t.Parallel()
	f := scratch(t, "v2-6.1")
	stat := filepath.Join(f.root, scope, "cpu.stat")
	if err := os.WriteFile(stat, []byte("usage_usec 7\nuser_usec 4\nsystem_usec 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	counted := filepath.Join(f.root, "system.slice", "cpu.stat")
	if err := os.WriteFile(counted, []byte("usage_usec 70\nuser_usec 40\nsystem_usec 30\nnr_periods 5\nnr_throttled 4\nthrottled_usec 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := sampleOf(t, f, Group{CPU: scope, CPUAcct: "/system.slice"})
	want := Sample{Usage: 70 * time.Microsecond, User: 40 * time.Microsecond, System: 30 * time.Microsecond}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(Sample{}, "At")); d != "" {
		t.Error(d)
	}
}
