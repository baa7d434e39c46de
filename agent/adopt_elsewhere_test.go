package agent

import (
	"slices"
	"testing"
	"time"

	"qosctl/agent/thesis"
	"qosctl/framework/mesos"
	"qosctl/qos"
)

// An adopted job goes to the node that Mesos runs its task on, and what is told of it at another node reaches that one.
func TestAnAdoptedJobIsClaimedWhereMesosRunsIt(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2, nil)
	a, b := c.nodes[0].agent, c.nodes[1].agent
	spec := launchedJob(launchedChronos, qos.Chronos).row.Record.Spec
	c.port.mu.Lock()
	c.port.jobs[spec.Name] = spec.ID
	c.port.mu.Unlock()
	if err := a.takeLaunched(spec, sight{ID: spec.ID, CPUs: 0.1}); err != nil {
		t.Fatal(err)
	}
	c.until("the other node knows it", func() bool { _, ok := c.nodes[1].shared(spec.ID); return ok })
	task := mesos.Task{ID: "t", Name: "ChronosTask:s", FrameworkName: "chronos", ContainerID: "c", State: "TASK_RUNNING", CPUs: 0.1}
	others := []mesos.Task{{ID: "u", Name: "ChronosTask:other", FrameworkName: "chronos", State: "TASK_RUNNING"}, {ID: "v", Name: "s", FrameworkName: "marathon", State: "TASK_RUNNING"}}
	b.claimAdopted(others)
	if b.jobs.get(spec.ID) != nil {
		t.Fatal("claimed for a task that is another's")
	}
	c.until("claimed", func() bool {
		b.claimAdopted(append(slices.Clone(others), task))
		return b.jobs.get(spec.ID) != nil && a.jobs.get(spec.ID) == nil
	})
	body := `{"uuid":"` + thesis.Plain(spec.ID) + `","started_at":"1497570612","finished_at":1497570924,"hostname":"n1"}`
	if err := a.updateTask(t.Context(), []byte(body)); err != nil {
		t.Fatal(err)
	}
	j := b.jobs.get(spec.ID)
	j.mu.Lock()
	defer j.mu.Unlock()
	if u := j.row.Local.Heard.Update; u.Host != "n1" || u.Finished.Sub(u.Started) != 312*time.Second {
		t.Errorf("it has heard %+v", u)
	}
}

func TestTasksAreKnownByLabelOrName(t *testing.T) {
	t.Parallel()
	app := qos.Spec{ID: idA, Name: "/lab/maths/job", Framework: qos.Marathon}
	for _, tt := range []struct {
		task mesos.Task
		want bool
	}{
		{mesos.Task{FrameworkName: "marathon", Name: "job.maths.lab"}, true},
		{mesos.Task{FrameworkName: "marathon", Name: "job.maths"}, false},
		{mesos.Task{FrameworkName: "chronos", Name: "job.maths.lab"}, false},
		{mesos.Task{FrameworkName: "marathon", Name: "x", Labels: map[string]string{labelJob: idA}}, true},
		{mesos.Task{FrameworkName: "marathon", Name: "job.maths.lab", Labels: map[string]string{labelJob: "another"}}, false},
	} {
		if got := runsJob(app, tt.task); got != tt.want {
			t.Errorf("%+v: %t", tt.task, got)
		}
	}
}

// An adopted job whose node has lost its store is that node's again: nobody else looks after it.
func TestAnAdoptedJobThatItsNodeHasForgotten(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2, nil)
	a := c.nodes[0].agent
	spec := launchedJob(launchedChronos, qos.Chronos).row.Record.Spec
	c.port.mu.Lock()
	c.port.jobs[spec.Name] = spec.ID
	c.port.mu.Unlock()
	if err := a.takeLaunched(spec, sight{ID: spec.ID, CPUs: 0.1}); err != nil {
		t.Fatal(err)
	}
	c.until("the other node knows it", func() bool { _, ok := c.nodes[1].shared(spec.ID); return ok })
	j := a.jobs.get(spec.ID)
	j.mu.Lock()
	j.gone = true
	before := j.status().Epoch
	j.mu.Unlock()
	a.jobs.remove(spec.ID)
	if err := a.store.drop(spec.ID); err != nil {
		t.Fatal(err)
	}
	c.until("its node has it again", func() bool { return a.jobs.get(spec.ID) != nil })
	j = a.jobs.get(spec.ID)
	j.mu.Lock()
	defer j.mu.Unlock()
	if st := j.status(); !j.steward().Adopted || st.Owner != "n0" || st.Epoch != before+1 || st.Phase != qos.PhasePending {
		t.Errorf("%+v", st)
	}
}
