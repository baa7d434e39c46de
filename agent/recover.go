package agent

import (
	"context"
	"errors"
	"time"

	"qosctl/container"
	"qosctl/qos"
)

// recover takes up what the agent before this one left: running containers are held again, ended ones booked, begun ones finished.
// No quota is written: what is in force stays in force until a decision differs.
func (a *Agent) recover() {
	for _, j := range a.jobs.all() {
		j.mu.Lock()
		st, adopted := j.status(), j.row.Local.Adopted
		switch {
		case adopted:
		case st.Phase == qos.PhaseRunning && st.Execution != nil:
			a.resume(j)
		case st.Phase == qos.PhaseEnded || st.Phase == qos.PhasePending:
			a.resumeSeries(j)
		}
		j.mu.Unlock()
	}
}

// resume finds out what became of the container of a job that was running when the agent ended. The caller holds j.mu.
func (a *Agent) resume(j *job) {
	e := j.status().Execution
	id, t := j.here(), j.task(e.Task)
	var spec container.Spec
	if t != nil {
		spec = a.containerSpec(j, t)
	}
	j.busy = true
	a.spawn(func(ctx context.Context) {
		eng := a.engineOf(j)
		if eng != a.engines.docker || a.afterRecovery(ctx, j) {
			a.takeUp(ctx, j, eng, id, spec)
		}
	})
}

// takeUp holds a container of the agent before this one, or starts it if that agent ended between writing it down and doing it.
// spec is empty when nobody waits for it.
func (a *Agent) takeUp(ctx context.Context, j *job, eng engine, id string, spec container.Spec) {
	if a.takeUpRestore(ctx, j, eng, spec) {
		return
	}
	for try := 0; ctx.Err() == nil; try++ {
		info, err := eng.Inspect(ctx, id)
		switch {
		case err == nil && info.State != container.Created:
			a.hold(ctx, j, eng, id) // an ended one ends at once, by its watch
			return
		case (err == nil || errors.Is(err, container.ErrNotFound)) && spec.ID != "":
			a.launch(ctx, j, spec)
			return
		case errors.Is(err, container.ErrNotFound):
			j.mu.Lock()
			defer j.mu.Unlock()
			j.busy = false
			a.conclude(j, container.Exit{Code: container.CodeUnknown, Unknown: true, Finished: time.Now()}, "its container can't be found")
			return
		}
		a.log.Error("look at a container", "container", id, "err", err)
		pause(ctx, backoff(try))
	}
}

// resumeSeries goes on with a series whose last iteration had ended when the agent did. The caller holds j.mu.
func (a *Agent) resumeSeries(j *job) {
	t := j.openTask()
	if t == nil || j.spec().Framework != qos.Chronos || j.status().Execution == nil {
		return
	}
	id, delay := t.ID, time.Duration(0)
	if n := j.row.Local.InARow; n > 0 {
		delay = backoff(n - 1)
	}
	a.spawn(func(ctx context.Context) { a.beginAfter(ctx, j, id, delay) })
}

// readmit writes down the execution of a container that is known by its labels only. The caller holds j.mu.
func (a *Agent) readmit(j *job, c container.Info, who caller) bool {
	st, spec := j.status(), j.spec()
	if err := j.enter(qos.PhaseRunning, time.Now(), "its running container was found"); err != nil {
		return false
	}
	index := max(1, ordinal(c.Labels, labelExecution))
	st.Started = c.Started
	if spec.Framework == qos.Chronos {
		st.Started = spec.SeriesStart()
		st.Tally.Succeeded = ordinal(c.Labels, labelSucceeded)
	}
	part := max(1, ordinal(c.Labels, labelIncarnation))
	st.Epoch, st.Owner = st.Epoch+1, a.node
	st.Execution = &qos.Execution{
		Index: index, Task: c.Labels[labelTask], Started: c.Started, Deadline: spec.QoS.Deadline.From(st.Started), Allocation: c.Limits.CPUs,
	}
	st.Execution.Account.Live = part - 1
	st.Execution.Account.StartIncarnation(qos.Entry{Node: a.node, Container: c.ID, StatContainer: c.ID, Cgroup: c.Cgroup.CPUAcct})
	j.addTask(task{ID: c.Labels[labelTask], First: index, Part: part, UID: who.uid, GID: who.gid, At: c.Started})
	j.busy = true
	return true
}
