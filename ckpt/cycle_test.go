package ckpt

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/image"

	"qosctl/cgroup"
	"qosctl/container"
)

const (
	shellImage = "qosctl-test:shell"
	jobUUID    = "0000000c-0000-4000-8000-00000000000c"
)

// needShell imports an image with the node's static busybox.
func needShell(t *testing.T, o Options) {
	t.Helper()
	if _, err := o.Docker.ImageInspect(t.Context(), shellImage); err == nil {
		return
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(h tar.Header, data []byte) {
		h.Size = int64(len(data))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	add(tar.Header{Name: "bin/busybox", Mode: 0o755, Typeflag: tar.TypeReg}, busybox)
	for _, name := range []string{"sh", "sleep", "cat", "rm", "ls", "sha256sum", "usleep", "tail", "flock", "nc", "mkdir", "dd", "date"} {
		add(tar.Header{Name: "bin/" + name, Linkname: "busybox", Mode: 0o777, Typeflag: tar.TypeSymlink}, nil)
	}
	for _, name := range []string{"delete-me", "change-me", "keep-me"} {
		add(tar.Header{Name: "data/" + name, Mode: 0o644, Typeflag: tar.TypeReg}, []byte(name+"\n"))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := o.Docker.ImageImport(t.Context(), image.ImportSource{Source: &buf, SourceName: "-"}, shellImage, image.ImportOptions{})
	if err == nil {
		_, err = io.Copy(io.Discard, r)
		_ = r.Close() // read to its end
	}
	if err != nil {
		t.Fatal(err)
	}
}

// rig is a Keeper with a driver, and the containers of one execution.
type rig struct {
	t     *testing.T
	o     Options
	k     *Keeper
	n     int // incarnation
	base  time.Duration
	zero  time.Duration
	allow Allow
}

// drivers that work on this node.
func drivers() []string {
	if os.Getenv("QOSCTL_E2E_NODE") == "trixie" {
		return []string{"runtime", "docker"}
	}
	return []string{"runtime"}
}

func newRig(t *testing.T, driver string) *rig {
	t.Helper()
	o := needNode(t)
	needShell(t, o)
	k, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	k.choose(driver, Report{Driver: driver, Class: k.class(t.Context(), driver)})
	r := &rig{t: t, o: o, k: k}
	t.Cleanup(r.clear)
	return r
}

func (r *rig) id(n int) string { return fmt.Sprintf("%s-1-%d", jobUUID, n) }

// clear removes the containers and looks for what is left.
func (r *rig) clear() {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	for n := 1; n <= r.n+1; n++ {
		err := r.o.Engine.Stop(ctx, r.id(n), 0)
		if errors.Is(err, container.ErrNotFound) || errors.Is(err, container.ErrNotRunning) {
			err = nil
		}
		if rerr := r.o.Engine.Remove(ctx, r.id(n)); rerr != nil && !errors.Is(rerr, container.ErrNotFound) {
			err = errors.Join(err, rerr)
		}
		if err != nil {
			r.t.Error(err)
		}
	}
	left, err := os.ReadDir("/tmp")
	for _, e := range left {
		if strings.HasPrefix(e.Name(), "ctrd-checkpoint") {
			r.t.Errorf("containerd's %s is left in /tmp", e.Name())
		}
	}
	if err != nil {
		r.t.Error(err)
	}
}

func (r *rig) spec(n int, command string) container.Spec {
	return container.Spec{
		ID: r.id(n), Image: shellImage, Command: command, Network: "none", Parent: jobUUID + "-1",
		Labels: map[string]string{"qosctl.job": jobUUID}, Limits: container.Limits{CPUs: 0.9, Shares: 0.5},
	}
}

// start starts the first incarnation.
func (r *rig) start(s container.Spec) {
	r.t.Helper()
	r.n = 1
	if err := r.k.Prepare(&s); err != nil {
		r.t.Fatal(err)
	}
	if err := r.o.Engine.Create(r.t.Context(), s); err != nil {
		r.t.Fatal(err)
	}
	if err := r.o.Engine.Start(r.t.Context(), s.ID); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) group() cgroup.Group {
	i, err := r.o.Engine.Inspect(r.t.Context(), r.id(r.n))
	if err != nil {
		r.t.Fatal(err)
	}
	return cgroup.Group{CPU: i.Cgroup.CPUAcct, CPUAcct: i.Cgroup.CPUAcct}
}

func (r *rig) take(keep bool) (Manifest, error) {
	return r.k.Take(r.t.Context(), Order{
		Job: jobUUID, Name: "/test", Epoch: uint64(r.n), Execution: 1, Incarnation: r.n, Container: r.id(r.n), Group: r.group(),
		Base: r.base, Zero: r.zero, Keep: keep, Allow: r.allow,
	})
}

// next takes a checkpoint and restores it into the next container.
func (r *rig) next(s container.Spec, sealFirst bool) Manifest {
	r.t.Helper()
	m, err := r.take(false)
	if err != nil {
		r.t.Fatalf("take: %v", err)
	}
	if sealFirst {
		if _, _, err := r.k.Seal(r.t.Context(), m.ref()); err != nil {
			r.t.Fatalf("seal: %v", err)
		}
	}
	out, err := r.k.Restore(r.t.Context(), m.ref(), s)
	if err != nil {
		r.t.Fatalf("restore: %v", err)
	}
	r.n++
	r.base, r.zero = m.CPU, out.Zero
	if m.Dump.Frozen <= 0 || m.Dump.Pages == 0 || m.Dump.Whole < m.Dump.Frozen || out.Stats.Restore <= 0 || out.Stats.Pages == 0 {
		r.t.Errorf("CRIU's statistics: %+v, %+v", m.Dump, out.Stats)
	}
	if _, _, err := r.k.Seal(r.t.Context(), m.ref()); err != nil {
		r.t.Fatalf("seal: %v", err)
	}
	if _, err := r.k.Verify(r.t.Context(), m.ref()); err != nil {
		r.t.Errorf("verify: %v", err)
	}
	r.t.Logf("generation %d: cpu %s, overhead %s, dump %s (CRIU frozen %s), restore %s (CRIU %s)", r.n, m.CPU, out.Zero-m.Counter, m.Dump.Whole, m.Dump.Frozen, out.Stats.Whole, out.Stats.Restore)
	return m
}

// output is all standard output of an incarnation so far.
func (r *rig) output(n int) string {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	cancel() // what is there
	l, err := r.o.Engine.Logs(ctx, r.id(n), container.Stdout, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	defer l.Close()
	b, err := io.ReadAll(l)
	if err != nil && !errors.Is(err, context.Canceled) {
		r.t.Fatal(err)
	}
	return string(b)
}

// await waits until the present incarnation's output is as wanted.
func (r *rig) await(what string, ok func(out string) bool) string {
	r.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(20 * time.Second); ; <-tick.C {
		out := r.output(r.n)
		if ok(out) {
			return out
		}
		if time.Now().After(until) {
			r.t.Fatalf("not so: %s; output ends %q", what, out[max(0, len(out)-200):])
		}
	}
}

// last is the last line of an output.
func last(out string) string {
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	return lines[len(lines)-1]
}

// TestGenerations takes a counting job with changed files through five checkpoints: it never goes back, repeats or loses a line, and
// its account is what it has counted of its own CPU time.
func TestGenerations(t *testing.T) {
	for _, driver := range drivers() {
		t.Run(driver, func(t *testing.T) {
			r := newRig(t, driver)
			// The shell sums up differences of its own CPU clock, which begins anew at each restore.
			command := `rm /data/delete-me; echo changed >/data/change-me; exec 3>>/data/open; n=0; sum=0; a=0
while :; do
	i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done
	n=$((n+1)); echo $n >&3
	read b x </proc/self/schedstat
	[ $b -gt $a ] && sum=$((sum+b-a))
	a=$b
	echo $n $sum
done`
			r.start(r.spec(1, command))
			for range 5 {
				r.await("some lines", func(out string) bool { return strings.Count(out, "\n") > 20 })
				r.next(r.spec(r.n+1, command), r.n%2 == 0)
			}
			r.await("some lines", func(out string) bool { return strings.Count(out, "\n") > 20 })
			m, err := r.take(false)
			if err != nil {
				t.Fatal(err)
			}
			var whole string
			for n := 1; n <= r.n; n++ {
				whole += r.output(n)
			}
			lines := strings.Split(strings.TrimSuffix(whole, "\n"), "\n")
			for i, l := range lines {
				if f := strings.Fields(l); len(f) != 2 || f[0] != strconv.Itoa(i+1) {
					t.Fatalf("line %d is %q", i+1, l)
				}
			}
			sum, err := strconv.ParseInt(strings.Fields(lines[len(lines)-1])[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			// What the shell does not see: its start and the runtime's, and at each checkpoint the round that is cut in two.
			if d := m.CPU - time.Duration(sum); d < -20*time.Millisecond || d > 250*time.Millisecond {
				t.Errorf("account %s, the job counted %s: %s apart", m.CPU, time.Duration(sum), d)
			} else {
				t.Logf("account %s, the job counted %s: %s apart", m.CPU, time.Duration(sum), d)
			}
			if list, err := r.k.List(t.Context(), jobUUID); err != nil || len(list) != 6 {
				t.Errorf("%d checkpoints, %v", len(list), err)
			}
			if err := r.k.Prune(t.Context(), func(string) bool { return true }); err != nil {
				t.Error(err)
			}
			if list, err := r.k.List(t.Context(), jobUUID); err != nil || len(list) != r.o.Keep {
				t.Errorf("%d checkpoints are kept, %v", len(list), err)
			}
		})
	}
}
