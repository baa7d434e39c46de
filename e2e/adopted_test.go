package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"qosctl/e2e/node"
	"qosctl/qos"
)

// burning is a command that burns CPU for so many rounds and tells what it has used by itself: busybox' times, user and system of its children.
func burning(rounds int) string {
	return fmt.Sprintf(`i=0; while [ $i -lt %d ]; do i=$((i+1)); %s; done; times`, rounds, spin(5))
}

// TestAdopted leaves a job's containers to Mesos' Docker containerizer: the agent finds and resizes them, and touches nothing else.
func TestAdopted(t *testing.T) {
	s := startSite(t, node.Trixie, "--set", "control.increment=0.1")
	t.Run("marathon", func(t *testing.T) { s.as(t, s.adoptApp) })
	t.Run("chronos", func(t *testing.T) { s.as(t, s.adoptIterations) })
}

// as lets a part of a test fail in its own name.
func (s *site) as(t *testing.T, part func()) {
	outer := s.t
	s.t = t
	defer func() { s.t = outer }()
	part()
}

// mesosContainers are the names of what Mesos has made in Docker, running or not.
func (s *site) mesosContainers() []string {
	return strings.Fields(s.sh(`docker ps --all --no-trunc --filter name=^mesos- --format '{{.Names}}'`))
}

func (s *site) inspect(container, format string) string {
	return strings.TrimSpace(s.sh(fmt.Sprintf(`docker inspect --format '{{%s}}' %s`, format, container)))
}

func (s *site) adoptApp() {
	file := dockerApp("/adopted", burning(500))
	file["qos"] = map[string]any{"duration": 20, "deadline": 100, "desv_deadline": 0.1, "executions": 1, "elasticity": "inplace"}
	id := s.submit(file)
	s.until("adopted and resized", 40*time.Second, func() bool {
		found := s.mesosContainers()
		return len(found) == 1 && s.inspect(found[0], ".HostConfig.CpuQuota") != "0" && s.job(id).Consumed > 0
	})
	name := s.mesosContainers()[0]
	if got := s.inspect(name, ".HostConfig.CpuShares"); got != "512" {
		s.t.Errorf("shares %s, want the request's 512 as Mesos set them", got)
	}
	before := s.job(id)
	if want := strings.TrimPrefix(name, "mesos-"); before.Container != want || before.Account.Entries[before.Account.Live].Cgroup == "" {
		s.t.Errorf("container %q in cgroup %q, want %s", before.Container, before.Account.Entries[before.Account.Live].Cgroup, want)
	}
	pid := s.inspect(name, ".State.Pid")
	s.kill("/usr/bin/qosctl agent")
	s.ready()
	s.until("it goes on", 30*time.Second, func() bool { return s.job(id).Consumed > before.Consumed+0.2 })
	if after := s.job(id); after.Epoch != before.Epoch || s.inspect(name, ".State.Pid") != pid {
		s.t.Errorf("epoch %d, then %d: the container was touched", before.Epoch, after.Epoch)
	}
	s.until("the job is done", 2*time.Minute, func() bool { return s.job(id).Phase.Terminal() })
	j := s.job(id)
	if j.Phase != qos.PhaseCompleted || j.Outcome != qos.Met {
		s.t.Errorf("at the end: %+v\n%s", j, s.qosctl("explain", id))
	}
	used := s.ownTimes(name)
	// A container takes its counter with it: what it has used since the last sample, of a second, is not seen.
	if lost := used - j.Tally.CPU; lost > 1.1 || lost < -0.1 {
		s.t.Errorf("it has used %.2f CPU-s by its own words, accounted are %.2f", used, j.Tally.CPU)
	}
	s.t.Logf("used %.2f CPU-s by its own words, accounted %.2f, %d resizes", used, j.Tally.CPU, j.Tally.Resizes)
}

// ownTimes reads the CPU seconds that busybox' times has written last, of the shell itself.
func (s *site) ownTimes(container string) (sum float64) {
	for f := range strings.FieldsSeq(s.sh(`docker logs ` + container + ` | tail -n 2 | head -n 1`)) {
		m, rest, ok := strings.Cut(strings.TrimSuffix(f, "s"), "m")
		minutes, err := strconv.ParseFloat(m, 64)
		seconds, serr := strconv.ParseFloat(rest, 64)
		if !ok || err != nil || serr != nil {
			s.t.Fatalf("times said %q", f)
		}
		sum += 60*minutes + seconds
	}
	return sum
}

func (s *site) adoptIterations() {
	// Marathon starts its app again when it ends; the agent then deletes it, and the new task's container may still come.
	s.until("Marathon's last container has ended", time.Minute, func() bool {
		return strings.TrimSpace(s.sh(`busybox wget -qO- http://127.0.0.1:18080/v2/apps | grep -c '"apps":\[\]'; docker ps --quiet --filter name=^mesos-`)) == "1"
	})
	before := len(s.mesosContainers())
	id := s.submit(map[string]any{
		"name": "adopted-iterations", "command": burning(100), "schedule": "R3//P", "cpus": 0.5, "mem": 64,
		"container": map[string]any{"type": "DOCKER", "image": shell},
		"qos":       map[string]any{"duration": 5, "deadline": 120, "desv_deadline": 0.1, "iterations_by": "chronos"},
	})
	s.until("the job is done", 2*time.Minute, func() bool { return s.job(id).Phase.Terminal() })
	j := s.job(id)
	if j.Phase != qos.PhaseCompleted || j.Tally.Succeeded != 3 || j.Tally.Failed != 0 {
		s.t.Errorf("at the end: %+v\n%s", j, s.qosctl("explain", id))
	}
	if made := len(s.mesosContainers()) - before; made != 3 {
		s.t.Errorf("Chronos had %d containers made, want one an iteration", made)
	}
}
