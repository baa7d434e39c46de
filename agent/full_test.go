package agent

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/framework/mesos"
	"qosctl/qos"
)

// fillUp gives an account as many entries as it may have, with a millisecond each.
func fillUp(a *qos.Account) {
	for !a.Full() {
		a.Entries[qos.Incarnation{N: 1, Node: fmt.Sprint("other", len(a.Entries))}] = qos.Entry{Own: time.Millisecond}
	}
}

// TestARunThatWasRestoredTooOftenFails: its account can't have an entry more, so it fails with a reason, and the next run begins anew.
func TestARunThatWasRestoredTooOftenFails(t *testing.T) {
	t.Parallel()
	k := &fakeKeeper{}
	n := testDocker(t, k, nil)
	n.submit(idA, dockerJob(`echo begun; exec sleep 1000`))
	s, _ := n.claim(idA, "t1")
	n.await(idA, "running", func(j api.Job) bool { return j.Progress > 0 })
	stop(t, s, "t1")
	_, _, _ = n.read(s, "t1")
	n.await(idA, "waiting for its next task", func(j api.Job) bool { return j.Phase == qos.PhaseSuspended || j.Phase == qos.PhasePending })
	j := n.agent.jobs.get(idA)
	j.mu.Lock()
	fillUp(&j.status().Execution.Account)
	j.mu.Unlock()

	s2, _ := n.claim(idA, "t2")
	if _, _, code := n.read(s2, "t2"); code != exitNotStarted {
		t.Errorf("the task that it was to be restored for ends with code %d", code)
	}
	v := n.await(idA, "booked", func(j api.Job) bool { return len(j.Runs) == 1 && j.Phase != qos.PhaseRunning })
	if r := v.Runs[0]; r.Outcome != qos.Failed || len(r.Spent) != qos.MaxIncarnations || r.Lost() < 0.999 || v.Tally.CPU != r.CPU {
		t.Errorf("booked as %s with %d shares, %.3f s of CPU time, of which %.3f s are lost; in all %.3f s", r.Outcome, len(r.Spent), r.CPU, r.Lost(), v.Tally.CPU)
	}
	why := fmt.Sprintf("run 1 has had %d containers, and does not go on in another", qos.MaxIncarnations)
	j.mu.Lock()
	told := slices.ContainsFunc(j.row.Local.Events, func(e event) bool { return e.Kind == "fault" && strings.Contains(e.Text, why) })
	j.mu.Unlock()
	if !told || len(k.restored) != 0 {
		t.Errorf("told: %t; restored: %v", told, k.restored)
	}

	n.claim(idA, "t3")
	v = n.await(idA, "running anew", func(j api.Job) bool { return j.Phase == qos.PhaseRunning && j.Progress > 0 })
	if len(v.Account.Entries) != 1 || len(k.restored) != 0 {
		t.Errorf("%d incarnations, restored %v", len(v.Account.Entries), k.restored)
	}
}

// TestALaunchersExecutionThatIsFullEnds: what its next task runs is another execution.
func TestALaunchersExecutionThatIsFullEnds(t *testing.T) {
	t.Parallel()
	n, _ := oldNode(t)
	j := launchedJob(launchedMarathon, qos.Marathon)
	j.tasks = []string{"one", "two"}
	tasks := []mesos.Task{pastTask("one", "marathon", "TASK_KILLED", 50, 45)}
	n.agent.adopt(j, tasks)
	st := j.status()
	if st.Phase != qos.PhasePending || !j.row.Local.Heard.Broken {
		t.Fatalf("after a stop: %s, %+v", st.Phase, j.row.Local.Heard)
	}
	fillUp(&st.Execution.Account)
	n.agent.adopt(j, append(tasks, pastTask("two", "marathon", "TASK_FINISHED", 44, 40)))
	if len(st.Runs) != 2 {
		t.Fatalf("after its end: %s, %d runs", st.Phase, len(st.Runs))
	}
	if r := st.Runs[0]; r.Outcome != qos.Failed || !strings.Contains(r.Reason, "can't hold more") || st.Runs[1].Outcome != qos.Met {
		t.Errorf("it has %s (%s), the next %s", r.Outcome, r.Reason, st.Runs[1].Outcome)
	}
	if len(st.Execution.Account.Entries) != 1 || st.Execution.Index != 2 {
		t.Errorf("%d incarnations of execution %d", len(st.Execution.Account.Entries), st.Execution.Index)
	}
}
