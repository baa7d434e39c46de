package cgroup

import (
	"errors"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParsersRefuseWhatTheKernelNeverWrites(t *testing.T) {
	t.Parallel()
	var s Sample
	stat := func(b []byte) error { _, err := parseCPUStat(b, &s); return err }
	acct := func(b []byte) error { return parseAcctStat(b, 1e7, &s) }
	usage := func(b []byte) error { _, err := parseUsage(b); return err }
	usec := func(b []byte) error { _, err := parseUsageUsec(b); return err }
	quota := func(b []byte) error { _, err := parseQuota(b); return err }
	maximum := func(b []byte) error { _, err := parseCPUMax(b); return err }
	list := func(b []byte) error { _, err := parseCPUList(b); return err }
	group := func(b []byte) error { _, err := parseProcCgroup(b); return err }
	state := func(b []byte) error { _, err := parseExiting(b); return err }
	pids := func(b []byte) error { _, err := parseProcs(b, nil); return err }
	for _, tc := range []struct {
		name  string
		parse func([]byte) error
		good  []string
		bad   []string
	}{
		{"cpuacct.usage", usage, []string{"0\n", "9223372036854775807\n", "12"}, []string{"", "\n", "-1\n", "1 \n", "9223372036854775808\n", "99999999999999999999\n", "1\n\n"}},
		{"cpuacct.stat", acct, []string{"user 1\nsystem 2\n", "user 1\nsystem 2\nnew 7\n"}, []string{"", "user 1\n", "user\nsystem 2\n", "user x\nsystem 2\n", "user 9223372036854775807\nsystem 2\n"}},
		{"cpu.stat", stat, []string{"", "nr_periods 1\nnew words here\n"}, []string{"nr_periods\n", "nr_periods -1\n", "\n", "throttled_usec 9223372036854775807\n"}},
		{"usage_usec", usec, []string{"usage_usec 5\n", "user_usec 1\nusage_usec 5"}, []string{"", "user_usec 5\n", "usage_usec -5\n"}},
		{"cpu.cfs_quota_us", quota, []string{"-1\n", "1000\n", "-5"}, []string{"", "0\n", "-\n", "max\n", "17592186044416\n"}},
		{"cpu.max", maximum, []string{"max 100000\n", "50000 100000\n"}, []string{"", "max", "max 0\n", "-1 100000\n", "0 100000", "a b"}},
		{"cpus list", list, []string{"", "\n", "0\n", "0-3,7,9-12\n"}, []string{",", "0,", "3-1", "1,1", "2,1", "a", "0-99999999", "-1"}},
		{"/proc/PID/cgroup", group, []string{"", "0::/\n", "4:cpu,cpuacct:/a:b\n1:name=systemd:/x"}, []string{"\n", "1\n", "1:cpu\n", "1:cpu:\n", "1:cpu:a\n", "x:cpu:/\n", ":cpu:/\n"}},
		{"/proc/PID/stat", state, []string{"1 (a) b) S 1 1 1 0 -1 4 1"}, []string{"", "1 (a", "1 (a)", "1 (a) S 1", "1 (a) S 1 1 1 0 -1 x 1", "1 (a) S 1 1 1 0 -1 -4 1"}},
		{"cgroup.procs", pids, []string{"", "1\n2\n", "0\n"}, []string{"\n", "-1\n", "a\n", "4294967296\n"}},
	} {
		for _, in := range tc.good {
			if err := tc.parse([]byte(in)); err != nil {
				t.Errorf("%s %q: %v", tc.name, in, err)
			}
		}
		for _, in := range tc.bad {
			if err := tc.parse([]byte(in)); !errors.Is(err, errMalformed) {
				t.Errorf("%s %q was taken: %v", tc.name, in, err)
			}
		}
	}
}

func TestNumbersAreReadAsStrconvDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.OneOf(rapid.StringMatching(`-?[0-9]{0,21}`), rapid.String()).Draw(t, "in")
		got, ok := parseInt([]byte(in))
		want, err := strconv.ParseInt(in, 10, 64)
		// The kernel never writes a plus sign, nor the one negative number that has no positive.
		if strings.HasPrefix(in, "+") || err == nil && want == math.MinInt64 {
			t.Skip()
		}
		if ok != (err == nil) || ok && got != want {
			t.Fatalf("parseInt(%q) = %d, %v; strconv: %d, %v", in, got, ok, want, err)
		}
	})
}

func TestCleanPathsStayBelowTheRoot(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := "/" + strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{"a", "..", ".", "", "...", "a..b", "b c"})).Draw(t, "parts"), "/")
		got, err := cleanPath(in)
		if hostile := strings.Contains(in+"/", "/../"); hostile != (err != nil) {
			t.Fatalf("cleanPath(%q) = %q, %v", in, got, err)
		}
		if again, _ := cleanPath(got); err == nil && again != got {
			t.Fatalf("cleanPath(%q) = %q, cleaned again %q", in, got, again)
		}
	})
	for _, in := range []string{"", "a", "../a", "/a\x00b", "/a\nb", "/" + strings.Repeat("x", 256)} {
		if _, err := cleanPath(in); !errors.Is(err, errBadPath) {
			t.Errorf("cleanPath(%q): %v", in, err)
		}
	}
	if _, err := ownPath("/./"); !errors.Is(err, errBadPath) {
		t.Errorf("the root may be removed: %v", err)
	}
}

func TestQuotaIsExactBoundedAndMonotone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		period := rapid.Int64Range(1000, 1000000).Draw(t, "period")
		a := rapid.Float64Range(0, 1024).Draw(t, "a")
		b := rapid.Float64Range(0, 1024).Draw(t, "b")
		qa, erra := quotaFor(a, period)
		qb, errb := quotaFor(b, period)
		if erra == nil && errb == nil && (a < b && qa > qb) {
			t.Fatalf("%g CPUs are %d, %g are %d", a, qa, b, qb)
		}
		if erra == nil && (qa < minQuota || math.Abs(bandwidth{qa, period}.cpus()-a) > 0.5001/float64(period)) {
			t.Fatalf("%g CPUs of %d are %d", a, period, qa)
		}
		if (erra != nil) != (math.Round(a*float64(period)) < minQuota) {
			t.Fatalf("%g CPUs of %d: %v", a, period, erra)
		}
	})
	for _, cpus := range []float64{0, 0.004, math.NaN(), math.Inf(1), 1e12} {
		if _, err := quotaFor(cpus, 100000); !errors.Is(err, errRange) {
			t.Errorf("%g CPUs: %v", cpus, err)
		}
	}
	if q, err := quotaFor(math.Inf(-1), 100000); q != -1 || err != nil {
		t.Errorf("lifted: %d, %v", q, err)
	}
}

func TestSharesKeepTheProportionOfCPUs(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		cpus           float64
		shares, weight int64
	}{{0, 2, 1}, {0.001, 2, 1}, {0.1, 102, 10}, {1, 1024, 100}, {2.5, 2560, 250}, {100, 102400, 10000}, {1e9, 262144, 10000}} {
		s, err := sharesFor(tc.cpus)
		w, err2 := weightFor(tc.cpus)
		if err != nil || err2 != nil || s != tc.shares || w != tc.weight {
			t.Errorf("%g CPUs: shares %d %v, weight %d %v; want %d, %d", tc.cpus, s, err, w, err2, tc.shares, tc.weight)
		}
	}
	for _, cpus := range []float64{-1, math.NaN()} {
		if _, err := sharesFor(cpus); !errors.Is(err, errShares) {
			t.Errorf("%g CPUs: %v", cpus, err)
		}
	}
}

func TestRefusalsForWantOfRightsSayWhatToDo(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err  error
		want bool
		hint string
	}{{syscall.EACCES, true, "delegated"}, {syscall.EPERM, true, "root"}, {syscall.EROFS, true, "read-write"}, {syscall.EINVAL, false, ""}, {fs.ErrNotExist, false, ""}} {
		err := denied("write x", tc.err)
		if errors.Is(err, ErrNoAccess) != tc.want || !errors.Is(err, tc.err) || !strings.Contains(err.Error(), tc.hint) {
			t.Errorf("%v: %v", tc.err, err)
		}
	}
}

func TestClockTickComesFromTheAuxiliaryVector(t *testing.T) {
	t.Parallel()
	if got, err := tickOf([][2]uintptr{{6, 4096}, {17, 100}}); err != nil || got != 1e7 {
		t.Errorf("%d, %v", got, err)
	}
	if _, err := tickOf([][2]uintptr{{17, 0}}); err == nil {
		t.Error("a tick of 0 Hz was taken")
	}
	if got, err := clockTick(); err != nil || got <= 0 {
		t.Errorf("this machine: %d, %v", got, err)
	}
}

func TestPaceHoldsWritesApartAndNeverLongerThanItsInterval(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var p Pace
	if p.Wait(now, ResizeEvery) != 0 {
		t.Error("the first write waits")
	}
	p.Done(now)
	for after, want := range map[time.Duration]time.Duration{
		0: ResizeEvery, 300 * time.Millisecond: 700 * time.Millisecond, ResizeEvery: 0, time.Hour: 0, -time.Hour: 0,
	} {
		if got := p.Wait(now.Add(after), ResizeEvery); got != want {
			t.Errorf("%v after a write: %v, want %v", after, got, want)
		}
	}
}
