package devmesos

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qosctl/devmesos/node"
)

// several are the options of a server with n nodes.
func several(t *testing.T, n int) Options {
	t.Helper()
	o := Options{Nodes: make([]LocalNode, n), PingTimeout: time.Second, CgroupParent: "/devmesos-test-" + node.NewUUID()[:8], CPUs: 1, MemMiB: 1000}
	for i := range o.Nodes {
		o.Nodes[i].ExecutorEnv = map[string]string{"WHICH": fmt.Sprint(i + 1)}
		parent := fmt.Sprintf("%s-node%d", o.CgroupParent, i+1)
		t.Cleanup(func() { removeCgroup(t, parent) })
	}
	return o
}

type slavesView struct {
	Slaves []struct {
		ID, Hostname, PID   string
		Active, Deactivated bool
		DrainInfo           *struct{ State string } `json:"drain_info"`
		Used                struct{ CPUs float64 }  `json:"used_resources"`
	}
}

// slaves are the registered agents by host name.
func (l *life) slaves(t *testing.T) map[string]string {
	t.Helper()
	var v slavesView
	l.must(t, "master", "GET", "/master/slaves", "", &v)
	out := map[string]string{}
	for _, s := range v.Slaves {
		out[s.Hostname] = s.ID
	}
	return out
}

// create makes a Marathon app of one instance and waits until it runs.
func (l *life) create(t *testing.T, id, cmd, more string) (task, host string) {
	t.Helper()
	l.must(t, "marathon", "POST", "/v2/apps", fmt.Sprintf(
		`{"id":%q,"cmd":%q,"cpus":0.4,"mem":16,"instances":1,"upgradeStrategy":{"minimumHealthCapacity":0,"maximumOverCapacity":0}%s}`, id, cmd, more), nil)
	eventually(t, id+" runs", func() bool { return l.app(t, id).App.TasksRunning == 1 })
	a := l.app(t, id).App.Tasks[0]
	return a.ID, a.Host
}

func TestSeveralNodesInOneProcess(t *testing.T) {
	needRoot(t)
	t.Parallel()
	l := start(t, several(t, 3))
	eventually(t, "all nodes are registered", func() bool { return len(l.slaves(t)) == 3 })
	out := t.TempDir()
	_, host := l.create(t, "/a", fmt.Sprintf("cat /proc/self/cgroup >%s/groups; echo $WHICH $HOST $PORT0 >%s/a; exec sleep 1000", out, out), `,"constraints":[["hostname","LIKE","node2"]]`)
	if host != "node2" {
		t.Errorf("runs on %s", host)
	}
	var line []byte
	eventually(t, "the task has written", func() bool {
		line, _ = os.ReadFile(filepath.Join(out, "a")) // not there yet
		return len(line) > 0
	})
	if string(line) != "2 node2 32000\n" {
		t.Errorf("the task's environment: %q", line)
	}
	if groups, err := os.ReadFile(filepath.Join(out, "groups")); err != nil || !strings.Contains(string(groups), l.o.CgroupParent+"-node2/") {
		t.Errorf("%v, cgroups %s", err, groups)
	}
	for i, addr := range l.NodeAddrs() {
		var state struct {
			Hostname   string
			Frameworks []struct{ Name string }
		}
		res, err := http.Get("http://" + addr + "/slave(1)/state")
		if err != nil {
			t.Fatal(err)
		}
		if err := json.NewDecoder(res.Body).Decode(&state); err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close() // read
		if want := fmt.Sprintf("node%d", i+1); state.Hostname != want || (len(state.Frameworks) == 1) != (i == 1) {
			t.Errorf("%s says %+v", want, state)
		}
	}
	// what fits on no node waits for ever, though all of them together have it
	l.must(t, "marathon", "PATCH", "/v2/apps/a", `{"cpus":1.5}`, nil)
	eventually(t, "the old task has ended", func() bool { return len(l.app(t, "/a").App.Tasks) == 0 })
	if status, _, body := l.send(t, "marathon", "PATCH", "/v2/apps/a", `{"cpus":0.5}`); status != http.StatusConflict {
		t.Errorf("the app is not locked: %d %s", status, body)
	}
}

func TestALostNodeInRealTime(t *testing.T) {
	needRoot(t)
	t.Parallel()
	l := start(t, several(t, 2))
	eventually(t, "all nodes are registered", func() bool { return len(l.slaves(t)) == 2 })
	const disabled = `,"unreachableStrategy":"disabled"`
	kept, home := l.create(t, "/kept", "exec sleep 1000", disabled+`,"constraints":[["hostname","CLUSTER","node1"]]`)
	wiped, _ := l.create(t, "/wiped", "echo $$ >$MESOS_SANDBOX/pid; exec sleep 1000", disabled+`,"constraints":[["hostname","CLUSTER","node1"]]`)
	l.must(t, "marathon", "PATCH", "/v2/apps/wiped", `{"constraints":[]}`, nil)
	eventually(t, "wiped runs anew", func() bool {
		a := l.app(t, "/wiped").App
		return a.TasksRunning == 1 && len(a.Deployments) == 0 && a.Tasks[0].ID != wiped
	})
	a := l.app(t, "/wiped").App.Tasks[0]
	wiped, lost := a.ID, a.Host
	l.must(t, "marathon", "POST", "/dev/nodes/node1/cut", "", nil)
	if lost != "node1" {
		l.must(t, "marathon", "POST", "/dev/nodes/node2/cut", "", nil)
	}
	state := func(app string) string { return l.app(t, app).App.Tasks[0].State }
	eventually(t, "both are unreachable", func() bool { return state("/kept") == "TASK_UNREACHABLE" && state("/wiped") == "TASK_UNREACHABLE" })
	if lost != "node1" {
		l.must(t, "marathon", "POST", "/dev/nodes/node1/heal", "", nil)
	}
	l.must(t, "marathon", "DELETE", "/v2/apps/wiped/tasks/"+wiped+"?wipe=true", "", nil)
	eventually(t, "wiped runs elsewhere", func() bool {
		a := l.app(t, "/wiped").App
		return a.TasksRunning == 1 && a.Tasks[0].Host != lost && a.Tasks[0].ID != wiped
	})
	for _, n := range []string{"node1", "node2"} {
		l.must(t, "marathon", "POST", "/dev/nodes/"+n+"/heal", "", nil)
	}
	eventually(t, "the kept one is back", func() bool { return state("/kept") == "TASK_RUNNING" })
	if got := l.app(t, "/kept").App.Tasks[0]; got.ID != kept || got.Host != home {
		t.Errorf("kept became %+v", got)
	}
	eventually(t, "the wiped one is killed on its return", func() bool {
		var v slavesView
		l.must(t, "master", "GET", "/slaves", "", &v)
		used := 0.0
		for _, s := range v.Slaves {
			used += s.Used.CPUs
		}
		return used > 0.79 && used < 0.81 // of the two that are known
	})
}

func TestADrainingNodeOffersNothingAndKillsWithGrace(t *testing.T) {
	needRoot(t)
	t.Parallel()
	o := several(t, 2)
	o.PingTimeout = 0
	l := start(t, o)
	eventually(t, "all nodes are registered", func() bool { return len(l.slaves(t)) == 2 })
	out := t.TempDir()
	task, host := l.create(t, "/a", fmt.Sprintf("trap 'echo bye >%s/bye; sleep 0.5; exit 0' TERM; touch %s/up; while :; do sleep 0.05; done", out, out), `,"taskKillGracePeriodSeconds":20`)
	eventually(t, "its trap is set", func() bool { _, err := os.Stat(out + "/up"); return err == nil })
	id := l.slaves(t)[host]
	call := func(kind, field string) (int, string) {
		status, _, body := l.send(t, "master", "POST", "/api/v1", fmt.Sprintf(`{"type":%q,%q:{"agent_id":{"value":%q}}}`, kind, field, id))
		return status, string(body)
	}
	l.must(t, "master", "POST", "/dev/faults", `{"target":"master","kind":"403","path":"^/api/v1","count":1}`, nil)
	if status, _ := call("DRAIN_AGENT", "drain_agent"); status != http.StatusForbidden {
		t.Errorf("not permitted, and answered %d", status)
	}
	if status, body := call("DRAIN_AGENT", "drain_agent"); status != 200 {
		t.Fatal(status, body)
	}
	addr := l.NodeAddrs()[strings.TrimPrefix(host, "node")[0]-'1']
	draining := func() bool {
		res, err := http.Get("http://" + addr + "/state")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var s map[string]any
		if err := json.NewDecoder(res.Body).Decode(&s); err != nil {
			t.Fatal(err)
		}
		return s["drain_config"] != nil && s["estimated_drain_start_time_seconds"] != nil
	}
	eventually(t, "the agent's state tells of it", draining)
	eventually(t, "the app runs elsewhere", func() bool {
		a := l.app(t, "/a").App
		return a.TasksRunning == 1 && a.Tasks[0].ID != task && a.Tasks[0].Host != host
	})
	if _, err := os.Stat(out + "/bye"); err != nil {
		t.Error("the task was not asked to end")
	}
	eventually(t, "it is drained", func() bool {
		var v slavesView
		l.must(t, "master", "GET", "/slaves", "", &v)
		for _, s := range v.Slaves {
			if s.ID == id {
				return s.DrainInfo != nil && s.DrainInfo.State == "DRAINED" && !s.Active && s.Deactivated && !draining()
			}
		}
		return false
	})
	if status, body := call("REACTIVATE_AGENT", "reactivate_agent"); status != 200 {
		t.Error(status, body)
	}
}

// TestANodeOfAnotherProcess follows a master in this one, is killed with -9, and comes back; so does the master.
func TestANodeOfAnotherProcess(t *testing.T) {
	needRoot(t)
	t.Parallel()
	o := Options{
		Dir: t.TempDir(), Remote: true, Open: true, Token: "secret", PingTimeout: time.Second, Deploy: -1,
		Marathon: "127.0.0.1:0", Chronos: "127.0.0.1:0", Master: "127.0.0.1:0",
	}
	l := start(t, o)
	o.Marathon, o.Chronos, _ = l.Addrs()
	o.Master = l.MasterAddr()
	dir, parent := t.TempDir(), "/devmesos-test-"+node.NewUUID()[:8]
	t.Cleanup(func() { removeCgroup(t, parent) })
	spawnNode := func() *exec.Cmd {
		return spawn(t, Options{Dir: dir, Hostname: "far", CgroupParent: parent, CPUs: 1, MemMiB: 100, Deploy: -1, Token: "secret", Master: "127.0.0.1:0"}, "http://"+o.Master)
	}
	first := spawnNode()
	eventually(t, "the node is registered", func() bool { return len(l.slaves(t)) == 1 })
	agent := l.slaves(t)["far"]
	pids := t.TempDir()
	task, _ := l.create(t, "/a", "echo $$ >"+pids+"/pid; exec sleep 1000", `,"unreachableStrategy":"disabled"`)
	l.post(t, "j", "R5//PT1H", "exec sleep 1000", "")
	eventually(t, "the job runs", func() bool { return l.state(t, "j") == "1 running" })
	pid, err := os.ReadFile(pids + "/pid")
	if err != nil {
		t.Fatal(err)
	}
	l.stop() // the master goes; tasks go on
	o.Deploy = 0
	l = start(t, o)
	eventually(t, "the node is registered again", func() bool { return l.slaves(t)["far"] == agent })
	a := l.app(t, "/a").App
	if !alive(string(pid)) || a.TasksRunning != 1 || a.Tasks[0].ID != task || l.state(t, "j") != "1 running" {
		t.Errorf("after the master's restart: alive %v, %+v, job %s", alive(string(pid)), a, l.state(t, "j"))
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // killed
	eventually(t, "its task is unreachable", func() bool {
		a := l.app(t, "/a").App
		return len(a.Tasks) == 1 && a.Tasks[0].State == "TASK_UNREACHABLE"
	})
	if j := l.jobs(t)["j"]; j.ErrorCount != 1 {
		t.Errorf("the job's run is not lost: %+v", j)
	}
	spawnNode()
	eventually(t, "the app runs again", func() bool {
		a := l.app(t, "/a").App
		return a.TasksRunning == 1 && a.Tasks[0].ID != task
	})
	if l.slaves(t)["far"] != agent || alive(string(pid)) {
		t.Errorf("agent %s, was %s; the former life's process alive: %v", l.slaves(t)["far"], agent, alive(string(pid)))
	}
}
