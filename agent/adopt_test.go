package agent

import (
	"testing"
	"time"

	"qosctl/framework/mesos"
	"qosctl/qos"
)

// Iterations by Chronos that began and ended between two looks count, each once, those of others not at all.
func TestShortIterationsByChronosCount(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	now := time.Now()
	task := func(id, state string, label string, began, ended time.Duration) mesos.Task {
		statuses := []mesos.Status{{State: "TASK_RUNNING", At: now.Add(began)}, {State: state, At: now.Add(ended)}}
		if began == ended {
			statuses = statuses[1:]
		}
		return mesos.Task{
			ID: id, Name: "ChronosTask:s", FrameworkName: "chronos", ContainerID: "c-" + id, State: state, Completed: true, CPUs: 0.1,
			Labels: map[string]string{labelJob: label}, Statuses: statuses,
		}
	}
	j := newJob(row{Record: qos.Record{
		Spec:   qos.Spec{ID: idA, Name: "s", Framework: qos.Chronos, CPUs: 0.1, Iterations: 3, Submitted: now.Add(-time.Minute), QoS: qos.QoS{IterationsBy: qos.IterationsByChronos}},
		Status: qos.Status{Phase: qos.PhasePending},
	}})
	j.steward().Adopted = true
	tasks := []mesos.Task{
		task("third", "TASK_FINISHED", idA, -9*time.Second, -8*time.Second),
		task("first", "TASK_FINISHED", idA, -30*time.Second, -29*time.Second),
		task("second, which never ran", "TASK_FAILED", idA, -20*time.Second, -20*time.Second),
		task("of a former job by that name", "TASK_FINISHED", "", -2*time.Minute, -90*time.Second),
	}
	for range 2 {
		n.agent.adopt(j, tasks)
		if st := j.status(); st.Tally.Succeeded != 2 || st.Tally.Failed != 1 || st.Phase != qos.PhaseEnded || st.Execution.Index != 3 {
			t.Fatalf("%s, iteration %d, tally %+v", st.Phase, st.Execution.Index, st.Tally)
		}
	}
	n.agent.adopt(j, append(tasks, task("fourth", "TASK_FINISHED", idA, -2*time.Second, -time.Second), task("fifth", "TASK_FINISHED", idA, -500*time.Millisecond, 0)))
	if st := j.status(); st.Tally.Succeeded != 3 || st.Phase != qos.PhaseCompleted || j.steward().Pending != qos.ActDelete || len(j.row.Local.Tasks) != 4 {
		t.Errorf("%s, tally %+v, duty %q, %d tasks", st.Phase, st.Tally, j.steward().Pending, len(j.row.Local.Tasks))
	}
}
