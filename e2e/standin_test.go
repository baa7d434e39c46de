package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qosctl/e2e/node"
	"qosctl/e2e/programs"
	"qosctl/qos"
)

// TestStandIn is about what stands between Mesos and a container: qosctl run, and what it hands on.
func TestStandIn(t *testing.T) {
	s := startSite(t, node.Forky)
	s.bigImage()
	for _, c := range []struct {
		name string
		part func()
	}{
		{"environment", s.environment},
		{"killed before a dump", s.killedBefore},
		{"killed in a dump", s.killedInDump},
		{"killed in a restore", s.killedInRestore},
		{"agent away", s.agentAway},
		{"three seconds", s.shortGrace},
		{"too short a grace", s.noGrace},
		{"twenty at once", s.teardown},
	} {
		t.Run(c.name, func(t *testing.T) { s.as(t, c.part) })
	}
}

const big = "big" // image with programs.Job and a shell

// bigImage imports the image of a job that touches as much memory as it is told to.
func (s *site) bigImage() {
	s.t.Helper()
	job := filepath.Join(s.t.TempDir(), "job")
	s.must(programs.BuildJob(s.t.Context(), job))
	s.must(s.n.Copy(job, "/tmp/b"+programs.Job))
	s.sh(`set -e; mkdir -p /tmp/b/bin; cp /bin/busybox /tmp/b/bin/sh; tar -C /tmp/b -c . | docker import - ` + big + `; rm -rf /tmp/b`)
}

// environment looks at what a container gets: all that Mesos' Docker containerizer would give it.
func (s *site) environment() {
	s.must(os.WriteFile(s.n.Path("/tmp/input"), []byte("fetched\n"), 0o644))
	file := dockerApp("/lab/env", "")
	delete(file, "cmd")
	file["args"] = []string{"/bin/sh", "-c", `cat /mnt/mesos/sandbox/input; echo hello >/mnt/mesos/sandbox/output
for v in HOST PORT0 MESOS_TASK_ID MESOS_SANDBOX MARATHON_APP_ID MINE; do eval "echo $v=\$$v"; done; echo "args=$0 $*"`, "zero", "one", "two words"}
	file["env"] = map[string]string{"MINE": "my own"}
	file["fetch"] = []map[string]any{{"uri": "file:///tmp/input"}}
	file["portDefinitions"] = []map[string]any{{"port": 0, "name": "web"}}
	id := s.submit(file)
	s.until("the job is done", time.Minute, func() bool { return s.job(id).Phase.Terminal() })
	out := s.qosctl("logs", id, "--stream", "stdout")
	host := strings.TrimSpace(s.sh("hostname"))
	for _, want := range []string{
		"fetched\n", "HOST=" + host + "\n", "PORT0=3", "MESOS_TASK_ID=lab_env.", "MESOS_SANDBOX=/mnt/mesos/sandbox\n", "MARATHON_APP_ID=/lab/env\n",
		"MINE=my own\n", "args=zero one two words\n",
	} {
		if !strings.Contains(out, want) {
			s.t.Errorf("%q is not in its output:\n%s", want, out)
		}
	}
	if strings.Contains(out, "QOSCTL_SECRET") {
		s.t.Error("the job sees its secret")
	}
	if left := s.sh(`cat ` + siteDir + `/devmesos/sandboxes/*/output`); left != "hello\n" {
		s.t.Errorf("in the sandbox: %q", left)
	}
}

// standIn is the shell pattern of the stand-in of a job: its pid, by the job's id in its environment.
func (s *site) killStandIn(id string) {
	s.t.Helper()
	s.sh(fmt.Sprintf(`for p in $(pgrep -f '[q]osctl run'); do
  if tr '\0' '\n' </proc/$p/environ | grep -q 'QOSCTL_JOB=%s' && [ "$(tr '\0' ' ' </proc/$p/cmdline | cut -d' ' -f2)" = run ]; then kill -9 $p && exit 0; fi
done; exit 1`, id))
}

// killedBefore: the container runs on, and the next stand-in takes it over.
func (s *site) killedBefore() {
	const n = 400
	id := s.submit(dockerApp("/before", counting(n)))
	s.running(id)
	before := s.job(id)
	s.killStandIn(id)
	s.running(id)
	s.finished(id, n)
	if j := s.job(id); j.Account != nil && len(j.Account.Entries) > 1 || j.Tally.Succeeded != 1 {
		s.t.Errorf("before %+v, after %+v: want one container", before, j)
	}
}

func (s *site) killedInDump() {
	const n = 400
	id := s.submit(dockerApp("/in-dump", counting(n)))
	s.running(id)
	dumping := s.checkpoints() + "/" + id + "/*.partial/images/*.img"
	s.stopped(id, func() bool { return s.exists(dumping) }, func() { s.killStandIn(id) })
	s.finished(id, n)
}

func (s *site) killedInRestore() {
	const n = 400
	id := s.submit(dockerApp("/in-restore", counting(n)))
	s.running(id)
	restoring := s.checkpoints() + "/.work/" + id + "-1-*/restore.json"
	s.stopped(id, func() bool { return s.exists(restoring) }, func() { s.killStandIn(id) })
	s.finished(id, n)
}

// agentAway: the agent hangs when the task is told to stop, three times, and is killed then. The stand-in waits for the next agent, and the job is
// suspended all the same.
func (s *site) agentAway() {
	id := s.submit(dockerApp("/away", counting(100000))) // it is cancelled
	s.running(id)
	standIn := s.standInOf(id)
	s.sh(`kill -STOP $(pgrep -o -f '^/usr/bin/qosctl agent')`)
	s.marathon(http.MethodPatch, "/v2/apps/away", `{"instances":0}`)
	s.sh(fmt.Sprintf("kill -TERM %[1]s; kill -TERM %[1]s", standIn))
	s.kill("/usr/bin/qosctl agent")
	s.until("suspended", time.Minute, func() bool { return s.job(id).Phase == qos.PhaseSuspended })
	if left := s.sh("docker ps --quiet --filter label=qosctl.job=" + id); left != "" {
		s.t.Errorf("its container runs on: %s", left)
	}
	at := s.lines(id)
	s.resume("away")
	s.until("it goes on where it was", time.Minute, func() bool { return s.lines(id) > at+10 })
	s.qosctl("cancel", id)
	s.until("cancelled", 30*time.Second, func() bool { return s.job(id).Phase.Terminal() })
}

// shortGrace: Chronos kills a task 3 s after it told it to stop; a gigabyte is not dumped by then. The agent goes on without the stand-in.
func (s *site) shortGrace() {
	id := s.submit(map[string]any{
		"name": "big", "command": "exec " + programs.Job + " counter -every 10ms -mib 1024", "schedule": "R1//P", "cpus": 0.5, "mem": 1300,
		"container": map[string]any{"type": "DOCKER", "image": big},
		"qos":       map[string]any{"duration": 60, "deadline": 600, "desv_deadline": 0.1},
	})
	lines := func() int {
		list, err := programs.Lines(strings.NewReader(s.qosctl("logs", id, "--stream", "stdout")))
		s.must(err)
		return len(list)
	}
	s.until("it counts", time.Minute, func() bool { return s.job(id).Phase == qos.PhaseRunning && lines() > 50 })
	before := s.job(id)
	s.request(http.MethodDelete, "http://127.0.0.1:14400/v1/scheduler/task/kill/big", "")
	s.until("its state is saved", time.Minute, func() bool { return strings.Contains(s.qosctl("checkpoints", id), "sealed") })
	s.until("it goes on", time.Minute, func() bool {
		j := s.job(id)
		return j.Phase == qos.PhaseRunning && j.Epoch > before.Epoch && j.Allocation > 0
	})
	from := lines()
	s.until("it counts on", 30*time.Second, func() bool { return lines() > from+50 })
	s.qosctl("cancel", id)
	s.until("cancelled", 30*time.Second, func() bool { return s.job(id).Phase == qos.PhaseCancelled })
}

// noGrace: Marathon gives a job with a gigabyte one second, in which it can't be dumped.
func (s *site) noGrace() {
	file := dockerApp("/no-grace", "exec "+programs.Job+" counter -every 10ms -mib 1024")
	file["mem"], file["container"] = 1300, map[string]any{"type": "DOCKER", "docker": map[string]any{"image": big}}
	file["qos"] = map[string]any{"duration": 60, "deadline": 600, "desv_deadline": 0.1, "executions": 1}
	id := s.submit(file)
	lines := func() int { // and each of them once
		list, err := programs.Lines(strings.NewReader(s.qosctl("logs", id, "--stream", "stdout")))
		s.must(err)
		return len(list)
	}
	counts := func() {
		s.t.Helper()
		from := lines()
		s.until("it counts", time.Minute, func() bool {
			j := s.job(id)
			return j.Phase == qos.PhaseRunning && j.Allocation > 0 && lines() > from+50
		})
	}
	counts()
	s.marathon(http.MethodPatch, "/v2/apps/no-grace", `{"taskKillGracePeriodSeconds":1}`) // a restart of its own, with the grace of before
	s.until("it is restarted", time.Minute, func() bool { return len(s.job(id).Account.Entries) == 2 })
	counts()
	before := s.standInOf(id)
	s.marathon(http.MethodDelete, "/v2/apps/no-grace/tasks", "")
	s.until("another stand-in is there", time.Minute, func() bool { now := s.standInOf(id); return now != "" && now != before })
	counts()
	s.qosctl("cancel", id)
	s.until("cancelled", 30*time.Second, func() bool { return s.job(id).Phase == qos.PhaseCancelled })
}

// standInOf is the pid of a job's stand-in; "": it has none.
func (s *site) standInOf(id string) string {
	return strings.TrimSpace(s.sh(fmt.Sprintf(`for p in $(pgrep -f '[q]osctl run'); do
  if tr '\0' '\n' </proc/$p/environ | grep -q 'QOSCTL_JOB=%s' && [ "$(tr '\0' ' ' </proc/$p/cmdline | cut -d' ' -f2)" = run ]; then echo $p; fi
done 2>/dev/null; true`, id)))
}

// teardown stops twenty jobs at once, and lets them go on.
func (s *site) teardown() {
	const jobs, n = 20, 100000
	var ids []string
	for i := range jobs {
		file := dockerApp(fmt.Sprintf("/many/%d", i), counting(n))
		file["cpus"], file["mem"] = 0.08, 32
		file["qos"] = map[string]any{"duration": 30, "deadline": 900, "desv_deadline": 0.1, "executions": 1}
		ids = append(ids, s.submit(file))
	}
	all := func(what string, ok func(id string) bool) {
		s.t.Helper()
		for _, id := range ids {
			s.until(what, 3*time.Minute, func() bool { return ok(id) })
		}
	}
	all("runs", func(id string) bool { return s.job(id).Phase == qos.PhaseRunning && s.lines(id) > 3 })
	for i := range jobs {
		s.marathon(http.MethodPatch, fmt.Sprintf("/v2/apps/many/%d", i), `{"instances":0}`)
	}
	all("suspended", func(id string) bool { return s.job(id).Phase == qos.PhaseSuspended })
	if left := s.sh(`docker ps --quiet`); left != "" {
		s.t.Errorf("containers run on: %s", left)
	}
	at := map[string]int{}
	for _, id := range ids {
		at[id] = s.lines(id)
	}
	for i := range jobs {
		s.marathon(http.MethodPatch, fmt.Sprintf("/v2/apps/many/%d", i), `{"instances":1}`)
	}
	all("goes on where it was", func(id string) bool { return s.lines(id) > at[id]+3 })
	for _, id := range ids {
		s.qosctl("cancel", id)
	}
	all("cancelled", func(id string) bool { return s.job(id).Phase == qos.PhaseCancelled })
}
