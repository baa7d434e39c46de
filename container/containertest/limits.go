package containertest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qosctl/cgroup"
	"qosctl/container"
)

// quota reads the CPUs that the kernel gives a group: -1 for no limit.
func (b *bench) quota(t *testing.T, g cgroup.Group) float64 {
	t.Helper()
	if b.QuotaFile == nil {
		t.Skip("the setup does not say where the kernel keeps quotas")
	}
	text, err := os.ReadFile(b.QuotaFile(g))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(text))
	if f[0] == "max" || f[0] == "-1" {
		return -1
	}
	q, err := strconv.ParseFloat(f[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return q / 100000
}

func near(a, b float64) bool { return math.Abs(a-b) < 0.0005 }

func limitsAtCreation(t *testing.T, b *bench) {
	id := b.create(t, container.Spec{Parent: "execution-1", Command: "sleep 1000", Limits: container.Limits{CPUs: 0.25, Shares: 0.5, MemBytes: 64 << 20}})
	if err := b.Engine.Resize(t.Context(), id, container.Limits{CPUs: 0.75}); err != nil {
		t.Errorf("resize before the start: %v", err)
	}
	if err := b.Engine.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	i := b.inspect(t, id)
	if got := b.quota(t, i.Cgroup); !near(got, 0.75) || !near(i.Limits.CPUs, 0.75) || !near(i.Limits.Shares, 0.5) || i.Limits.MemBytes != 64<<20 {
		t.Errorf("quota %v, limits %+v", got, i.Limits)
	}
	if !strings.Contains(i.Cgroup.CPU, "/execution-1/") {
		t.Errorf("cgroup %q has not the parent asked for", i.Cgroup.CPU)
	}
	id = b.run(t, container.Spec{Command: "sleep 1000"})
	if got := b.quota(t, b.inspect(t, id).Cgroup); got != -1 {
		t.Errorf("no limit was asked for, quota is %v", got)
	}
	id = b.run(t, container.Spec{Command: `head -c 100000000 /dev/zero | tail`, Limits: container.Limits{MemBytes: 16 << 20}})
	if x := b.wait(t, id); !x.OOM {
		t.Errorf("killed for memory, exit says %+v", x)
	}
}

func resize(t *testing.T, b *bench) {
	id, end := b.running(t)
	g := b.inspect(t, id).Cgroup
	for _, cpus := range []float64{0.5, 1.25, 0.1, 3, -1, 0.333} {
		if err := b.Engine.Resize(t.Context(), id, container.Limits{CPUs: cpus}); err != nil {
			t.Fatal(err)
		}
		if got := b.quota(t, g); !near(got, cpus) {
			t.Errorf("resized to %v, the kernel has %v", cpus, got)
		}
		if i := b.inspect(t, id); !near(i.Limits.CPUs, cpus) {
			t.Errorf("resized to %v, the engine says %v", cpus, i.Limits.CPUs)
		}
	}
	if err := b.Engine.Resize(t.Context(), id, container.Limits{Shares: 0.5}); err != nil {
		t.Fatal(err)
	}
	if i := b.inspect(t, id); !near(i.Limits.Shares, 0.5) || !near(i.Limits.CPUs, 0.333) {
		t.Errorf("limits %+v: shares were to change, no more", i.Limits)
	}
	for _, l := range []container.Limits{{CPUs: math.NaN()}, {CPUs: math.Inf(1)}, {CPUs: 0.001}, {Shares: math.NaN()}} {
		if err := b.Engine.Resize(t.Context(), id, l); err == nil {
			t.Errorf("accepted: %+v", l)
		}
	}
	if got := b.quota(t, g); !near(got, 0.333) {
		t.Errorf("a refused resize left %v", got)
	}
	end()
	b.wait(t, id)
	if err := b.Engine.Resize(t.Context(), id, container.Limits{CPUs: 1}); !errors.Is(err, container.ErrNotRunning) {
		t.Errorf("resize an exited one: %v", err)
	}
}

// unchanged watches the kernel's file: every write of it, even of the same value, refills the quota's pool.
func unchanged(t *testing.T, b *bench) {
	id, _ := b.running(t)
	l := container.Limits{CPUs: 0.5, Shares: 0.5}
	if err := b.Engine.Resize(t.Context(), id, l); err != nil {
		t.Fatal(err)
	}
	g := b.inspect(t, id).Cgroup
	b.quota(t, g)
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Close(fd); err != nil {
			t.Error(err)
		}
	})
	file := b.QuotaFile(g)
	for _, name := range []string{file, filepath.Join(filepath.Dir(file), "cpu.shares")} {
		if _, err = unix.InotifyAddWatch(fd, name, unix.IN_MODIFY); err != nil && !errors.Is(err, unix.ENOENT) {
			t.Fatal(err)
		}
	}
	engines := []container.Engine{b.Engine, b.Engine}
	if b.Reopen != nil {
		engines = append(engines, b.Reopen(t))
	}
	for _, e := range engines {
		if err = e.Resize(t.Context(), id, l); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 4096)
	if n, err := unix.Read(fd, buf); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("an unchanged limit was written: %d bytes of events, %v", n, err)
	}
	if err = b.Engine.Resize(t.Context(), id, container.Limits{CPUs: 0.6}); err != nil {
		t.Fatal(err)
	}
	once := func(n int) bool { // runc ≥ 1.2 writes the shares, too
		return n == unix.SizeofInotifyEvent || b.Image != "" && n == 2*unix.SizeofInotifyEvent
	}
	if n, err := unix.Read(fd, buf); err != nil || !once(n) {
		t.Errorf("a changed limit was not written once: %d bytes of events, %v", n, err)
	}
}

func notFound(t *testing.T, b *bench) {
	ctx := t.Context()
	for _, id := range []string{"nobody", "", "../escape"} {
		_, inspect := b.Engine.Inspect(ctx, id)
		_, wait := b.Engine.Wait(ctx, id)
		errs := map[string]error{"inspect": inspect, "wait": wait, "resize": b.Engine.Resize(ctx, id, container.Limits{CPUs: 1})}
		if b.Observed == nil {
			_, errs["logs"] = b.Engine.Logs(ctx, id, container.Stdout, 0)
			errs["start"] = b.Engine.Start(ctx, id)
			errs["stop"] = b.Engine.Stop(ctx, id, 0)
			errs["remove"] = b.Engine.Remove(ctx, id)
		}
		for what, err := range errs {
			if !errors.Is(err, container.ErrNotFound) {
				t.Errorf("%s %q: %v", what, id, err)
			}
		}
	}
}

func endNoticed(t *testing.T, b *bench) {
	id, end := b.running(t)
	if i := b.inspect(t, id); i.State != container.Running || i.Exit != nil {
		t.Errorf("running: %+v", i)
	}
	end()
	x := b.wait(t, id)
	if x.Finished.IsZero() {
		t.Errorf("exit: %+v", x)
	}
	if i := b.inspect(t, id); i.State != container.Exited || i.Exit == nil {
		t.Errorf("exited: %+v", i)
	}
}

func notSupported(t *testing.T, b *bench) {
	if b.Observed == nil {
		t.Skip("this engine supports all of it")
	}
	id, _ := b.Observed(t)
	ctx := t.Context()
	_, logs := b.Engine.Logs(ctx, id, container.Stdout, 0)
	for what, err := range map[string]error{
		"create": b.Engine.Create(ctx, container.Spec{ID: "x", Command: "true"}), "start": b.Engine.Start(ctx, id),
		"stop": b.Engine.Stop(ctx, id, 0), "remove": b.Engine.Remove(ctx, id), "logs": logs,
	} {
		if !errors.Is(err, container.ErrNotSupported) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func reopened(t *testing.T, b *bench) {
	if b.Reopen == nil {
		t.Skip("the setup has no second engine")
	}
	waiting := b.create(t, container.Spec{Command: "echo late"})
	ended := b.run(t, container.Spec{Command: "echo done; exit 9"})
	b.wait(t, ended)
	live := b.run(t, container.Spec{Command: `echo up; while ! [ -e go ]; do sleep 0.01; done; echo gone; exit 6`, Limits: container.Limits{CPUs: 0.5}, Labels: map[string]string{"k": "v"}})
	b.up(t, live)
	pid := b.inspect(t, live).PID

	b.Engine = b.Reopen(t)
	i := b.inspect(t, live)
	if i.State != container.Running || i.PID != pid || i.Labels["k"] != "v" || !near(i.Limits.CPUs, 0.5) {
		t.Errorf("running: %+v", i)
	}
	if i = b.inspect(t, ended); i.Exit == nil || i.Exit.Code != 9 {
		t.Errorf("exited: %+v", i)
	}
	if err := b.Engine.Start(t.Context(), waiting); err != nil {
		t.Errorf("start one that the engine before created: %v", err)
	}
	if err := b.Engine.Resize(t.Context(), live, container.Limits{CPUs: 0.75}); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/cwd/go", pid), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := b.output(t, live, container.Stdout, 3); string(out) != "gone\n" {
		t.Errorf("output from 3: %q", out)
	}
	if x := b.wait(t, live); x.Code != 6 {
		t.Errorf("exit: %+v", x)
	}
	b.wait(t, waiting)
}

func usedAtOnce(t *testing.T, b *bench) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var wg sync.WaitGroup
	for n := range 8 {
		id := b.create(t, container.Spec{ID: fmt.Sprintf("at-once-%d", n), Parent: "shared", Command: fmt.Sprintf("echo %d; exit %d", n, n)})
		wg.Go(func() {
			if err := b.Engine.Start(ctx, id); err != nil {
				t.Error(err)
				return
			}
			var pair sync.WaitGroup
			pair.Go(func() {
				if _, err := b.Engine.List(ctx); err != nil {
					t.Error(err)
				}
				err := b.Engine.Resize(ctx, id, container.Limits{CPUs: 0.5 + float64(n)/10})
				if err != nil && !errors.Is(err, container.ErrNotRunning) {
					t.Error(err)
				}
			})
			x, err := b.Engine.Wait(ctx, id)
			if err != nil || x.Code != n {
				t.Errorf("exit of %s: %+v, %v", id, x, err)
			}
			pair.Wait()
			if n%2 == 0 {
				if err := b.Engine.Remove(ctx, id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// cpuTime compares the account with what a program that burns CPU has seen itself: the scheduler's clock of its only thread.
func cpuTime(t *testing.T, b *bench) {
	if _, err := os.Stat("/proc/self/schedstat"); err != nil {
		t.Skip("this kernel has no /proc/PID/schedstat")
	}
	id := b.run(t, container.Spec{Command: `read a x < /proc/self/schedstat
i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done
read b x < /proc/self/schedstat; echo $((b - a))`})
	x := b.wait(t, id)
	ns, err := strconv.ParseInt(strings.TrimSpace(string(b.output(t, id, container.Stdout, 0))), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	own := time.Duration(ns)
	// The tick that the scheduler's clock may lag, and the shell's own start and end.
	more, less := 20*time.Millisecond, 5*time.Millisecond
	if b.Image != "" {
		more = 300 * time.Millisecond // the runtime sets the container up from inside
	}
	if d := x.CPU - own; d < -less || d > more {
		t.Errorf("account has %v, the program %v: %v apart", x.CPU, own, d)
	}
	t.Logf("account %v, program %v", x.CPU, own)
}
