package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/agent"
	"qosctl/agent/api"
)

func TestNodesOfADevDifferInWhatTheyOwn(t *testing.T) {
	t.Parallel()
	o := devOpts{dir: "/d", listen: "127.0.0.1:30000", mesos: "127.0.0.1:15051", nodeCount: 1}
	one, err := o.nodes()
	if err != nil {
		t.Fatal(err)
	}
	h := shortHash("/d")
	want := []devNode{{number: 1, dir: "/d", listen: "127.0.0.1:30000", mesos: "127.0.0.1:15051", agent: "/qosctl-dev-" + h, tasks: "/mesos", marks: "/d/devmesos/running"}}
	if diff := cmp.Diff(want, one, cmp.AllowUnexported(devNode{})); diff != "" {
		t.Errorf("one (-want +got):\n%s", diff)
	}
	o.nodeCount, o.cpus, o.parent, o.gossip, o.peer = 2, 0.5, "/p", "127.0.0.1:17946", "127.0.0.1:30500"
	join := []string{"127.0.0.1:17946", "127.0.0.1:17947"}
	two, err := o.nodes()
	if err != nil {
		t.Fatal(err)
	}
	want = []devNode{
		{1, "node1", "/d", "127.0.0.1:30000", "127.0.0.1:15051", "/p/qosctl", "/p/mesos-node1", "/d/devmesos/running", 0.5, join[0], "127.0.0.1:30500", "/d/cluster.key", join},
		{2, "node2", "/d/node2", "127.0.0.1:30001", "127.0.0.1:15052", "/p/qosctl-node2", "/p/mesos-node2", "/d/devmesos/node2/running", 0.5, join[1], "127.0.0.1:30501", "/d/cluster.key", join},
	}
	if diff := cmp.Diff(want, two, cmp.AllowUnexported(devNode{})); diff != "" {
		t.Errorf("two (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"x", "127.0.0.1:x", "127.0.0.1:65535"} {
		o.listen = bad
		if _, err := o.nodes(); exitCodeOf(err) != exitUsage {
			t.Errorf("--listen %s: %v", bad, err)
		}
	}
	for _, bad := range []devOpts{{dir: "/d", nodeCount: 0}, {dir: "/d", nodeCount: maxDevNodes + 1}, {dir: "/d", nodeCount: 2, docker: true}} {
		if err := bad.complete(&app{}); exitCodeOf(err) != exitUsage {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestAStandInTakesItsNodesSocket(t *testing.T) {
	t.Parallel()
	env := map[string]string{"QOSCTL_JOB": "j", "QOSCTL_SECRET": "s", "QOSCTL_SOCKET": "/cluster.sock", "MESOS_TASK_ID": "t", "MESOS_SANDBOX": "/s"}
	a := &app{}
	list := func() {
		a.environ = []string{"A=b"}
		for k, v := range env {
			a.environ = append(a.environ, k+"="+v)
		}
	}
	list()
	if o, err := a.standinOpts(); err != nil || o.socket != "/cluster.sock" {
		t.Errorf("%s, %v", o.socket, err)
	}
	env["QOSCTL_NODE_SOCKET"] = "/node.sock"
	list()
	o, err := a.standinOpts()
	if err != nil || o.socket != "/node.sock" || !slices.Contains(o.claim.Env, "A=b") || strings.Contains(strings.Join(o.claim.Env, " "), ".sock") {
		t.Errorf("%s, %v, %v", o.socket, o.claim.Env, err)
	}
}

// startDevOf starts a dev of two nodes and returns a client for each agent.
func startDevOf(t *testing.T, dir string) (*devRun, []*api.Client) {
	t.Helper()
	marathon, master, mesos := freePort(t), freePort(t), freePorts(t, 2)
	d := &devRun{dir: dir, marathon: marathon, log: new(safeBuffer)}
	d.cmd = program(t, "dev", "--dir", dir, "--nodes", "2", "--cpus", "1", "--listen", freePorts(t, 2), "--marathon", marathon, "--chronos", freePort(t),
		"--mesos", mesos, "--mesos-master", master, "--gossip", freePorts(t, 2), "--peer", freePorts(t, 2), "--deploy", "0s")
	d.start(t)
	var clients []*api.Client
	for _, run := range []string{filepath.Join(dir, "run"), filepath.Join(dir, "node2", "run")} {
		c, err := api.New(api.Options{Address: filepath.Join(run, "qosctl.sock")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		clients = append(clients, c)
		until(t, "the agent in "+run+" is ready", 30*time.Second, func() bool { return c.Ready(t.Context()) == nil })
	}
	return d, clients
}

// TestADevOfTwoNodes runs a job on each node, kills an agent, and then dev itself with -9: nothing is left.
func TestADevOfTwoNodes(t *testing.T) {
	if err := agent.Default().Cgroup.Check(); err != nil {
		t.Skip("needs write access to cgroups: ", err)
	}
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	base, err := os.MkdirTemp("", "qn") // t.TempDir's path is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) }) // after the processes
	dir := filepath.Join(base, "d")
	d, clients := startDevOf(t, dir)
	for i, c := range clients {
		n, err := c.Node(t.Context())
		if want := []string{"node1", "node2"}[i]; err != nil || n.Name != want {
			t.Errorf("agent %d calls itself %q (%v), not %s", i, n.Name, err, want)
		}
	}
	until(t, "the agents know each other", 30*time.Second, func() bool {
		l, err := clients[0].Nodes(t.Context())
		return err == nil && l.Settled && len(l.Nodes) == 2 && l.Nodes[0].State == "alive" && l.Nodes[1].State == "alive"
	})
	// A stand-in claims at the agent of its own node, whichever agent the job was handed in to.
	for _, name := range []string{"node1", "node2"} {
		submit := program(t, "--agent", filepath.Join(dir, "run", "qosctl.sock"), "submit", "-")
		submit.Stdin = strings.NewReader(`{"id":"/on-` + name + `","cmd":"trap '' TERM; echo $$ >` + base + `/` + name + `; while :; do sleep 1; done","cpus":0.1,"mem":32,` +
			`"constraints":[["hostname","LIKE","` + name + `"]],"qos":{"duration":1,"desv_deadline":0.5,"deadline":600,"executions":1}}`)
		if out, err := submit.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	pids := map[string]int{}
	until(t, "both jobs run", 30*time.Second, func() bool {
		for _, name := range []string{"node1", "node2"} {
			pids[name] = readPID(filepath.Join(base, name))
		}
		return pids["node1"] > 0 && pids["node2"] > 0
	})
	for name, parent := range map[string]string{"node1": "/qosctl-dev-" + shortHash(dir) + "/", "node2": "/qosctl-dev-" + shortHash(dir) + "-node2/"} {
		if groups, err := os.ReadFile(filepath.Join("/proc", itoa(pids[name]), "cgroup")); err != nil || !strings.Contains(string(groups), parent) {
			t.Errorf("%s: the job is not below %s (%v):\n%s", name, parent, err, groups)
		}
	}
	if hosts := d.hosts(t); !cmp.Equal(hosts, map[string]string{"/on-node1": "node1", "/on-node2": "node2"}) {
		t.Errorf("tasks are on %v", hosts)
	}
	for i, c := range clients { // word of a claim travels by gossip
		until(t, "agent "+itoa(i)+" knows who owns them", 10*time.Second, func() bool {
			owners := map[string]string{}
			list, err := c.Jobs(t.Context(), false)
			for _, j := range list {
				owners[j.Name] = j.Owner
			}
			return err == nil && cmp.Equal(owners, map[string]string{"/on-node1": "node1", "/on-node2": "node2"})
		})
	}
	d.killAgent(t, "node2/agent.yaml")
	until(t, "the second agent is back", 30*time.Second, func() bool {
		return strings.Contains(d.log.String(), "starting it again") && clients[1].Ready(t.Context()) == nil
	})
	if syscall.Kill(pids["node2"], 0) != nil {
		t.Error("its job has not outlived it")
	}
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	until(t, "the directory is removed", 90*time.Second, func() bool { _, err := os.Stat(dir); return errors.Is(err, os.ErrNotExist) })
	for name, pid := range pids {
		until(t, "the job of "+name+" has ended", 5*time.Second, func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
	}
	if left, err := filepath.Glob("/sys/fs/cgroup/*/qosctl-dev-" + shortHash(dir) + "*"); err != nil || len(left) > 0 {
		t.Errorf("cgroups are left: %v, %v", left, err)
	}
}

// hosts says where Marathon's apps run.
func (d *devRun) hosts(t *testing.T) map[string]string {
	t.Helper()
	res, err := http.Get("http://" + d.marathon + "/v2/apps?embed=apps.tasks")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var v struct {
		Apps []struct {
			ID    string
			Tasks []struct{ Host string }
		}
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(res.Body); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, a := range v.Apps {
		for _, task := range a.Tasks {
			out[a.ID] = task.Host
		}
	}
	return out
}
