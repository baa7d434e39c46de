package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/e2e/node"
	"qosctl/qos"
)

// TestInstall begins on a node whose Docker knows nothing of us: jobs are resized in place only, and the doctor says what is missing. The OCI
// runtime is installed under a running job; then jobs can be checkpointed. It is not taken out while one has a container made by it.
func TestInstall(t *testing.T) {
	o := node.Options{Release: node.Forky, Daemon: map[string]any{"runtimes": map[string]any{}, "experimental": false, "live-restore": false}}
	s := startBare(t, o, "rm -r /usr/libexec/qosctl")
	s.until("the doctor has looked", time.Minute, func() bool {
		d, err := s.api.Doctor(t.Context())
		tested := slices.ContainsFunc(d.Checks, func(c api.Check) bool { return c.Name == "checkpoint.selftest" && c.Of == "driver runtime" })
		return err == nil && tested && d.Driver == ""
	})
	said, err := s.try("doctor")
	for _, want := range []string{"WARNING  docker.live_restore", `"live-restore": true`, "WARNING  checkpoint.selftest driver runtime", "remedy: qosctl oci-runtime install", "resized in place only"} {
		if err == nil || !strings.Contains(said, want) {
			t.Errorf("%q is not in what the doctor says (%v):\n%s", want, err, said)
		}
	}
	const n = 100000 // it is cancelled
	id := s.submit(dockerApp("/inplace", counting(n)))
	s.running(id)
	if out, err := s.try("checkpoint", id); err == nil {
		t.Errorf("a checkpoint is taken without a driver: %s", out)
	}
	pid := s.inspect(s.job(id).Container, ".State.Pid")

	old := s.sh("cat /etc/docker/daemon.json")
	said = s.sh("/usr/bin/qosctl oci-runtime install")
	now := s.sh("cat /etc/docker/daemon.json")
	if !strings.Contains(said, "registered in") || !strings.Contains(said, "reads its configuration again") || !strings.Contains(now, `native.cgroupdriver=cgroupfs`) {
		t.Errorf("said %q, daemon.json %s", said, now)
	}
	if kept := s.sh(`cat $(ls -t /etc/docker/daemon.json?* | head -n 1)`); kept != old {
		t.Errorf("the copy is %q, not %q", kept, old)
	}
	if again := s.sh("/usr/bin/qosctl oci-runtime install"); strings.Contains(again, "registered in") || s.sh("cat /etc/docker/daemon.json") != now {
		t.Errorf("installed again: %q", again)
	}
	if said, err := s.try("doctor", "--again"); !strings.Contains(said, "by the driver runtime") || !strings.Contains(said, "0 faults") { // it warns of nodes like this one
		t.Errorf("the doctor says\n%s\n%v", said, err)
	}
	s.running(id)
	if got := s.inspect(s.job(id).Container, ".State.Pid"); got != pid {
		t.Errorf("the job's first process was %s, is %s", pid, got)
	}
	s.qosctl("cancel", id)
	s.until("cancelled", 30*time.Second, func() bool { return s.job(id).Phase.Terminal() })

	const m = 400
	id = s.submit(dockerApp("/now", counting(m)))
	s.running(id)
	if out, err := s.n.Run(t.Context(), "/usr/bin/qosctl", "oci-runtime", "uninstall"); err == nil || !strings.Contains(out, "were made by it") {
		t.Errorf("taken out under a job: %q, %v", out, err)
	}
	before := s.job(id)
	s.qosctl("checkpoint", id, "--stop")
	s.until("it goes on", time.Minute, func() bool {
		j := s.job(id)
		return j.Phase.Terminal() || j.Phase == qos.PhaseRunning && j.Epoch > before.Epoch
	})
	s.finished(id, m)
	s.sh("docker rm $(docker ps --all --quiet --filter label=qosctl.job)") // the last ones are kept for their output
	if said := s.sh("/usr/bin/qosctl oci-runtime uninstall"); !strings.Contains(said, "taken out of") || strings.Contains(s.sh("cat /etc/docker/daemon.json"), "qosctl") {
		t.Errorf("uninstall said %q", said)
	}
}
