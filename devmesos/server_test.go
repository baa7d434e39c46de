package devmesos

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"qosctl/devmesos/node"
)

// childEnv makes this test binary a development scheduler, so that one can be killed with -9.
const (
	childEnv    = "DEVMESOS_TEST_CHILD"
	childMaster = "DEVMESOS_TEST_MASTER" // URL; of a child that is a node
)

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		os.Exit(child(text))
	}
	os.Exit(m.Run())
}

// child serves until SIGTERM, having printed its addresses.
func child(text string) int {
	var o Options
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if master := os.Getenv(childMaster); master != "" {
		return nodeChild(ctx, master, o)
	}
	s, err := New(o)
	if err == nil {
		marathon, chronos, mesos := s.Addrs()
		fmt.Fprintln(os.Stdout, marathon, chronos, mesos)
		err = s.Run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// nodeChild is a node of another process' cluster.
func nodeChild(ctx context.Context, master string, o Options) int {
	n, err := NewNode(master, o)
	if err == nil {
		fmt.Fprintln(os.Stdout, n.Addr())
		err = n.Run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// spawn starts a development scheduler, or a node of one, as a process.
func spawn(t *testing.T, o Options, master ...string) *exec.Cmd {
	t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(b), childMaster+"="+strings.Join(master, ""))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have been killed already, as below
		late := time.AfterFunc(15*time.Second, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("child does not start: %q %v", line, err)
	}
	return cmd
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to make cgroups")
	}
}

func alive(pid string) bool {
	b, err := os.ReadFile("/proc/" + strings.TrimSpace(pid) + "/stat")
	return err == nil && !strings.Contains(string(b), ") Z")
}

func TestKill9LosesNoAppAndLeavesNoOrphan(t *testing.T) {
	needRoot(t)
	t.Parallel()
	o := Options{
		Dir: t.TempDir(), CgroupParent: "/devmesos-test-" + node.NewUUID()[:8], CPUs: 4, MemMiB: 4000, Deploy: 50 * time.Millisecond,
		Marathon: "127.0.0.1:0", Chronos: "127.0.0.1:0", Mesos: "127.0.0.1:0",
	}
	t.Cleanup(func() { removeCgroup(t, o.CgroupParent) })
	// fixed ports, so that the client below finds the child: those of a server that has just ended are free
	probe := start(t, Options{Dir: t.TempDir()})
	o.Marathon, o.Chronos, o.Mesos = probe.Addrs()
	probe.stop()
	first := spawn(t, o)
	pids := t.TempDir()
	l := &life{Server: probe.Server, o: o} // its addresses are the child's
	l.must(t, "marathon", "POST", "/v2/apps", fmt.Sprintf(`{"id":"/a","cmd":"setsid sleep 3000 & echo $! > %s/helper; echo $$ > %s/sh; exec sleep 3001","cpus":0.1,"mem":16}`, pids, pids), nil)
	l.post(t, "j", "R5//PT1H", "exec sleep 3000", "")
	eventually(t, "both run", func() bool { return l.app(t, "/a").App.TasksRunning == 1 && l.state(t, "j") == "1 running" })
	var before []string
	eventually(t, "both pids are written", func() bool {
		before = nil
		for _, f := range []string{"helper", "sh"} {
			if b, err := os.ReadFile(filepath.Join(pids, f)); err == nil && len(b) > 1 {
				before = append(before, string(b))
			}
		}
		return len(before) == 2
	})
	task := l.app(t, "/a").App.Tasks[0].ID
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // killed
	spawn(t, o)
	for _, pid := range before {
		if alive(pid) {
			t.Errorf("process %s of the former life runs on", pid)
		}
	}
	eventually(t, "the app runs again", func() bool {
		a := l.app(t, "/a").App
		return a.TasksRunning == 1 && a.Tasks[0].ID != task
	})
	j := l.jobs(t)["j"]
	if !strings.HasPrefix(j.Schedule, "R4/") || j.ErrorCount != 1 {
		t.Errorf("job came back as %+v", j)
	}
}

func TestStopEndsEverything(t *testing.T) {
	t.Parallel()
	l := start(t, Options{Deploy: -1})
	dir := t.TempDir()
	l.must(t, "marathon", "POST", "/v2/apps", fmt.Sprintf(`{"id":"/a","cmd":"trap 'echo bye > %s/bye; exit 0' TERM; echo $$ > %s/pid; while :; do sleep 0.05; done","cpus":0.1,"mem":16}`, dir, dir), nil)
	var pid []byte
	eventually(t, "the app runs", func() bool {
		pid, _ = os.ReadFile(dir + "/pid") // not there yet
		return len(pid) > 1
	})
	res, err := http.Get(l.url("marathon") + "/v2/events") // a stream must not keep it
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	l.stop()
	if left, err := filepath.Glob("/sys/fs/cgroup/*" + l.o.CgroupParent); err != nil || len(left) > 0 {
		t.Errorf("cgroups %v are left (%v)", left, err)
	}
	if alive(string(pid)) {
		t.Error("task runs on")
	}
	if _, err := os.Stat(dir + "/bye"); err != nil {
		t.Errorf("task was not asked to end: %v", err)
	}
	l.o.Deploy = 0
	again := start(t, l.o)
	if got := again.app(t, "/a").App.ID; got != "/a" {
		t.Errorf("app %q after a restart", got)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	fault := func(text string) {
		t.Helper()
		l.must(t, "chronos", "POST", "/dev/faults", text, nil)
	}
	for kind, want := range map[string]int{"500": 500, "503": 503, "422": 422, "409": 409, "401": 401, "html": 200} {
		fault(fmt.Sprintf(`{"target":"marathon","kind":%q,"count":1,"method":"GET","path":"^/v2/apps$"}`, kind))
		if status, _, _ := l.send(t, "marathon", "GET", "/v2/info", ""); status != 200 {
			t.Errorf("%s hits another path: %d", kind, status)
		}
		status, header, body := l.send(t, "marathon", "GET", "/v2/apps", "")
		if status != want || (kind == "html" || kind == "401") != strings.HasPrefix(header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: %d %v %s", kind, status, header, body)
		}
		if status, _, _ := l.send(t, "marathon", "GET", "/v2/apps", ""); status != 200 {
			t.Errorf("%s hits twice: %d", kind, status)
		}
	}
	const app = `{"id":"/a","cmd":"sleep 100","instances":0}`
	for kind, there := range map[string]int{"drop": 404, "lost": 200} { // not done, done
		fault(fmt.Sprintf(`{"target":"marathon","kind":%q,"count":1,"method":"POST"}`, kind))
		if _, _, _, err := l.try(t.Context(), "marathon", "POST", "/v2/apps", app); err == nil {
			t.Errorf("%s: an answer comes", kind)
		}
		if status, _, _ := l.send(t, "marathon", "GET", "/v2/apps/a", ""); status != there {
			t.Errorf("after %s: %d, want %d", kind, status, there)
		}
		_, _, _ = l.send(t, "marathon", "DELETE", "/v2/apps/a", "") // 404 after drop
	}
	fault(`{"target":"mesos","kind":"slow","delay":"300ms"}`)
	from := time.Now()
	if status, _, _ := l.send(t, "agent", "GET", "/state", ""); status != 200 || time.Since(from) < 300*time.Millisecond {
		t.Errorf("slow: %d after %s", status, time.Since(from))
	}
	l.must(t, "marathon", "DELETE", "/dev/faults", "", nil)
	var list []Fault
	if l.must(t, "marathon", "GET", "/dev/faults", "", &list); len(list) != 0 {
		t.Errorf("faults %v", list)
	}
	for _, bad := range []string{`{`, `{"target":"x","kind":"500"}`, `{"target":"mesos","kind":"x"}`, `{"target":"mesos","kind":"slow","delay":"5"}`, `{"target":"mesos","kind":"500","path":"["}`, `{"target":"mesos","kind":"500","cuont":1}`} {
		if status, _, _ := l.send(t, "agent", "POST", "/dev/faults", bad); status != 400 {
			t.Errorf("%s: %d", bad, status)
		}
	}
}

func TestUnreachableAndLostTasks(t *testing.T) {
	t.Parallel()
	l := start(t, Options{Deploy: -1})
	l.must(t, "marathon", "POST", "/v2/apps", `{"id":"/a","cmd":"exec sleep 1000","cpus":0.1,"mem":16,"unreachableStrategy":"disabled","backoffSeconds":0}`, nil)
	l.post(t, "j", "R1//PT1H", "exec sleep 1000", "")
	eventually(t, "both run", func() bool { return l.app(t, "/a").App.TasksRunning == 1 && l.state(t, "j") == "1 running" })
	task := l.app(t, "/a").App.Tasks[0].ID
	l.must(t, "marathon", "POST", "/dev/tasks/"+task+"/unreachable", "", nil)
	if got := l.app(t, "/a").App.Tasks[0]; got.State != "TASK_UNREACHABLE" || got.ID != task {
		t.Errorf("task %+v", got)
	}
	l.must(t, "marathon", "DELETE", "/v2/apps/a/tasks/"+task+"?wipe=true", "", nil)
	eventually(t, "another task runs", func() bool {
		a := l.app(t, "/a").App
		return a.TasksRunning == 1 && a.Tasks[0].ID != task
	})
	l.must(t, "marathon", "POST", "/dev/tasks/"+task+"/reachable", "", nil) // Marathon kills what it has forgotten
	eventually(t, "the forgotten task is killed", func() bool {
		_, _, b := l.send(t, "agent", "GET", "/state", "")
		return strings.Count(string(b), `"state":"TASK_RUNNING"`) > 0 && strings.Contains(string(b), `"state":"TASK_KILLED"`)
	})
	second := l.app(t, "/a").App.Tasks[0].ID
	l.must(t, "marathon", "POST", "/dev/tasks/"+second+"/lost", "", nil)
	eventually(t, "a third task runs", func() bool {
		a := l.app(t, "/a").App
		return a.TasksRunning == 1 && a.Tasks[0].ID != second
	})
	if status, _, _ := l.send(t, "marathon", "POST", "/dev/tasks/none/lost", ""); status != 404 {
		t.Errorf("unknown task: %d", status)
	}
}

func TestTaskSeesItsEnvironmentAndSandbox(t *testing.T) {
	t.Parallel()
	l := start(t, Options{Deploy: -1, Hostname: "node7"})
	dir := t.TempDir()
	l.must(t, "marathon", "POST", "/v2/apps", fmt.Sprintf(`{"id":"/g/a","args":["sh","-c","env > %s/env.tmp; mv %s/env.tmp %s/env; exec sleep 100"],"cpus":0.1,"mem":16,"env":{"A":"b c"}}`, dir, dir, dir), nil)
	var env []byte
	eventually(t, "the environment is written", func() bool {
		env, _ = os.ReadFile(dir + "/env") // not there yet
		return len(env) > 0
	})
	for _, want := range []string{"MARATHON_APP_ID=/g/a\n", "HOST=node7\n", "A=b c\n", "MESOS_SANDBOX=" + l.o.Dir, "MESOS_DIRECTORY=" + l.o.Dir, "PORT0=31", "MESOS_TASK_ID=g_a.instance-"} {
		if !strings.Contains(string(env), want) {
			t.Errorf("%q is missing in %s", want, env)
		}
	}
}

func TestNotJSONIsRefused(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	res, err := http.Post(l.url("marathon")+"/v2/apps", "text/plain", strings.NewReader(`{"id":"/a","cmd":"sleep 100"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("status %d", res.StatusCode)
	}
}

func TestWebPagesAreRefused(t *testing.T) {
	t.Parallel()
	l := start(t, Options{})
	for name, change := range map[string]func(*http.Request){
		"another origin": func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") },
		"another name":   func(r *http.Request) { r.Host = "evil.example" },
	} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", l.url("chronos")+"/v1/scheduler/iso8601", strings.NewReader(`{"name":"j"}`))
		if err != nil {
			t.Fatal(err)
		}
		change(req)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		if res.StatusCode < 400 {
			t.Errorf("%s: %d", name, res.StatusCode)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]Options{
		"dir: must not be empty":           {},
		"must be on loopback":              {Dir: "x", Chronos: "0.0.0.0:0"},
		"listen address":                   {Dir: "x", Mesos: "nonsense"},
		"http credentials":                 {Dir: "x", HTTPCredentials: "x"},
		"chronos prefix":                   {Dir: "x", ChronosPrefix: "scheduler"},
		"marathon version":                 {Dir: t.TempDir(), MarathonVersion: "new"},
		"cpus: must be > 0 (got -1)":       {Dir: t.TempDir(), CPUs: -1},
		"cgroup parent: must be":           {Dir: t.TempDir(), CgroupParent: "/"},
		"images: x: directory must be abs": {Dir: t.TempDir(), Images: map[string]string{"x": "y"}},
	} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	l := start(t, Options{})
	if _, err := New(Options{Dir: l.o.Dir}); err == nil || !strings.Contains(err.Error(), "another development scheduler") {
		t.Errorf("two in one directory: %v", err)
	}
}

func TestCorruptSnapshotIsKeptAside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, f := range []string{"marathon.json", "chronos.json"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte(`{"apps":`), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	l := start(t, Options{Dir: dir})
	l.must(t, "marathon", "GET", "/v2/apps", "", nil)
	if kept, err := filepath.Glob(filepath.Join(dir, "*.corrupt-*")); err != nil || len(kept) != 2 {
		t.Errorf("kept %v (%v)", kept, err)
	}
}
