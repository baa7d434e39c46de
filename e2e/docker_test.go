package e2e

import (
	"context"
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

// shell is the image that jobs on nodes have: a static busybox.
const shell = "shell"

// site is a node with `qosctl dev --docker` on it: an agent, a development scheduler, a Docker and CRIU.
type site struct {
	t    *testing.T
	n    *node.Node
	cmd  *exec.Cmd
	done chan struct{}
	api  *api.Client
	log  *os.File
}

const siteDir = "/run/q"

// startSite starts a node and what runs on it; args are those of dev.
func startSite(t *testing.T, release string, args ...string) *site {
	t.Helper()
	return startSiteOn(t, node.Options{Release: release}, "", args...)
}

// startSiteOn starts a node of those options, runs a script on it, and starts dev, which must be able to checkpoint.
func startSiteOn(t *testing.T, o node.Options, prepare string, args ...string) *site {
	t.Helper()
	s := startBare(t, o, prepare, args...)
	s.ready()
	return s
}

// startBare is startSiteOn without waiting for the agent.
func startBare(t *testing.T, o node.Options, prepare string, args ...string) *site {
	t.Helper()
	if !wanted() {
		t.Skip("end-to-end tests run as root with QOSCTL_E2E=1: make e2e")
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute) // the first time a root file system is made
	defer stop()
	qosctl := filepath.Join(bin, "qosctl")
	o.Name, o.Files = nodeName(t, o.Release), map[string]string{"/usr/bin/qosctl": qosctl, "/usr/libexec/qosctl/qosctl-runtime": qosctl}
	n, err := node.Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, n: n, done: make(chan struct{})}
	if s.log, err = os.Create(filepath.Join(t.TempDir(), "dev.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	s.image()
	if prepare != "" {
		s.sh(prepare)
	}
	s.cmd = n.Command(context.WithoutCancel(t.Context()), append([]string{
		"sh", "-c", `echo $$ >/run/dev.pid; exec "$@"`, "dev", "/usr/bin/qosctl", "dev", "--docker", "--dir", siteDir, "--deploy", "100ms", "--period", "1s",
	}, args...)...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.done)
		_ = s.cmd.Wait() // its status is read in stop
	}()
	if s.api, err = api.New(api.Options{Address: n.Path(siteDir + "/run/qosctl.sock")}); err != nil {
		t.Fatal(err)
	}
	return s
}

// ready waits until the agent knows that it can checkpoint.
func (s *site) ready() {
	s.t.Helper()
	s.until("ready, and able to checkpoint", time.Minute, func() bool {
		d, err := s.api.Doctor(s.t.Context())
		return err == nil && d.Driver != ""
	})
}

// nodeName is short: paths of sockets are.
func nodeName(t *testing.T, release string) string {
	sum := 0
	for _, c := range t.Name() {
		sum = (sum*31 + int(c)) % 1000000
	}
	return fmt.Sprintf("%s-%d", release, sum)
}

// imageScript makes it.
const imageScript = `set -e; mkdir -p /tmp/i/bin /tmp/i/data; cp /bin/busybox /tmp/i/bin/
for a in sh sleep cat rm echo date ls tail; do ln -s busybox /tmp/i/bin/$a; done
echo old >/tmp/i/data/change; echo gone >/tmp/i/data/delete
tar -C /tmp/i -c . | docker import - ` + shell + `; rm -rf /tmp/i`

// image makes the jobs' image of the node's busybox.
func (s *site) image() {
	s.t.Helper()
	if _, err := s.n.Run(s.t.Context(), "sh", "-c", imageScript); err != nil {
		s.t.Fatal(err)
	}
}

// stop ends the node and looks for what dev has left on it.
func (s *site) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if s.cmd != nil && s.cmd.Process != nil {
		if _, err := s.n.Run(ctx, "sh", "-c", "kill $(cat /run/dev.pid)"); err != nil {
			s.t.Error(err)
		}
		select {
		case <-s.done:
		case <-ctx.Done():
			s.t.Error("qosctl dev did not end")
		}
		s.nothingLeft(ctx)
	}
	if b, err := os.ReadFile(s.log.Name()); err == nil && s.t.Failed() {
		s.t.Logf("qosctl dev:\n%s", tail(b, 12<<10))
		if d, err := os.ReadFile(s.n.Path("/var/log/dockerd.log")); err == nil {
			s.t.Logf("dockerd:\n%s", tail(d, 4<<10))
		}
	}
	if err := s.n.Stop(); err != nil {
		s.t.Error(err)
	}
}

// nothingLeft looks for containers, checkpoints, and what containerd forgets.
func (s *site) nothingLeft(ctx context.Context) {
	for what, script := range map[string]string{
		"containers":      "docker ps --all --quiet",
		"checkpoints":     "find /var/lib/qosctl/checkpoints -mindepth 1 2>/dev/null || true",
		"containerd's":    "ls -d /tmp/ctrd-checkpoint* 2>/dev/null || true",
		"agent's cgroups": "find /sys/fs/cgroup -type d -name 'qosctl-dev-*'",
	} {
		out, err := s.n.Run(ctx, "sh", "-c", script)
		if err != nil || strings.TrimSpace(out) != "" {
			s.t.Errorf("%s left: %q (%v)", what, out, err)
		}
	}
}

// until waits for a real condition.
func (s *site) until(what string, within time.Duration, ok func() bool) {
	s.t.Helper()
	end := time.NewTimer(within)
	defer end.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-s.done:
			s.t.Fatalf("qosctl dev has ended; waiting for: %s", what)
		case <-end.C:
			s.t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// qosctl runs a command on the node, again while the agent is away.
func (s *site) qosctl(args ...string) string {
	s.t.Helper()
	out, err := s.try(args...)
	for until := time.Now().Add(30 * time.Second); err != nil && strings.Contains(out, "no agent at") && time.Now().Before(until); {
		s.ready()
		out, err = s.try(args...)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *site) try(args ...string) (string, error) {
	out, err := s.n.Run(s.t.Context(), append([]string{"/usr/bin/qosctl", "--agent", siteDir + "/run/qosctl.sock"}, args...)...)
	return out, err
}

func (s *site) submit(file map[string]any) string {
	s.t.Helper()
	const path = "/tmp/job.json"
	b, err := os.ReadFile(write(s.t, file))
	if err == nil {
		err = os.WriteFile(s.n.Path(path), b, 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	id := fmt.Sprintf("%08x-0000-4000-8000-%012x", time.Now().UnixNano()&0xffffffff, time.Now().UnixNano()&0xffffffffffff)
	s.qosctl("submit", "--id", id, path)
	return id
}

// job is what the agent says of a job, once it answers: it may have been killed just now.
func (s *site) job(id string) (j api.Job) {
	s.t.Helper()
	s.until("the agent answers", 30*time.Second, func() (ok bool) {
		var err error
		j, err = s.api.Job(s.t.Context(), id)
		return err == nil
	})
	return j
}

// dockerApp is a Marathon app in the shell image, by the thesis' rules.
func dockerApp(id, cmd string) map[string]any {
	return map[string]any{
		"id": id, "cmd": cmd, "cpus": 0.5, "mem": 64, "instances": 1,
		"container": map[string]any{"type": "DOCKER", "docker": map[string]any{"image": shell}},
		"qos":       map[string]any{"duration": 30, "deadline": 120, "desv_deadline": 0.1, "executions": 1},
	}
}

// counting is a job that counts, burns CPU, and ends well at n, if the files that it has changed are as it left them.
func counting(n int) string {
	return fmt.Sprintf(`rm /data/delete; echo new >/data/change; exec 3>>/data/open; i=0
while [ $i -lt %[1]d ]; do i=$((i+1)); %[2]s; echo $i; echo $i >&3; done
[ ! -e /data/delete ] && [ "$(cat /data/change)" = new ] && [ "$(tail -n 1 /data/open)" = %[1]d ]`, n, spin(1))
}

// lines checks that a job's output counts from 1 without a gap or a repetition, and returns how far.
func (s *site) lines(id string) int {
	s.t.Helper()
	out := s.qosctl("logs", id, "--stream", "stdout")
	n := 0
	for l := range strings.Lines(out) {
		n++
		if strings.TrimSpace(l) != strconv.Itoa(n) {
			s.t.Fatalf("line %d is %q", n, l)
		}
	}
	return n
}

// TestStopAndGoOn takes a job through checkpoints on both kinds of node: told to stop, it goes on in its next task where it was.
func TestStopAndGoOn(t *testing.T) {
	for _, release := range []string{node.Trixie, node.Forky} {
		t.Run(release, func(t *testing.T) {
			s := startSite(t, release)
			const n = 600
			id := s.submit(dockerApp("/count", counting(n)))
			for round := 1; round <= 3; round++ {
				s.until("the job runs", 30*time.Second, func() bool { j := s.job(id); return j.Phase == qos.PhaseRunning && s.lines(id) > 20*round })
				before := s.job(id)
				s.qosctl("checkpoint", id, "--stop", "--reason", "test")
				s.until("it goes on", 30*time.Second, func() bool {
					j := s.job(id)
					return j.Phase.Terminal() || j.Phase == qos.PhaseRunning && j.Epoch > before.Epoch && j.Allocation > 0
				})
			}
			s.until("the job is done", 2*time.Minute, func() bool { return s.job(id).Phase.Terminal() })
			j := s.job(id)
			if j.Phase != qos.PhaseCompleted || j.Tally.Succeeded != 1 || j.Tally.Failed != 0 || len(j.Account.Entries) != 4 {
				t.Errorf("at the end: %+v, %s", j, s.qosctl("explain", id))
			}
			if got := s.lines(id); got != n {
				t.Errorf("%d lines, want %d", got, n)
			}
			t.Log(s.qosctl("status", id))
		})
	}
}
