package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"qosctl/e2e/node"
	"qosctl/e2e/programs"
	"qosctl/qos"
)

// TestAccount takes a program that burns CPU, and sums up what its own clock says, through six incarnations: the account is the same sum,
// and status, API and manifest say where each part of it was read.
func TestAccount(t *testing.T) {
	for _, release := range []string{node.Trixie, node.Forky} {
		t.Run(release, func(t *testing.T) {
			s := startSite(t, release)
			s.bigImage()
			file := dockerApp("/burn", "exec "+programs.Job+" burn -every 20ms")
			file["container"] = map[string]any{"type": "DOCKER", "docker": map[string]any{"image": big}}
			file["qos"] = map[string]any{"duration": 300, "deadline": 1200, "desv_deadline": 0.1, "executions": 1}
			id := s.submit(file)
			const restores = 5
			for range restores {
				before := s.burned(id, 1)
				s.qosctl("checkpoint", id, "--stop", "--reason", "test")
				s.until("it goes on", time.Minute, func() bool {
					j := s.job(id)
					return j.Phase == qos.PhaseRunning && j.Epoch > before.Epoch && j.Allocation > 0
				})
			}
			s.burned(id, 1)
			s.suspend("burn", id)
			j := s.job(id)
			own, seen := s.lastBurn(id)
			if d := j.Progress - own.Seconds(); d < -0.05 || d > 0.3 || seen != restores {
				t.Errorf("account %.3f CPU-s, by its own clock %.3f: %.3f apart; it saw %d restores", j.Progress, own.Seconds(), d, seen)
			}
			if d := j.Consumed - j.Progress; d < -0.001 || d > 0.001 {
				t.Errorf("consumed %.3f, progress %.3f, and nothing was lost", j.Consumed, j.Progress)
			}
			t.Logf("account %.3f CPU-s, by its own clock %.3f", j.Progress, own.Seconds())
			s.mapShown(id, restores+1)
			m := s.request(http.MethodGet, "http://127.0.0.1:30000/metrics", "")
			for _, want := range []string{"qosctl_checkpoint_frozen_seconds_count 6", "qosctl_checkpoint_memory_dump_seconds_count 6", "qosctl_restore_criu_seconds_count 5"} {
				if !strings.Contains(m, "\n"+want+"\n") {
					t.Errorf("%s is not in the metrics", want)
				}
			}
			s.qosctl("cancel", id)
			s.until("cancelled", 30*time.Second, func() bool { return s.job(id).Phase.Terminal() })
		})
	}
}

// burned waits until a job has burned some more seconds, and returns it as it was before.
func (s *site) burned(id string, seconds float64) (before struct{ Epoch uint64 }) {
	s.t.Helper()
	j := s.job(id)
	s.until("it burns CPU", time.Minute, func() bool { n := s.job(id); return n.Phase == qos.PhaseRunning && n.Consumed > j.Consumed+seconds })
	before.Epoch = s.job(id).Epoch
	return before
}

// lastBurn is what the program's last line says.
func (s *site) lastBurn(id string) (time.Duration, int) {
	s.t.Helper()
	list, err := programs.Lines(strings.NewReader(s.qosctl("logs", id, "--stream", "stdout")))
	s.must(err)
	cpu, _, restores, err := programs.Burned(list[len(list)-1])
	s.must(err)
	return cpu, restores
}

// mapShown looks for container, stat container and cgroup of each incarnation where people and programs look.
func (s *site) mapShown(id string, incarnations int) {
	s.t.Helper()
	j, status := s.job(id), s.qosctl("status", id)
	if j.Account == nil || len(j.Account.Entries) != incarnations {
		s.t.Fatalf("account %+v, want %d incarnations", j.Account, incarnations)
	}
	for i, e := range j.Account.Entries {
		if e.Container == "" || e.StatContainer == "" || !strings.HasPrefix(e.Cgroup, "/") {
			s.t.Errorf("incarnation %v: %+v", i, e)
		}
		if !strings.Contains(status, e.StatContainer) || !strings.Contains(status, e.Cgroup) {
			s.t.Errorf("%s or %s is not in\n%s", e.StatContainer, e.Cgroup, status)
		}
	}
	e := j.Account.Entries[j.Account.Live]
	for _, want := range []string{fmt.Sprintf(`"stat_container": %q`, e.StatContainer), fmt.Sprintf(`"cgroup": %q`, e.Cgroup), `"frozen": `} {
		if !s.has(fmt.Sprintf("%s/%s/%d/manifest.json", s.checkpoints(), id, incarnations), want) {
			s.t.Errorf("%s is not in the manifest", want)
		}
	}
}

// TestDrift has somebody else change the quota of a job: it is seen, said, counted and set right, and its shares are the request's all the time.
func TestDrift(t *testing.T) {
	s := startSite(t, node.Forky)
	file := dockerApp("/drift", counting(100000))
	file["qos"] = map[string]any{"duration": 60, "deadline": 90, "desv_deadline": 0.1, "executions": 1}
	id := s.submit(file)
	s.until("it is lent CPUs", time.Minute, func() bool { j := s.job(id); return j.Phase == qos.PhaseRunning && j.Allocation > j.Request })
	name := s.job(id).Container
	if got := s.inspect(name, ".HostConfig.CpuShares"); got != "512" {
		t.Errorf("shares %s with a loan, want the request's 512", got)
	}
	s.sh("docker update --cpu-quota 7000 " + name)
	s.until("it is set right", time.Minute, func() bool {
		return s.inspect(name, ".HostConfig.CpuQuota") == fmt.Sprintf("%.0f", s.job(id).Allocation*100000)
	})
	if got := s.inspect(name, ".HostConfig.CpuShares"); got != "512" {
		t.Errorf("shares %s, want 512", got)
	}
	if m := s.request(http.MethodGet, "http://127.0.0.1:30000/metrics", ""); !strings.Contains(m, "\nqosctl_quota_drift_total 1\n") {
		t.Error("qosctl_quota_drift_total is not 1")
	}
	if explained := s.qosctl("explain", id); !strings.Contains(explained, "the quota in force was 0.07 CPUs") {
		t.Errorf("not explained:\n%s", explained)
	}
	s.qosctl("cancel", id)
	s.until("cancelled", 30*time.Second, func() bool { return s.job(id).Phase.Terminal() })
}
