package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/qos"
)

const (
	idA = "0000000a-0000-4000-8000-00000000000a"
	idB = "0000000b-0000-4000-8000-00000000000b"
)

func TestMarathonJobRunsAndIsDeletedWhenItsExecutionsAreDone(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	j := n.submit(idA, `{"id":"/a/b","cmd":"echo $GREETING $QOSCTL_SECRET; echo oops >&2","cpus":0.5,"mem":32,"qos":{"duration":1,"desv_deadline":0.1,"deadline":60,"executions":2}}`)
	if j.Phase != qos.PhasePending || !n.port.has("/a/b") {
		t.Fatalf("after submit: %+v", j)
	}
	for _, task := range []string{"t1", "t2"} {
		s, resp := n.claim(idA, task)
		if resp.Verdict != verdictRun {
			t.Fatalf("claim of %s: %+v", task, resp)
		}
		out, errs, code := n.read(s, task)
		if out != "hello\n" || errs != "oops\n" || code != 0 {
			t.Errorf("task %s: stdout %q, stderr %q, code %d", task, out, errs, code)
		}
	}
	v := n.await(idA, "completed", inPhase(qos.PhaseCompleted))
	if v.Outcome != qos.Met || v.Tally.Succeeded != 2 || v.Tally.Met != 2 || len(v.Runs) != 2 || v.Epoch != 2 {
		t.Errorf("at the end: %+v", v)
	}
	n.await(idA, "deleted", func(api.Job) bool { return !n.port.has("/a/b") })
	n.port.mu.Lock()
	n.port.jobs["/a/b"] = idA // it was not gone after all: a claim says so
	n.port.mu.Unlock()
	if _, resp := n.claim(idA, "t3"); resp.Verdict != verdictIdle {
		t.Errorf("claim of a completed job: %+v", resp)
	}
	n.await(idA, "deleted again", func(api.Job) bool { return !n.port.has("/a/b") })
	if _, resp := n.claim(idA, "t1"); resp.Verdict != verdictDone || resp.Code != 0 {
		t.Errorf("second claim of a task that ended: %+v", resp)
	}
}

func TestChronosSeriesRunsBackToBack(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, `{"name":"series","command":"echo run","schedule":"R3//PT1M","cpus":0.5,"mem":32,"qos":{"duration":1,"desv_deadline":0.2,"deadline":60}}`)
	n.await(idA, "asked to start", func(api.Job) bool { n.port.mu.Lock(); defer n.port.mu.Unlock(); return n.port.starts > 0 })
	s, _ := n.claim(idA, "ct:1:0:series:")
	out, _, code := n.read(s, "ct:1:0:series:")
	if out != "run\nrun\nrun\n" || code != 0 {
		t.Errorf("stdout %q, code %d", out, code)
	}
	v := n.await(idA, "completed", inPhase(qos.PhaseCompleted))
	if v.Tally.Succeeded != 3 || v.Tally.Met != 1 || v.Outcome != qos.Met {
		t.Errorf("at the end: %+v", v)
	}
}

func TestExitCodeIsTheTasks(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, `{"id":"/fails","cmd":"exit 7","cpus":0.5,"mem":32,"qos":{"duration":1,"desv_deadline":0.1,"deadline":60,"max_failures":1}}`)
	s, _ := n.claim(idA, "t1")
	if _, _, code := n.read(s, "t1"); code != 7 {
		t.Errorf("code %d", code)
	}
	v := n.await(idA, "failed", inPhase(qos.PhaseFailed))
	if v.Outcome != qos.Failed || v.Tally.Failed != 1 || v.Tally.Missed != 1 {
		t.Errorf("at the end: %+v", v)
	}
}

func TestCancelStopsTheContainerAndTheApp(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, `{"id":"/long","cmd":"sleep 1000","cpus":0.5,"mem":32,"qos":{"duration":100,"desv_deadline":0.1,"deadline":600}}`)
	s, _ := n.claim(idA, "t1")
	n.await(idA, "running", func(j api.Job) bool { return j.Allocation > 0 })
	if _, err := n.client().Cancel(t.Context(), idA); err != nil {
		t.Fatal(err)
	}
	n.read(s, "t1")
	n.await(idA, "cancelled", inPhase(qos.PhaseCancelled))
	n.await(idA, "deleted", func(api.Job) bool { return !n.port.has("/long") })
}

func TestRestartedAgentTakesUpWhatRuns(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, `{"id":"/burn","cmd":"while [ ! -e stop ]; do :; done; echo end","cpus":0.3,"mem":32,"qos":{"duration":100,"desv_deadline":0.1,"deadline":600,"executions":1}}`)
	n.claim(idA, "t1")
	before := n.await(idA, "burning", func(j api.Job) bool { return j.Consumed > 0.2 })
	resizes := n.agent.jobs.get(idA).status().Execution.Clock.Resizes
	n.end()
	n.begin()
	s, resp := n.claim(idA, "t1")
	if resp.Verdict != verdictRun {
		t.Fatalf("claim after the restart: %+v", resp)
	}
	after := n.await(idA, "burning on", func(j api.Job) bool { return j.Consumed > before.Consumed+0.1 })
	if after.Epoch != before.Epoch || after.Index != before.Index || after.Allocation != before.Allocation {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	if got := n.agent.jobs.get(idA).status().Execution.Clock.Resizes; got != resizes {
		t.Errorf("resizes: %d before, %d after", resizes, got)
	}
	if err := s.Stop(t.Context(), api.Stop{Task: "t1", Signal: 15}); err != nil {
		t.Fatal(err)
	}
	if _, _, code := n.read(s, "t1"); code == 0 {
		t.Error("a stopped task exited 0")
	}
	v := n.await(idA, "lost", inPhase(qos.PhaseLost))
	if v.Tally.CPU < after.Consumed || !strings.Contains(v.Reason, "told to stop") {
		t.Errorf("at the end: %+v", v)
	}
}

func TestContainerWithoutStandInIsStopped(t *testing.T) {
	t.Parallel()
	n := testNode(t, func(c *Config) { c.Run.DetachGrace = 300 * time.Millisecond })
	n.submit(idA, `{"id":"/orphan","cmd":"sleep 1000","cpus":0.3,"mem":32,"qos":{"duration":100,"desv_deadline":0.1,"deadline":600}}`)
	n.claim(idA, "t1") // and never reads
	v := n.await(idA, "lost", inPhase(qos.PhaseLost))
	if !strings.Contains(v.Reason, "stand-in has been gone") {
		t.Errorf("reason %q", v.Reason)
	}
}

func TestLostStoreIsRebuiltFromWhatRuns(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, `{"id":"/kept","cmd":"while [ ! -e stop ]; do :; done","cpus":0.3,"mem":32,"qos":{"duration":100,"desv_deadline":0.1,"deadline":600}}`)
	s, _ := n.claim(idA, "t1")
	before := n.await(idA, "burning", func(j api.Job) bool { return j.Consumed > 0.1 })
	spec := *n.agent.jobs.get(idA).spec()
	n.end()
	if err := os.WriteFile(filepath.Join(n.cfg.DataDir, "agent.db"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.begin()
	if _, err := s.Output(t.Context(), "t1", ""); err == nil {
		t.Error("an agent without a store let a stand-in in that did not claim")
	}
	spec.Source = []byte("null")
	carried, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	other, err := api.NewStandin(idA, api.Options{Address: filepath.Join(n.cfg.RunDir, standinSocket), Token: "somebody-elses-secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if resp, err := other.Claim(t.Context(), api.Claim{Task: "t1", Spec: carried}); err == nil || !strings.Contains(err.Error(), "with that secret") || n.agent.jobs.get(idA) != nil {
		t.Errorf("who does not have the secret that the framework gave to the job's tasks took it over: %+v, %v", resp, err)
	}
	resp, err := s.Claim(t.Context(), api.Claim{Task: "t1", Spec: carried})
	if err != nil || resp.Verdict != verdictRun {
		t.Fatalf("claim: %+v, %v", resp, err)
	}
	v := n.await(idA, "running again", func(j api.Job) bool { return j.Consumed > before.Consumed })
	if v.Index != 1 || v.Container == "" || v.Allocation != before.Allocation {
		t.Errorf("taken over: %+v", v)
	}
}
