package cgroup

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// cpuTime is the CPU time of this thread in ns, exact: getrusage of a thread is as coarse as the tick.
func cpuTime(b *testing.B) int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		b.Fatal(err)
	}
	return ts.Nano()
}

// chunk is how many calls are timed at once.
const chunk = 100

const (
	mostReading = 1.6 // times the bare preads: what a reading may cost
	enough      = 20  // chunks, for a median that says something
)

// versus runs the bare system calls and ours in turn, in the same minute on the same thread, and reports the median of the ratios.
// The machine's load is reported beside it: figures count below 4. A ratio above most, or an allocation, fails the benchmark, whatever the
// load: both sides have it. 0: no bound.
func versus(b *testing.B, most float64, bare, ours func(i int)) {
	b.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var ratios, limit, cost []float64
	for n := 0; b.Loop(); n += chunk {
		t0 := cpuTime(b)
		for i := range chunk {
			bare(n + i)
		}
		t1 := cpuTime(b)
		for i := range chunk {
			ours(n + i)
		}
		t2 := cpuTime(b)
		limit, cost = append(limit, float64(t1-t0)/chunk), append(cost, float64(t2-t1)/chunk)
		ratios = append(ratios, float64(t2-t1)/float64(t1-t0))
	}
	b.ReportMetric(0, "ns/op") // an iteration is a chunk of both
	ratio, allocs := median(ratios), testing.AllocsPerRun(chunk, func() { ours(0) })
	if most > 0 && len(ratios) >= enough && ratio > most {
		b.Errorf("%.2f times the bare system calls, more than %g", ratio, most)
	}
	if allocs > 0 {
		b.Errorf("%g allocations", allocs)
	}
	b.ReportMetric(ratio, "x_bare")
	b.ReportMetric(median(limit), "bare-cpu-ns")
	b.ReportMetric(median(cost), "ours-cpu-ns")
	b.ReportMetric(allocs, "ours-allocs")
	b.ReportMetric(load(), "load1")
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

func load() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return -1
	}
	var one float64
	_, _ = fmt.Sscan(strings.Fields(string(b))[0], &one)
	return one
}

// bareFiles opens files as the limit reads them: kept open, nothing around the system call.
func bareFiles(b *testing.B, flags int, names ...string) []int {
	b.Helper()
	var fds []int
	for _, n := range names {
		fd, err := unix.Open(n, flags|unix.O_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { unix.Close(fd) })
		fds = append(fds, fd)
	}
	return fds
}

// benchGroups are cgroups to read: a hundred of its own as root, else the root alone.
func benchGroups(b *testing.B) (*FS, []Group) {
	b.Helper()
	f, err := New(Options{})
	if err != nil {
		b.Skip("SKIPPED, needs a host with cgroups:", err)
	}
	if f.Access() != nil {
		b.Log("not root: reads the root cgroup alone")
		return f, []Group{same("/")}
	}
	path := group(b, f)
	var gs []Group
	for i := range 100 {
		gs = append(gs, make1(b, f, fmt.Sprintf("%s/%d", path, i)))
	}
	return f, gs
}

// BenchmarkSample is one reading of all counters, against bare preads of the same files.
func BenchmarkSample(b *testing.B) {
	f, gs := benchGroups(b)
	var fds [][]int
	var readers []*Reader
	for _, g := range gs {
		names := []string{f.cpu.at(g.CPU) + "/cpu.stat"}
		if !f.cpu.unified {
			names = append(names, f.cpuacct.at(g.CPUAcct)+"/cpuacct.usage", f.cpuacct.at(g.CPUAcct)+"/cpuacct.stat")
		}
		fds = append(fds, bareFiles(b, unix.O_RDONLY, names...))
		r, err := f.OpenReader(g)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = r.Close() })
		readers = append(readers, r)
	}
	var buf [statSize]byte
	var s Sample
	versus(b, mostReading, func(i int) {
		for _, fd := range fds[i%len(fds)] {
			if _, err := syscall.Pread(fd, buf[:], 0); err != nil {
				b.Fatal(err)
			}
		}
	}, func(i int) {
		r := readers[i%len(readers)]
		if err := r.Read(&s); err != nil {
			b.Fatal(err)
		}
		if err := r.Throttling(&s); err != nil {
			b.Fatal(err)
		}
		if err := r.Split(&s); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkUsage is one reading of the usage alone, against a bare pread.
func BenchmarkUsage(b *testing.B) {
	f, gs := benchGroups(b)
	name := f.cpuacct.at(gs[0].CPUAcct) + "/cpuacct.usage"
	if f.cpuacct.unified {
		name = f.cpu.at(gs[0].CPU) + "/cpu.stat"
	}
	fd := bareFiles(b, unix.O_RDONLY, name)[0]
	r, err := f.OpenReader(gs[0])
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	var buf [statSize]byte
	versus(b, mostReading, func(int) {
		if _, err := syscall.Pread(fd, buf[:], 0); err != nil {
			b.Fatal(err)
		}
	}, func(int) {
		if _, err := r.Usage(); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkResize is a changed quota, read in force and then written, against the bare pwrite.
// It costs in proportion to the cpu cgroups of the host, which are 100 here.
func BenchmarkResize(b *testing.B) {
	f := host(b)
	if f.cpu.unified {
		b.Skip("SKIPPED, needs cgroup v1")
	}
	_, gs := benchGroups(b)
	g := gs[0]
	fd := bareFiles(b, unix.O_WRONLY, f.cpu.at(g.CPU)+"/cpu.cfs_quota_us")[0]
	l, err := f.OpenLimits(g)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	texts := [2][]byte{[]byte("50000"), []byte("60000")}
	cpus := [2]float64{0.5, 0.6}
	turn := 0
	versus(b, 0, func(i int) {
		if _, err := syscall.Pwrite(fd, texts[i%2], 0); err != nil {
			b.Fatal(err)
		}
	}, func(int) {
		turn++
		if _, err := l.SetCPUs(cpus[turn%2]); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkUnchanged is a resize that changes nothing, against bare preads of quota and period.
func BenchmarkUnchanged(b *testing.B) {
	f := host(b)
	if f.cpu.unified {
		b.Skip("SKIPPED, needs cgroup v1")
	}
	path := group(b, f)
	dir := f.cpu.at(path)
	fds := bareFiles(b, unix.O_RDONLY, dir+"/cpu.cfs_quota_us", dir+"/cpu.cfs_period_us")
	l, err := f.OpenLimits(same(path))
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	if _, err := l.SetCPUs(0.5); err != nil {
		b.Fatal(err)
	}
	var buf [64]byte
	versus(b, 0, func(int) {
		for _, fd := range fds {
			if _, err := syscall.Pread(fd, buf[:], 0); err != nil {
				b.Fatal(err)
			}
		}
	}, func(int) {
		if changed, err := l.SetCPUs(0.5); changed || err != nil {
			b.Fatal(changed, err)
		}
	})
}

func TestReadingAllocatesNothing(t *testing.T) {
	for _, name := range []string{"v1-debian9", "v1-centos7", "v2-6.1", "hybrid"} {
		f := fixture(t, name)
		g := same("/")
		if f.cpu.unified {
			g = same(scope)
		}
		r, err := f.OpenReader(g)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		l := limitsOf(t, f, g.CPU)
		now, err := l.CPUs()
		if err != nil {
			t.Fatal(err)
		}
		var s Sample
		for what, do := range map[string]func() error{
			"Read":               func() error { return r.Read(&s) },
			"Throttling":         func() error { return r.Throttling(&s) },
			"Split":              func() error { return r.Split(&s) },
			"Usage":              func() error { _, err := r.Usage(); return err },
			"CPUs":               func() error { _, err := l.CPUs(); return err },
			"SetCPUs, unchanged": func() error { _, err := l.SetCPUs(now); return err },
		} {
			if n := testing.AllocsPerRun(100, func() {
				if err := do(); err != nil {
					t.Error(err)
				}
			}); n != 0 {
				t.Errorf("%s: %s makes %g allocations", name, what, n)
			}
		}
	}
}
