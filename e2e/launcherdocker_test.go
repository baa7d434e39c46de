package e2e

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qosctl/e2e/node"
	"qosctl/qos"
)

// TestLauncherInDocker: the old launcher's app, whose shell_trap runs it in a Docker container, checkpoints it when its task is killed and
// restores it in the next, reaches the end of its execution as one, with its account whole.
func TestLauncherInDocker(t *testing.T) {
	here, err := filepath.Abs("testdata/shell_trap_docker")
	if err != nil {
		t.Fatal(err)
	}
	s := startBare(t, node.Options{Release: node.Trixie}, "mkdir /trap", "--set", "thesis.enabled=true", "--set", "thesis.from=127.0.0.0/8", "--set", "mesos.poll=500ms")
	for from, to := range map[string]string{here: "/trap/shell_trap", filepath.Join(bin, "image", "curl"): "/trap/curl"} {
		if err := s.n.Copy(from, to); err != nil {
			t.Fatal(err)
		}
	}
	s.ready()
	l := newLauncher(t, "http://127.0.0.1:30000")
	l.trap, l.dir = "exec /trap/shell_trap", "/trap" // else its shell dies of the signal that it is to hear
	file := marathonJob("/old")
	file["cmd"], file["cpus"], file["backoffSeconds"] = `i=0; while [ \$i -lt 25000000 ]; do i=\$((i + 1)); done`, 0.5, 1
	file["env"] = map[string]any{"CURL": "/trap/curl"}
	file["container"] = map[string]any{"type": "DOCKER", "docker": map[string]any{"image": shell}}
	l.marathon(file)
	file["env"].(map[string]any)["MY_DOCKER_OPTIONS"] = "--network none" // CRIU before 4.2 can't save IP sockets on new kernels
	app, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	const apps = "http://127.0.0.1:18080/v2/apps"
	s.ask(apps, "POST", string(app))
	s.ask(l.supervisor+"/initTask", "POST", l.announcement("marathon", "old", 10, 240, 0.1, 0))
	s.until("running, with progress", time.Minute, func() bool {
		j, err := s.api.Job(t.Context(), l.id())
		return err == nil && j.Phase == qos.PhaseRunning && j.Progress > 1
	})
	before := s.job(l.id())
	s.ask(apps+"/old/tasks", "DELETE", "")
	s.until("it goes on in its next task", time.Minute, func() bool {
		j := s.job(l.id())
		return j.Phase == qos.PhaseRunning && j.Epoch > before.Epoch && j.Progress > before.Progress
	})
	if j := s.job(l.id()); j.Index != 1 || len(j.Account.Entries) != 2 {
		t.Errorf("it began anew: %+v", j)
	}
	s.until("its end", 3*time.Minute, func() bool { return s.job(l.id()).Tally.Succeeded >= 1 })
	j := s.job(l.id())
	if r := j.Runs[0]; r.Outcome != qos.Met || r.Parts != 2 || r.ExitCode != 0 || r.CPU < before.Progress || j.Tally.Failed != 0 {
		t.Errorf("its first execution: %+v", j)
	}
	s.ask(apps+"/old", "DELETE", "")
	s.until("cancelled", time.Minute, func() bool { return s.job(l.id()).Phase == qos.PhaseCancelled })
	s.until("its last task has ended", time.Minute, func() bool {
		return strings.TrimSpace(s.sh("pgrep -f '[/]trap/shell_trap' || true; docker ps --all --quiet")) == ""
	})
	s.sh("rm -rf /tmp/ctrd-checkpoint*") // what containerd leaves of checkpoints that are Docker's own
	t.Logf("%d resizes, %+v", j.Tally.Resizes, j.Runs[0])
}

// ask sends a request on the node, which must be answered well.
func (s *site) ask(url, method, body string) {
	s.t.Helper()
	out, err := s.n.Run(s.t.Context(), "/trap/curl", url, "-H", "Content-type: application/json", "-X", method, "-d", body)
	if err != nil || strings.Contains(out, `"message"`) {
		s.t.Fatalf("%s %s: %v: %s", method, url, err, out)
	}
}
