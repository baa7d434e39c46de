package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/e2e/node"
	"qosctl/qos"
)

// unit is the packaged one.
const unit = "qosctl-agent.service"

// The packages that are installed over each other. They differ in their version alone.
const (
	older = "1.0.0"
	newer = "1.1.0"
)

// debs builds the deb of both versions.
func debs(t *testing.T) (dir string) {
	t.Helper()
	if !wanted() {
		t.Skip("end-to-end tests run as root with QOSCTL_E2E=1: make e2e")
	}
	dir = t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "make", "-C", "..", "bin/nfpm").CombinedOutput(); err != nil {
		t.Fatalf("build nfpm: %v: %s", err, out)
	}
	for _, v := range []string{older, newer} {
		cmd := exec.CommandContext(t.Context(), "../tools/package")
		cmd.Env = append(os.Environ(), "OUT="+dir, "ARCHS=amd64", "KINDS=deb", "VERSION="+v)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build the package: %v: %s", err, out)
		}
	}
	return dir
}

func debFile(version string) string { return "qosctl_" + version + "-1_amd64.deb" }

// host is a node with systemd as its first process and a development scheduler in a unit of its own, on which our package is installed.
type host struct {
	t   *testing.T
	n   *node.Node
	api *api.Client

	engine string // line of the configuration
	v2     bool   // the node has cgroup v2 alone
}

// startHost starts a host with both packages in /packages. mesos are more flags of the development scheduler.
func startHost(t *testing.T, o node.Options, packages string, mesos ...string) *host {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute) // the first time a root file system is made
	defer stop()
	o.Name, o.Systemd, o.Daemon = nodeName(t, o.Release), true, map[string]any{"runtimes": map[string]any{}}
	o.Files = map[string]string{"/usr/local/bin/mesos-dev": filepath.Join(bin, "qosctl")}
	for _, v := range []string{older, newer} {
		o.Files["/packages/"+debFile(v)] = filepath.Join(packages, debFile(v))
	}
	n, err := node.Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, n: n, v2: o.V2}
	t.Cleanup(h.stop)
	if o.Release == node.Bookworm {
		h.engine = `engine: {docker: ""}`
	}
	h.sh("systemd-run --quiet --unit=mesos-dev -p KillMode=process -p TasksMax=infinity /usr/local/bin/mesos-dev devmesos --dir /var/lib/mesos " +
		"--marathon 127.0.0.1:18080 --chronos 127.0.0.1:14400 --mesos 127.0.0.1:5051 --attribute qosctl=true --deploy 100ms --cpus 2 --mem 1024 " + strings.Join(mesos, " "))
	return h
}

func (h *host) stop() {
	if h.t.Failed() {
		out, _ := h.n.Run(context.WithoutCancel(h.t.Context()), "journalctl", "--no-pager", "-n", "150", "-o", "cat", "-u", unit, "-u", "mesos-dev", "-u", "docker") // for the log
		h.t.Log(string(tail([]byte(out), 16<<10)))
	}
	if h.api != nil {
		h.api.Close()
	}
	if err := h.n.Stop(); err != nil {
		h.t.Error(err)
	}
}

func (h *host) sh(script string) string {
	h.t.Helper()
	out, err := h.n.Run(h.t.Context(), "sh", "-c", script)
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

func (h *host) until(what string, within time.Duration, ok func() bool) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			h.t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// install installs a version and waits until its agent is ready, which systemd must know too.
func (h *host) install(version string) {
	h.t.Helper()
	h.sh("DEBIAN_FRONTEND=noninteractive dpkg -i --force-confold /packages/" + debFile(version))
	h.is(version)
}

// is waits until the agent of a version is ready.
func (h *host) is(version string) {
	h.t.Helper()
	if h.api == nil {
		c, err := api.New(api.Options{Address: h.n.Path(fleetSocket)})
		if err != nil {
			h.t.Fatal(err)
		}
		h.api = c
	}
	h.until("the agent "+version+" is ready", time.Minute, func() bool {
		n, err := h.api.Node(h.t.Context())
		return err == nil && n.Version == version && h.api.Ready(h.t.Context()) == nil && h.show("ActiveState") == "active"
	})
}

func (h *host) show(property string) string {
	h.t.Helper()
	return strings.TrimSpace(h.sh("systemctl show --value -p " + property + " " + unit))
}

func (h *host) configure(mode string) {
	h.t.Helper()
	text := "control: {mode: " + mode + ", period: 1s}\nframeworks:\n  marathon: {type: marathon, urls: [\"http://127.0.0.1:18080\"], poll: 1s}\nmesos: {poll: 1s}\n" + h.engine + "\n"
	if err := os.WriteFile(h.n.Path("/etc/qosctl/agent.yaml"), []byte(text), 0o640); err != nil {
		h.t.Fatal(err)
	}
	h.sh("qosctl config check /etc/qosctl/agent.yaml && systemctl restart " + unit)
}

// submit hands a job in as an operator does, and waits until it runs.
func (h *host) submit(file map[string]any) (id string) {
	h.t.Helper()
	text, err := json.Marshal(file)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(h.n.Path("/tmp/job.json"), text, 0o600); err != nil {
		h.t.Fatal(err)
	}
	id = fmt.Sprintf("%08x-0000-4000-8000-%012x", time.Now().UnixNano()&0xffffffff, time.Now().UnixNano()&0xffffffffffff)
	h.sh("qosctl submit --id " + id + " /tmp/job.json")
	h.until("it runs", time.Minute, func() bool {
		j, err := h.api.Job(h.t.Context(), id)
		return err == nil && j.Phase == qos.PhaseRunning && j.Progress > 0.2
	})
	return id
}

func (h *host) job(id string) api.Job {
	h.t.Helper()
	j, err := h.api.Job(h.t.Context(), id)
	if err != nil {
		h.t.Fatal(err)
	}
	return j
}

// payload is a running job as the kernel has it.
type payload struct {
	cgroup, pids string
	epoch        uint64
}

func (h *host) payload(id string) payload {
	h.t.Helper()
	j := h.job(id)
	p := payload{cgroup: j.Account.Entries[j.Account.Live].Cgroup, epoch: j.Epoch}
	hierarchy := "/cpu"
	if h.v2 {
		hierarchy = ""
	}
	p.pids = h.sh("find /sys/fs/cgroup" + hierarchy + p.cgroup + " -name cgroup.procs -exec cat {} + | sort -n")
	return p
}

// used is the CPU time of the job's cgroup as the kernel has counted it, in seconds.
func (h *host) used(p payload) float64 {
	h.t.Helper()
	if !h.v2 {
		return h.number(p, "cpuacct.usage") / 1e9
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(h.sh("sed -n 's/^usage_usec //p' /sys/fs/cgroup"+p.cgroup+"/cpu.stat")), 64)
	if err != nil {
		h.t.Fatal(err)
	}
	return v / 1e6
}

// number reads a counter of the job's cgroup.
func (h *host) number(p payload, file string) float64 {
	h.t.Helper()
	controller, _, _ := strings.Cut(file, ".")
	v, err := strconv.ParseFloat(strings.TrimSpace(h.sh("cat /sys/fs/cgroup/"+controller+p.cgroup+"/"+file)), 64)
	if err != nil {
		h.t.Fatal(err)
	}
	return v
}

// untouched says that a job runs as it did: the same processes in the same cgroup, and an account that has all that the kernel has counted.
func (h *host) untouched(id string, was payload, what string) {
	h.t.Helper()
	if now := h.payload(id); now != was || now.pids == "" {
		h.t.Fatalf("%s: the job was %+v, is %+v", what, was, now)
	}
	counted := h.used(was)
	h.until(what+": the account has what the kernel had counted", 20*time.Second, func() bool { return h.reading(id) >= counted })
	got := h.reading(id)
	if most := h.used(was); got > most {
		h.t.Errorf("%s: the account has %.2f CPU seconds, the kernel %.2f", what, got, most)
	}
	h.t.Logf("%s: pids %s, the account's reading %.2f s, of which the kernel had counted %.2f s", what, strings.Fields(was.pids), got, counted)
}

// reading is how far the account has followed the kernel's counter, in seconds.
func (h *host) reading(id string) float64 {
	h.t.Helper()
	a := h.job(id).Account
	return (a.Entries[a.Live].Zero + a.Entries[a.Live].Own).Seconds()
}

// spinning is a job that burns CPU for longer than any test.
func spinning(name string) map[string]any {
	f := marathonJob(name)
	f["cmd"], f["cpus"] = "while :; do :; done", 0.4
	f["qos"] = map[string]any{"duration": 600, "desv_deadline": 0.1, "deadline": 7200}
	return f
}
