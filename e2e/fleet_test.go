package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/e2e/node"
)

// Where the parts of a fleet listen.
const (
	fleetMarathon = "18080"
	fleetChronos  = "14400"
	fleetMaster   = "15050"
	fleetMesos    = "5051"
)

// fleet is a cluster of several nodes on one network: the master of a development scheduler on this machine, and on each node a Docker, a
// Mesos agent (`qosctl devmesos --node-of`) and an agent.
type fleet struct {
	t       *testing.T
	net     *node.Net
	dir     string
	keys    bool   // its agents are a cluster
	qosctl  string // the binary of nodes that are added; "": the one that is tested
	members []*member
}

// member is a node of a fleet.
type member struct {
	*node.Node
	name string
	api  *api.Client // of its agent, over the node's socket
	logs []*os.File
}

// fleetSocket is the agent's admin socket on a node.
const fleetSocket = "/run/qosctl/qosctl.sock"

// startFleet starts so many nodes; ping is the silence after which the master has lost one. Extra are more lines of each agent's
// configuration, for which %s is the node's address.
func startFleet(t *testing.T, count int, ping time.Duration, extra string) *fleet {
	t.Helper()
	if !wanted() {
		t.Skip("end-to-end tests run as root with QOSCTL_E2E=1: make e2e")
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute) // the first time a root file system is made
	defer stop()
	f := &fleet{t: t, dir: t.TempDir(), keys: strings.Contains(extra, "cluster:")}
	var err error
	if f.net, err = node.NewNet(ctx, nodeName(t, "fleet")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the nodes
		if err := f.net.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(f.dir, "token"), []byte("a token of this test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.dir, "key"), []byte(strings.Repeat("3f", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.master(ping)
	for i := range count {
		f.add(ctx, fmt.Sprintf("node%d", i+1), extra)
	}
	for _, m := range f.members {
		f.until(m.name+" is ready", time.Minute, func() bool { return m.api.Ready(t.Context()) == nil })
	}
	f.until("all nodes are registered", time.Minute, func() bool { return len(f.agents()) == count })
	return f
}

// master starts the development scheduler without nodes.
func (f *fleet) master(ping time.Duration) {
	f.t.Helper()
	log, err := os.Create(filepath.Join(f.dir, "master.log"))
	if err != nil {
		f.t.Fatal(err)
	}
	at := func(port string) string { return f.net.Address() + ":" + port }
	cmd := exec.Command(filepath.Join(bin, "qosctl"), "devmesos", "--dir", filepath.Join(f.dir, "master"), "--no-nodes", "--listen-any",
		"--node-token", filepath.Join(f.dir, "token"), "--marathon", at(fleetMarathon), "--chronos", at(fleetChronos), "--mesos-master", at(fleetMaster),
		"--ping-timeout", ping.String())
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // has ended, at worst
		if err := cmd.Wait(); err != nil {
			f.t.Errorf("the master ended with %v", err)
		}
		f.show(log, "master")
	})
}

// show writes the end of a log if the test has failed.
func (f *fleet) show(log *os.File, name string) {
	if b, err := os.ReadFile(log.Name()); err == nil && f.t.Failed() {
		f.t.Logf("%s:\n%s", name, tail(b, 4<<10))
	}
	_ = log.Close() // written by another process
}

// add starts a node, puts it on the network, and starts what belongs on it.
func (f *fleet) add(ctx context.Context, name, extra string) {
	f.t.Helper()
	qosctl := cmp.Or(f.qosctl, filepath.Join(bin, "qosctl"))
	n, err := node.Start(ctx, node.Options{
		Name: nodeName(f.t, name), Release: node.Trixie,
		Files: map[string]string{"/usr/bin/qosctl": qosctl, "/usr/libexec/qosctl/qosctl-runtime": qosctl, "/etc/token": filepath.Join(f.dir, "token"), "/etc/qosctl/cluster.key": filepath.Join(f.dir, "key")},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	m := &member{Node: n, name: name}
	f.members = append(f.members, m)
	f.t.Cleanup(func() {
		if err := n.Stop(); err != nil {
			f.t.Error(err)
		}
		for _, log := range m.logs {
			f.show(log, filepath.Base(log.Name()))
		}
	})
	address, err := f.net.Attach(ctx, n)
	if err != nil {
		f.t.Fatal(err)
	}
	switch strings.Count(extra, "%s") {
	case 1:
		extra = fmt.Sprintf(extra, address)
	case 2: // and the first node's
		extra = fmt.Sprintf(extra, address, f.members[0].Address())
	}
	if f.keys {
		if _, err := n.Run(ctx, "chmod", "600", "/etc/qosctl/cluster.key"); err != nil {
			f.t.Fatal(err)
		}
		f.image(ctx, n)
	}
	config := fmt.Sprintf(`node: %[1]s
control: {period: 1s, cpus: 1}
frameworks:
  marathon: {type: marathon, urls: ["http://%[2]s:%[3]s"], poll: 1s}
  chronos: {type: chronos, urls: ["http://%[2]s:%[4]s"], poll: 1s}
mesos: {url: "http://%[5]s:%[6]s", poll: 1s, master: ["http://%[2]s:%[7]s"]}
%[8]s`, name, f.net.Address(), fleetMarathon, fleetChronos, address, fleetMesos, fleetMaster, extra)
	if err := os.WriteFile(n.Path("/etc/qosctl.yaml"), []byte(config), 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.begin(m, "mesos", "/usr/bin/qosctl", "devmesos", "--dir", "/var/lib/mesos", "--node-of", "http://"+f.net.Address()+":"+fleetMaster, "--node-token", "/etc/token",
		"--listen-any", "--mesos", address+":"+fleetMesos, "--hostname", name, "--deploy", "100ms", "--docker", "--cpus", "1", "--mem", "1024")
	f.begin(m, "agent", "/usr/bin/qosctl", "agent", "--config", "/etc/qosctl.yaml")
	if m.api, err = api.New(api.Options{Address: n.Path(fleetSocket)}); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(m.api.Close)
}

// begin starts a program on a node. It ends with the node.
func (f *fleet) begin(m *member, name string, argv ...string) {
	f.t.Helper()
	log, err := os.Create(filepath.Join(f.dir, m.name+"-"+name+".log"))
	if err != nil {
		f.t.Fatal(err)
	}
	m.logs = append(m.logs, log)
	cmd := m.Command(context.WithoutCancel(f.t.Context()), argv...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // killed, with the node
	}()
	f.t.Cleanup(func() { // before the node's stop, which ends it
		_ = m.Kill() // has been killed, at worst
		<-done
	})
}

// until waits for a real condition.
func (f *fleet) until(what string, within time.Duration, ok func() bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// ask sends a request to a part of the master's side, by its port, and decodes the answer.
func (f *fleet) ask(method, port, path, body string, into any) error {
	r, err := http.NewRequestWithContext(f.t.Context(), method, "http://"+f.net.Address()+":"+port+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, b)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(bytes.NewReader(b)).Decode(into)
}

// agents are the names of the registered Mesos agents.
func (f *fleet) agents() (names []string) {
	var v struct{ Slaves []struct{ Hostname string } }
	if err := f.ask(http.MethodGet, fleetMaster, "/slaves", "", &v); err != nil {
		return nil
	}
	for _, s := range v.Slaves {
		names = append(names, s.Hostname)
	}
	return names
}

// fleetTask is a task as Marathon shows it.
type fleetTask struct{ ID, Host, State string }

// tasks are an app's.
func (f *fleet) tasks(app string) []fleetTask {
	f.t.Helper()
	var v struct{ Tasks []fleetTask }
	if err := f.ask(http.MethodGet, fleetMarathon, "/v2/apps"+app+"/tasks", "", &v); err != nil {
		f.t.Fatal(err)
	}
	return v.Tasks
}

// create makes an app of one task that is never replaced by itself.
func (f *fleet) create(id, more string) {
	f.t.Helper()
	app := fmt.Sprintf(`{"id":%q,"cmd":"exec sleep 1000","cpus":0.1,"mem":32,"instances":1,"unreachableStrategy":"disabled",
		"upgradeStrategy":{"minimumHealthCapacity":0,"maximumOverCapacity":0}%s}`, id, more)
	if err := f.ask(http.MethodPost, fleetMarathon, "/v2/apps", app, nil); err != nil {
		f.t.Fatal(err)
	}
}

// is says whether an app's only task is in a state, on a host.
func (f *fleet) is(app, state, host string) func() bool {
	return func() bool {
		l := f.tasks(app)
		return len(l) == 1 && l[0].State == state && (host == "" || l[0].Host == host)
	}
}

// TestAFleet runs a Marathon app on the node that its constraint names, loses nodes in each way that there is, and expunges.
func TestAFleet(t *testing.T) {
	f := startFleet(t, 2, 5*time.Second, "")
	ctx := t.Context()
	first, second := f.members[0], f.members[1]
	f.create("/pinned", `,"constraints":[["hostname","LIKE","node1"]]`)
	f.until("it runs on node1", time.Minute, f.is("/pinned", "TASK_RUNNING", "node1"))
	task := f.tasks("/pinned")[0].ID
	for name, lose := range map[string][2]func(context.Context) error{"cut": {first.Cut, first.Heal}, "paused": {first.Pause, first.Resume}} {
		if err := lose[0](ctx); err != nil {
			t.Fatal(err)
		}
		f.until(name+": it is unreachable", 30*time.Second, f.is("/pinned", "TASK_UNREACHABLE", "node1"))
		if err := lose[1](ctx); err != nil {
			t.Fatal(err)
		}
		f.until(name+": it is back", 30*time.Second, f.is("/pinned", "TASK_RUNNING", "node1"))
	}
	if got := f.tasks("/pinned")[0].ID; got != task {
		t.Errorf("it became another task, %s", got)
	}
	if err := first.CutFrom(ctx, second.Node); err != nil {
		t.Fatal(err)
	}
	reach := func() bool {
		_, err := first.Run(ctx, "timeout", "2", "bash", "-c", "</dev/tcp/"+second.Address()+"/"+fleetMesos)
		return err == nil
	}
	if reach() || !f.is("/pinned", "TASK_RUNNING", "node1")() {
		t.Error("the nodes reach each other, or the master has lost one")
	}
	if err := first.HealFrom(ctx, second.Node); err != nil {
		t.Fatal(err)
	}
	f.until("the nodes reach each other", 10*time.Second, reach)
	f.create("/free", "")
	f.until("the other one runs", time.Minute, f.is("/free", "TASK_RUNNING", ""))
	lost := f.tasks("/free")[0]
	dead, left := first, second
	if lost.Host == second.name {
		dead, left = second, first
	}
	if err := dead.Kill(); err != nil {
		t.Fatal(err)
	}
	f.until("the dead node's task is unreachable", 30*time.Second, f.is("/free", "TASK_UNREACHABLE", dead.name))
	if err := f.ask(http.MethodDelete, fleetMarathon, "/v2/apps/free/tasks/"+lost.ID+"?wipe=true", "", nil); err != nil {
		t.Fatal(err)
	}
	f.until("it runs on the node that is left", time.Minute, f.is("/free", "TASK_RUNNING", left.name))
}
