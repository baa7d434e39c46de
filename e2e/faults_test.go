package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/qos"
)

func marathonJob(name string) map[string]any {
	return map[string]any{
		"id": name, "cmd": "echo hello", "cpus": 0.2, "mem": 32,
		"qos": map[string]any{"duration": 1, "desv_deadline": 0.1, "deadline": 60, "executions": 1},
	}
}

// TestFrameworkFaults hands jobs to frameworks that misbehave: one clear error, and nothing left behind.
func TestFrameworkFaults(t *testing.T) {
	c := start(t)
	chronosJob := map[string]any{
		"name": "faulty", "command": "echo hello", "schedule": "R2//P", "cpus": 0.2, "mem": 32,
		"qos": map[string]any{"duration": 1, "desv_deadline": 0.1, "deadline": 60},
	}
	for _, k := range []struct{ target, kind, says string }{
		{"marathon", "500", "500"},
		{"marathon", "503", "503"},
		{"marathon", "401", "credentials"},
		{"marathon", "409", "409"},
		{"marathon", "422", "/cpus: fault 422"},
		{"marathon", "html", "HTML"},
		{"marathon", "drop", "marathon"},
		{"chronos", "500", "500"},
		{"chronos", "401", "credentials"},
		{"chronos", "409", "409"},
		{"chronos", "422", "422"},
		{"chronos", "html", "HTML"},
	} {
		t.Run(k.target+" "+k.kind, func(t *testing.T) {
			c.fault(map[string]any{"target": k.target, "kind": k.kind})
			defer c.clearFaults()
			file := marathonJob("/faulty")
			if k.target == "chronos" {
				file = chronosJob
			}
			code, out, errs := c.qosctl("submit", write(t, file))
			if code != 9 || !strings.Contains(errs, k.says) || strings.Count(errs, "qosctl: ") != 1 {
				t.Errorf("exit %d, stdout %q, stderr %q: want 9 and one error with %q", code, out, errs, k.says)
			}
			c.clearFaults()
			c.until("nothing is left", 20*time.Second, func() bool {
				jobs, err := c.api.Jobs(t.Context(), false)
				return err == nil && len(jobs) == 0
			})
		})
	}
}

// TestLostAnswer cuts the connection after the framework has carried the request out: the job runs, once.
func TestLostAnswer(t *testing.T) {
	c := start(t)
	c.fault(map[string]any{"target": "marathon", "kind": "lost", "method": "POST", "path": "/v2/apps", "count": 1})
	id := c.submit(write(t, marathonJob("/lost-answer")))
	if code, _, errs := c.qosctl("wait", "--timeout", "60s", id); code != 0 {
		t.Errorf("wait: exit %d: %s", code, errs)
	}
	if j := c.job(id); j.Tally.Succeeded != 1 || j.Epoch != 1 {
		t.Errorf("at the end: %+v", j)
	}
}

// TestFrameworkAway takes both frameworks away while jobs run: they run on, and are brought to their end when the frameworks are back.
func TestFrameworkAway(t *testing.T) {
	c := start(t)
	file := marathonJob("/away")
	file["cmd"] = "while [ ! -e /tmp/qosctl-e2e-go ]; do sleep 0.05; done"
	gate := "/tmp/qosctl-e2e-go"
	t.Cleanup(func() { _ = os.Remove(gate) }) // may be gone already
	id := c.submit(write(t, file))
	c.until("running", 20*time.Second, func() bool { return c.job(id).Phase == qos.PhaseRunning })
	c.fault(map[string]any{"target": "marathon", "kind": "503"})
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.until("completed", 20*time.Second, func() bool { return c.job(id).Phase == qos.PhaseCompleted })
	c.clearFaults()
	c.until("deleted", 40*time.Second, func() bool {
		x, err := c.api.Explain(t.Context(), id)
		return err == nil && len(x.Events) > 0 && strings.Contains(x.Events[len(x.Events)-1].Text, "removed from marathon")
	})
}

// TestDeletedByOthers deletes and scales apps behind our back: what others change there wins.
func TestDeletedByOthers(t *testing.T) {
	c := start(t)
	file := marathonJob("/theirs")
	file["cmd"] = "sleep 1000"
	id := c.submit(write(t, file))
	c.until("running", 20*time.Second, func() bool { return c.job(id).Phase == qos.PhaseRunning })
	call(t, "PATCH", "http://"+c.marathon+"/v2/apps/theirs", `{"instances":0}`)
	c.until("suspended", 40*time.Second, func() bool { return c.job(id).Phase == qos.PhaseSuspended })
	call(t, "PATCH", "http://"+c.marathon+"/v2/apps/theirs", `{"instances":1}`)
	c.until("running again", 40*time.Second, func() bool { j := c.job(id); return j.Phase == qos.PhaseRunning && j.Index == 2 })
	call(t, "DELETE", "http://"+c.marathon+"/v2/apps/theirs", "")
	c.until("cancelled", 40*time.Second, func() bool { return c.job(id).Phase == qos.PhaseCancelled })
}

// TestReplace submits a job under a name that is taken.
func TestReplace(t *testing.T) {
	c := start(t)
	file := marathonJob("/name")
	file["cmd"] = "sleep 1000"
	path := write(t, file)
	old := c.submit(path)
	c.until("running", 20*time.Second, func() bool { return c.job(old).Phase == qos.PhaseRunning })
	if code, _, errs := c.qosctl("submit", path); code != 8 || !strings.Contains(errs, "hint: ") {
		t.Errorf("second submit: exit %d: %s", code, errs)
	}
	id := c.submit(path, "--replace")
	c.until("running", 40*time.Second, func() bool { return c.job(id).Phase == qos.PhaseRunning })
	if j := c.job(old); j.Phase != qos.PhaseCancelled {
		t.Errorf("the replaced job is %s", j.Phase)
	}
}

// TestIterationsByChronos lets Chronos launch each iteration in Mesos' own container, which the agent only observes and resizes.
func TestIterationsByChronos(t *testing.T) {
	c := start(t)
	id := c.submit(write(t, map[string]any{
		"name": "theirs", "command": "timeout 3 sh -c 'while :; do :; done'; exit 0", "schedule": "R2//P", "cpus": 0.3, "mem": 32,
		"qos": map[string]any{"duration": 1, "desv_deadline": 0.1, "deadline": 120, "iterations_by": "chronos"},
	}))
	if code, _, errs := c.qosctl("wait", "--timeout", "90s", id); code != 0 {
		x, _ := c.api.Explain(t.Context(), id)
		t.Fatalf("wait: exit %d: %s\n%+v", code, errs, x.Events)
	}
	j := c.job(id)
	if j.Tally.Succeeded != 2 || len(j.Runs) != 2 || j.Tally.CPU <= 0 {
		t.Errorf("at the end: %+v", j)
	}
}

// TestAttach gives QoS to an app that somebody else submitted, and takes it away again.
func TestAttach(t *testing.T) {
	c := start(t)
	call(t, "POST", "http://"+c.marathon+"/v2/apps", `{"id":"/wild","cmd":"while :; do :; done","cpus":0.4,"mem":32}`)
	c.until("attached", 20*time.Second, func() bool {
		code, _, _ := c.qosctl("attach", "/wild", "--duration", "100", "--deadline", "150", "--deviation", "0.1")
		return code == 0
	})
	var id string
	c.until("adopted", 20*time.Second, func() bool {
		jobs, err := c.api.Jobs(t.Context(), false)
		if err != nil || len(jobs) != 1 {
			return false
		}
		id = jobs[0].ID
		return jobs[0].Phase == qos.PhaseRunning && jobs[0].Progress > 0.1 && jobs[0].Allocation > 0.4
	})
	if code, _, errs := c.qosctl("cancel", id); code == 0 {
		t.Errorf("an attached app was cancelled: %s", errs)
	}
	if code, _, errs := c.qosctl("detach", "/wild"); code != 0 {
		t.Errorf("detach: exit %d: %s", code, errs)
	}
	if _, err := c.api.Job(t.Context(), id); err == nil {
		t.Error("the job is still there")
	}
	call(t, "DELETE", "http://"+c.marathon+"/v2/apps/wild", "")
}

// TestDamagedStore destroys the store under a job that runs and kills the agent: the next agent says so, and takes the job up again.
func TestDamagedStore(t *testing.T) {
	c := start(t)
	file := marathonJob("/kept")
	file["cmd"] = "while :; do :; done"
	id := c.submit(write(t, file))
	var before api.Job
	c.until("running", 20*time.Second, func() bool { before = c.job(id); return before.Progress > 0.2 })
	kill := c.agent()
	if err := os.WriteFile(filepath.Join(c.dir, "data", "agent.db"), []byte("this is no store"), 0o600); err != nil {
		t.Fatal(err)
	}
	kill()
	c.until("taken up again", 40*time.Second, func() bool {
		j, err := c.api.Job(t.Context(), id)
		return err == nil && j.Phase == qos.PhaseRunning && j.Progress >= before.Progress && j.Index == 1
	})
	if kept, _ := filepath.Glob(filepath.Join(c.dir, "data", "agent.db.corrupt-*")); len(kept) == 0 {
		t.Error("the damaged store was not kept")
	}
}
