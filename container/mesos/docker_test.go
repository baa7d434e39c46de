package mesos

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"qosctl/cgroup"
	"qosctl/container"
)

// daemon stands for Docker: the containers that it has, by ContainerID.
type daemon struct {
	mu      sync.Mutex
	has     map[string]container.Info
	looks   int
	resized []container.Limits
	err     error
}

func (d *daemon) OfMesos(_ context.Context, id string) (container.Info, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.looks++
	i, ok := d.has[id]
	switch {
	case d.err != nil:
		return container.Info{}, d.err
	case !ok:
		return i, container.ErrNotFound
	}
	return i, nil
}

func (d *daemon) Inspect(_ context.Context, name string) (container.Info, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, i := range d.has {
		if i.ID == name {
			return i, d.err
		}
	}
	return container.Info{}, errors.Join(d.err, container.ErrNotFound)
}

func (d *daemon) Resize(_ context.Context, id string, l container.Limits) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if id != "mesos-x" && id != "0b8c29a1" {
		return container.ErrNotFound
	}
	d.resized = append(d.resized, l)
	return nil
}

// TestDockersContainer: its cgroup, limits and end are Docker's word, that it runs and its task are Mesos'.
func TestDockersContainer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	end := r.launch(t, "elsewhere") // Docker's cgroup
	g := cgroup.Group{CPU: "/" + r.root + "/elsewhere", CPUAcct: "/" + r.root + "/elsewhere"}
	d := &daemon{has: map[string]container.Info{"x": {ID: "mesos-x", State: container.Running, Cgroup: g}}}
	r.e.o.Docker = d
	task := Task{ID: "task", ContainerID: "x", State: "TASK_RUNNING", CPUs: 0.5}
	r.set(nil, task)
	for range 3 {
		i, err := r.e.Inspect(t.Context(), "x")
		if err != nil || i.ID != "x" || i.State != container.Running || i.Cgroup != g || i.PID == 0 {
			t.Fatalf("%+v, %v", i, err)
		}
	}
	if d.looks != 1 {
		t.Errorf("Docker was asked %d times for one container, want once", d.looks)
	}
	if err := r.e.Resize(t.Context(), "x", container.Limits{CPUs: 0.3}); err != nil || len(d.resized) != 1 || d.resized[0].CPUs != 0.3 {
		t.Errorf("resize: %v, %+v", err, d.resized)
	}
	ended := container.Info{ID: "mesos-x", State: container.Exited, Exit: &container.Exit{Code: 7, OOM: true, Finished: time.Now()}}
	d.mu.Lock()
	d.has["x"] = ended
	d.mu.Unlock()
	end()
	task.State = "TASK_FAILED"
	r.set(nil, task)
	x, err := r.e.Wait(t.Context(), "x")
	if err != nil || x.Code != 7 || !x.OOM || x.Unknown {
		t.Errorf("wait: %+v, %v; want Docker's exit status", x, err)
	}
	d.mu.Lock()
	delete(d.has, "x") // removed six hours later
	d.mu.Unlock()
	if i, err := r.e.Inspect(t.Context(), "x"); err != nil || i.Exit == nil || i.Exit.Code != 7 {
		t.Errorf("%+v, %v; want what Docker said before", i, err)
	}
}

// TestDockerAway: a Docker that does not answer makes a container unreadable, not ended.
func TestDockerAway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.e.o.Docker = &daemon{err: errors.New("away")}
	r.set(nil, Task{ID: "task", ContainerID: "x", State: "TASK_RUNNING", CPUs: 0.5})
	i, err := r.e.Inspect(t.Context(), "x")
	if err != nil || i.State != container.Running || i.Cgroup != (cgroup.Group{}) {
		t.Errorf("%+v, %v", i, err)
	}
	if err := r.e.Resize(t.Context(), "x", container.Limits{CPUs: 1}); !errors.Is(err, container.ErrNotSupported) {
		t.Errorf("resize: %v", err)
	}
}

// TestContainerOfATasksOwn: what a task's program runs in Docker is read and resized in the task's place, waited for while it is not there,
// and has ended when the task has.
func TestContainerOfATasksOwn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.launch(t, "x") // the program itself, in Mesos' own cgroup
	end := r.launch(t, "elsewhere")
	g := cgroup.Group{CPU: "/" + r.root + "/elsewhere", CPUAcct: "/" + r.root + "/elsewhere"}
	former := container.Info{ID: "0b8c29a1", State: container.Exited, Exit: &container.Exit{Code: 1, Finished: time.Now().Add(-time.Minute)}}
	d := &daemon{has: map[string]container.Info{"mine": former}}
	r.e.o.Docker = d
	task := Task{ID: "task", ContainerID: "x", State: "TASK_RUNNING", CPUs: 0.5, Started: time.Now().Add(-time.Second), Holds: []string{"other", "0b8c29a1"}}
	r.set(nil, task)
	if i, err := r.e.Inspect(t.Context(), "x"); err != nil || i.State != container.Running || i.Cgroup != (cgroup.Group{}) {
		t.Errorf("before it is made: %+v, %v; want it to run, and in no cgroup", i, err)
	}
	put := func(i container.Info) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.has["mine"] = i
	}
	put(container.Info{ID: "0b8c29a1", State: container.Running, Cgroup: g})
	if i, err := r.e.Inspect(t.Context(), "x"); err != nil || i.Cgroup != g || i.PID == 0 {
		t.Errorf("%+v, %v; want its cgroup %v", i, err, g)
	}
	if err := r.e.Resize(t.Context(), "x", container.Limits{CPUs: 0.3}); err != nil || len(d.resized) != 1 {
		t.Errorf("resize: %v, %+v", err, d.resized)
	}
	end()
	put(container.Info{ID: "0b8c29a1", State: container.Exited, Exit: &container.Exit{Code: 7, Finished: time.Now()}})
	if i, err := r.e.Inspect(t.Context(), "x"); err != nil || i.State != container.Running || i.Cgroup != (cgroup.Group{}) {
		t.Errorf("its program still runs: %+v, %v", i, err)
	}
	task.State = "TASK_FINISHED" // as docker logs -f ends well, whatever it followed
	r.set(nil, task)
	if x, err := r.e.Wait(t.Context(), "x"); err != nil || x.Code != 7 || x.Unknown {
		t.Errorf("wait: %+v, %v; want Docker's exit status", x, err)
	}
}
