package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// recorder hears statuses.
type recorder struct {
	mu  sync.Mutex
	all []Status
	c   chan struct{}
}

func newRecorder() *recorder { return &recorder{c: make(chan struct{}, 1)} }

func (r *recorder) status(s Status) {
	r.mu.Lock()
	r.all = append(r.all, s)
	r.mu.Unlock()
	poke(r.c)
}

// await returns a task's first status of a state.
func (r *recorder) await(t *testing.T, task string, want State) Status {
	t.Helper()
	limit := time.After(15 * time.Second)
	for {
		r.mu.Lock()
		seen := fmt.Sprint(r.all)
		for _, s := range r.all {
			if s.TaskID == task && s.State == want {
				r.mu.Unlock()
				return s
			}
		}
		r.mu.Unlock()
		select {
		case <-r.c:
		case <-time.After(100 * time.Millisecond):
		case <-limit:
			t.Fatalf("task %s does not become %s: %s", task, want, seen)
		}
	}
}

func (r *recorder) states(task string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, s := range r.all {
		if s.TaskID == task {
			out = append(out, strings.TrimPrefix(string(s.State), "TASK_"))
		}
	}
	return strings.Join(out, " ")
}

// testParent is a cgroup of this test's own.
func testParent() string { return "/devmesos-test-" + NewUUID()[:8] }

func startNode(t *testing.T, change func(*Options)) (*Node, *recorder) {
	t.Helper()
	o := Options{
		Hostname: "node1", Attributes: map[string]string{"qosctl": "yes", "rack": "7"}, CPUs: 2, MemMiB: 1000, DiskMiB: 1000, FirstPort: 31000,
		Dir: t.TempDir(), CgroupRoot: "/sys/fs/cgroup", Proc: "/proc", Parent: testParent(),
	}
	if change != nil {
		change(&o)
	}
	n, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r := newRecorder()
	n.Register("marathon", r.status, func() {})
	n.Register("chronos", r.status, func() {})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := n.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		if g, ok := n.groups.(*realGroups); ok {
			if err := g.fs.Remove(o.Parent); err != nil {
				t.Errorf("cgroups are left: %v", err)
			}
		}
	})
	return n, r
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to make cgroups")
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func launch(t *testing.T, n *Node, task Task) {
	t.Helper()
	if task.Framework == "" {
		task.Framework = "marathon"
	}
	if err := n.Launch(task); err != nil {
		t.Fatal(err)
	}
}

func sandbox(t *testing.T, n *Node, id string) string {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range append([]*task{n.tasks[id]}, n.completed...) {
		if x != nil && x.ID == id {
			return x.sandbox
		}
	}
	t.Fatalf("no task %s", id)
	return ""
}

func TestTaskRunsInItsCgroupWithSharesAndNoQuota(t *testing.T) {
	needRoot(t)
	n, r := startNode(t, nil)
	launch(t, n, Task{ID: "a", CPUs: 0.5, MemMiB: 10, Command: `cat /proc/self/cgroup; echo "$X"; pwd; echo oops >&2; exit 3`, Env: map[string]string{"X": "y z"}})
	if s := r.await(t, "a", Failed); s.Message != "Command exited with status 3" {
		t.Errorf("message %q", s.Message)
	}
	dir := sandbox(t, n, "a")
	out := read(t, filepath.Join(dir, "stdout"))
	want := n.o.Parent + "/" + filepath.Base(dir)
	if !strings.Contains(out, want+"\n") || !strings.Contains(out, "\ny z\n"+dir+"\n") {
		t.Errorf("stdout lacks cgroup %s, environment or sandbox: %s", want, out)
	}
	if got := read(t, filepath.Join(dir, "stderr")); got != "oops\n" {
		t.Errorf("stderr %q", got)
	}
	if got := r.states("a"); got != "STARTING RUNNING FAILED" {
		t.Errorf("states %s", got)
	}
}

func TestSharesFollowCPUs(t *testing.T) {
	needRoot(t)
	n, r := startNode(t, nil)
	if _, err := os.Stat("/sys/fs/cgroup/cpu/cpu.shares"); err != nil {
		if _, err := os.Stat("/sys/fs/cgroup/cpu"); err != nil {
			t.Skip("needs a cgroup v1 cpu hierarchy")
		}
	}
	launch(t, n, Task{ID: "a", CPUs: 1, Command: "exec sleep 60"})
	r.await(t, "a", Running)
	g := filepath.Join("/sys/fs/cgroup/cpu", n.o.Parent, filepath.Base(sandbox(t, n, "a")))
	if got := read(t, g+"/cpu.shares"); got != "1126\n" {
		t.Errorf("cpu.shares %q, want 1024·1.1", got)
	}
	if got := read(t, g+"/cpu.cfs_quota_us"); got != "-1\n" {
		t.Errorf("quota %q", got)
	}
	n.Kill("marathon", "a")
	r.await(t, "a", Killed)
}

func TestKillReachesTheTreeAndIsKilledWhateverTheExitStatus(t *testing.T) {
	n, r := startNode(t, nil)
	launch(t, n, Task{ID: "a", Command: `trap 'echo sh; exit 0' TERM; sh -c 'trap "echo child; exit 0" TERM; echo up; while :; do sleep 0.05; done' & while :; do sleep 0.05; done`})
	r.await(t, "a", Running)
	dir := sandbox(t, n, "a")
	eventually(t, func() bool { return strings.Contains(read(t, dir+"/stdout"), "up") })
	n.Kill("marathon", "a")
	n.Kill("marathon", "a")
	if s := r.await(t, "a", Killed); s.Message != "Command exited with status 0" {
		t.Errorf("message %q", s.Message)
	}
	eventually(t, func() bool { return strings.Contains(read(t, dir+"/stdout"), "child") })
	if got := r.states("a"); got != "STARTING RUNNING KILLING KILLED" {
		t.Errorf("states %s", got)
	}
}

func TestGraceThenSIGKILLToTheTree(t *testing.T) {
	n, r := startNode(t, nil)
	grace := 300 * time.Millisecond
	launch(t, n, Task{ID: "a", Grace: &grace, Command: `trap '' TERM; echo up; while :; do sleep 0.05; done`})
	r.await(t, "a", Running)
	dir := sandbox(t, n, "a")
	eventually(t, func() bool { return strings.Contains(read(t, dir+"/stdout"), "up") })
	from := time.Now()
	n.Kill("marathon", "a")
	s := r.await(t, "a", Killed)
	if took := time.Since(from); took < grace || s.Message != "Command terminated with signal Killed" {
		t.Errorf("killed after %s: %s", took, s.Message)
	}
}

func TestWhatOutlivesTheShellIsKilled(t *testing.T) {
	needRoot(t)
	n, r := startNode(t, nil)
	launch(t, n, Task{ID: "a", Command: `setsid sleep 300 & echo $! > pid; exit 0`})
	r.await(t, "a", Finished)
	dir := sandbox(t, n, "a")
	eventually(t, func() bool {
		_, err := os.Stat(filepath.Join("/sys/fs/cgroup/cpu", n.o.Parent, filepath.Base(dir)))
		return os.IsNotExist(err)
	})
	pid := strings.TrimSpace(read(t, dir+"/pid"))
	if b, err := os.ReadFile("/proc/" + pid + "/stat"); err == nil && !strings.Contains(string(b), ") Z") {
		t.Errorf("helper still lives: %s", b)
	}
}

func TestResourcesAreBookedAndGivenBack(t *testing.T) {
	n, r := startNode(t, func(o *Options) { o.Deploy = time.Hour })
	launch(t, n, Task{ID: "a", CPUs: 1.5, Ports: []int{31000}})
	if o := n.Offer(); o.CPUs != 0.5 || o.Ports[0] != 31001 {
		t.Errorf("offer %g cpus, first port %d", o.CPUs, o.Ports[0])
	}
	if err := n.Launch(Task{ID: "b", Framework: "chronos", CPUs: 0.6}); err == nil {
		t.Error("0.6 of 0.5 cpus were given")
	}
	n.Kill("marathon", "a")
	r.await(t, "a", Killed)
	if o := n.Offer(); o.CPUs != 2 || o.Ports[0] != 31000 {
		t.Errorf("after the end: offer %g cpus, first port %d", o.CPUs, o.Ports[0])
	}
	n.Kill("marathon", "a")
	n.Kill("marathon", "never")
	r.await(t, "never", Lost)
	if got := r.states("a"); got != "KILLED" {
		t.Errorf("states %s", got)
	}
}

func TestLostTaskIsGone(t *testing.T) {
	n, r := startNode(t, nil)
	for id, f := range map[string]string{"m": "marathon", "c": "chronos"} {
		launch(t, n, Task{ID: id, Command: "exec sleep 60", Framework: f})
		r.await(t, id, Running)
		if err := n.Lose(id); err != nil {
			t.Fatal(err)
		}
	}
	r.await(t, "m", Gone)
	r.await(t, "c", Lost)
}

func TestImageIsRefusedOrLaidOverTheRoot(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "app"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "app", "run"), []byte("#!/bin/sh\necho from the image; pwd\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	n, r := startNode(t, func(o *Options) { o.Images = map[string]string{"lib/x:1": dir} })
	for _, d := range []string{filepath.Dir(dir), dir, n.o.Dir} { // nobody must be able to enter
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	launch(t, n, Task{ID: "no", Image: "lib/y:1", Command: "true"})
	if s := r.await(t, "no", Failed); !strings.Contains(s.Message, "--map-image lib/y:1=DIR") {
		t.Errorf("message %q", s.Message)
	}
	needRoot(t)
	launch(t, n, Task{ID: "yes", Image: "lib/x:1", Command: "/app/run", User: "nobody"})
	eventually(t, func() bool { return strings.HasSuffix(r.states("yes"), "ED") })
	if got := r.states("yes"); got != "STARTING RUNNING FINISHED" {
		t.Fatalf("states %s: %s", got, read(t, sandbox(t, n, "yes")+"/stderr"))
	}
	if out := read(t, sandbox(t, n, "yes")+"/stdout"); !strings.HasPrefix(out, "from the image\n") {
		t.Errorf("stdout %q", out)
	}
}

func TestFormerLifeIsEnded(t *testing.T) {
	needRoot(t)
	var o Options
	n, r := startNode(t, func(p *Options) { o = *p })
	o = n.o
	launch(t, n, Task{ID: "a", Command: "sleep 300 & exec sleep 301"})
	r.await(t, "a", Running)
	dir := sandbox(t, n, "a")
	next, err := New(o) // as after a kill -9: the first life knows nothing of it
	if err != nil {
		t.Fatal(err)
	}
	if pids, _ := next.groups.procs(filepath.Base(dir)); len(pids) != 0 {
		t.Errorf("processes %v are left", pids)
	}
	if entries, err := os.ReadDir(next.marks()); err != nil || len(entries) != 0 {
		t.Errorf("marks %v are left (%v)", entries, err)
	}
	r.await(t, "a", Failed)
}

// eventually polls a real condition.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	limit := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("does not come true")
		}
	}
}
