package mesos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/cgroup"
	"qosctl/container"
	"qosctl/container/containertest"
)

// agent stands for the Mesos agent's state.
type agent struct {
	mu    sync.Mutex
	tasks []Task
	err   error
}

func (a *agent) Tasks(ctx context.Context) ([]Task, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]Task(nil), a.tasks...), errors.Join(a.err, ctx.Err())
}

func (a *agent) set(err error, tasks ...Task) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tasks, a.err = tasks, err
}

func needCgroups(t *testing.T) *cgroup.FS {
	t.Helper()
	fs, err := cgroup.New(cgroup.Options{})
	if err != nil {
		t.Skipf("SKIPPED, no cgroups on this host: %v", err)
	}
	if err = fs.Access(); err != nil {
		t.Skipf("SKIPPED, run as root: %v", err)
	}
	return fs
}

// rig is an engine over a cgroup root of its own.
type rig struct {
	*agent
	e    *Engine
	fs   *cgroup.FS
	root string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{agent: &agent{}, fs: needCgroups(t), root: fmt.Sprintf("qosctl-test-mesos-%d-%d", os.Getpid(), time.Now().UnixNano())}
	t.Cleanup(func() {
		if err := errors.Join(r.fs.Kill(context.Background(), "/"+r.root), r.fs.Remove("/"+r.root)); err != nil {
			t.Error(err)
		}
	})
	r.e = r.open(t)
	return r
}

func (r *rig) open(t *testing.T) *Engine {
	t.Helper()
	e, err := New(Options{Source: r.agent, Cgroups: r.fs, Root: r.root, Poll: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// launch does what Mesos does: a cgroup, a process in it, a task in the state. end ends the process and removes the cgroup.
func (r *rig) launch(t *testing.T, id string) (end func()) {
	t.Helper()
	path := "/" + r.root + "/" + id
	if _, err := r.fs.Create(path); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		err := cmd.Process.Kill()
		_ = cmd.Wait() // killed
		if err = errors.Join(err, r.fs.Remove(path)); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	if err := r.fs.Join(path, cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	r.set(nil, Task{ID: "task-" + id, ContainerID: id, State: "TASK_RUNNING", Name: "app", FrameworkName: "marathon", CPUs: 0.5, Labels: map[string]string{"qosctl.job": "j"}})
	return end
}

func TestConformance(t *testing.T) {
	t.Parallel()
	containertest.Run(t, func(t *testing.T) containertest.Setup {
		r := newRig(t)
		return containertest.Setup{
			Engine: r.e,
			Reopen: func(t *testing.T) container.Engine { return r.open(t) },
			QuotaFile: func(g cgroup.Group) string {
				return filepath.Join("/sys/fs/cgroup/cpu", g.CPU, "cpu.cfs_quota_us")
			},
			Observed: func(t *testing.T) (string, func()) { return "4d1b2a6c", r.launch(t, "4d1b2a6c") },
		}
	})
}

func TestJoinsStateAndKernel(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.launch(t, "b")
	running := r.tasks[0]
	r.set(nil, running,
		Task{ID: "staging", ContainerID: "c", State: "TASK_STAGING"},
		Task{ID: "unnamed", State: "TASK_STAGING"},
		Task{ID: "fine", ContainerID: "a", State: "TASK_FINISHED"},
		Task{ID: "bad", ContainerID: "d", State: "TASK_FAILED"},
		Task{ID: "vanished", ContainerID: "e", State: "TASK_RUNNING"},
		Task{ID: "evil", ContainerID: "../x", State: "TASK_RUNNING"},
	)
	infos, err := r.e.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, i := range infos {
		got[i.ID] = string(i.State)
		if i.Exit != nil {
			got[i.ID] += fmt.Sprintf(" %d %v", i.Exit.Code, i.Exit.Unknown)
		}
	}
	want := map[string]string{"a": "exited 0 false", "b": "running", "c": "created", "d": "exited 255 true", "e": "running"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	i, err := r.e.Inspect(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"qosctl.job": "j", TaskLabel: "task-b", NameLabel: "app", FrameworkLabel: "marathon"}
	if d := cmp.Diff(labels, i.Labels); d != "" || i.PID == 0 || i.Cgroup != r.e.group("b") {
		t.Errorf("%+v %s", i, d)
	}
}

func TestWaitOutlastsTheMesosAgent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	end := r.launch(t, "x")
	if i, err := r.e.Inspect(t.Context(), "x"); err != nil || i.State != container.Running {
		t.Fatalf("%+v, %v", i, err)
	}
	done := make(chan container.Exit, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		x, err := r.e.Wait(t.Context(), "x")
		if err != nil {
			t.Error(err)
		}
		done <- x
	})
	task := r.tasks[0]
	r.set(errors.New("connection refused"))
	end()
	r.set(nil, task)
	if x := <-done; !x.Unknown || x.Code != container.CodeUnknown {
		t.Errorf("exit %+v", x)
	}
}

// TestUnknownContainer: Mesos runs it, has made no cgroup for it, and no Docker is known. It runs until Mesos says that it has ended.
func TestUnknownContainer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	running := Task{ID: "task", ContainerID: "x", State: "TASK_RUNNING", CPUs: 0.5}
	// Its executor had another task, which tells nothing of this one.
	r.set(nil, Task{ID: "before", ContainerID: "x", State: "TASK_FINISHED"})
	if i, err := r.e.Inspect(t.Context(), "x"); err != nil || i.State != container.Exited {
		t.Fatalf("%+v, %v", i, err)
	}
	r.set(nil, running)
	for range 3 {
		i, err := r.e.Inspect(t.Context(), "x")
		if err != nil || i.State != container.Running || i.Exit != nil || i.Cgroup != (cgroup.Group{}) || i.PID != 0 {
			t.Errorf("%+v, %v", i, err)
		}
	}
	err := r.e.Resize(t.Context(), "x", container.Limits{CPUs: 1})
	if !errors.Is(err, container.ErrNotSupported) || !strings.Contains(err.Error(), "neither Mesos made its cgroup") || !strings.Contains(err.Error(), "nor has Docker a container mesos-x") {
		t.Errorf("resize: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*r.e.o.Poll)
	defer cancel()
	if x, err := r.e.Wait(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait: %+v, %v", x, err)
	}
	running.State = "TASK_FINISHED"
	r.set(nil, running)
	if x, err := r.e.Wait(t.Context(), "x"); err != nil || x.Code != 0 || x.Unknown {
		t.Errorf("wait: %+v, %v", x, err)
	}
}

// TestEndKeepsNoFiles: a container that has ended keeps no file open, and stays ended however it is asked, while Mesos still says that it runs.
func TestEndKeepsNoFiles(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	end := r.launch(t, "x")
	if err := r.e.Resize(t.Context(), "x", container.Limits{CPUs: 0.4}); err != nil {
		t.Fatal(err)
	}
	if n := r.e.kept(); n != 1 {
		t.Errorf("%d kept open while it runs", n)
	}
	end()
	for range 2 {
		if err := r.e.Resize(t.Context(), "x", container.Limits{CPUs: 0.3}); !errors.Is(err, container.ErrNotRunning) {
			t.Errorf("resize: %v", err)
		}
		if i, err := r.e.Inspect(t.Context(), "x"); err != nil || i.State != container.Exited {
			t.Errorf("%+v, %v", i, err)
		}
	}
	if n := r.e.kept(); n != 0 {
		t.Errorf("%d kept open after its end", n)
	}
}

// kept is the number of containers whose limits are open.
func (e *Engine) kept() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.limits)
}

func TestEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ch, err := r.e.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	end := r.launch(t, "x")
	if ev := <-ch; ev.ID != "x" || ev.Kind != container.EventStart {
		t.Errorf("event %+v", ev)
	}
	end()
	if ev := <-ch; ev.ID != "x" || ev.Kind != container.EventExit {
		t.Errorf("event %+v", ev)
	}
	cancel()
	for range ch { //nolint:revive // it must end
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	now := []container.Info{{ID: "new", State: container.Running}, {ID: "quick", State: container.Exited}, {ID: "same", State: container.Running}, {ID: "wait", State: container.Created}}
	var got []string
	for _, ev := range changes(map[string]container.State{"same": container.Running, "lost": container.Running, "old": container.Exited}, now, time.Now()) {
		got = append(got, ev.ID+" "+string(ev.Kind))
	}
	if d := cmp.Diff([]string{"new start", "quick start", "quick exit", "lost exit"}, got); d != "" {
		t.Error(d)
	}
}
