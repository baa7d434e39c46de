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
func (a *Agent) recover(ctx context.Context) {
	for _, j := range a.jobs.all() {
		j.mu.Lock()
		st := *j.status()
		j.mu.Unlock()
		switch {
		case j.row.Local.Adopted:
		case st.Phase == qos.PhaseRunning && st.Execution != nil:
			a.resume(ctx, j)
		case st.Phase == qos.PhaseEnded && j.spec().Framework == qos.Chronos:
			a.resumeSeries(j)
		}
	}
	a.sweepContainers(ctx)
}

// resume finds out what became of the container of a job that was running when the agent ended.
func (a *Agent) resume(ctx context.Context, j *job) {
	j.mu.Lock()
	e := j.status().Execution
	id := containerID(j.spec().ID, e.Index)
	t := j.task(e.Task)
	var spec container.Spec
	if t != nil {
		spec = a.containerSpec(j, t)
	}
	j.busy = true
	j.mu.Unlock()
	info, err := a.engine.Inspect(ctx, id)
	switch {
	case err == nil && info.State != container.Created:
		a.hold(ctx, j, a.engine, id) // an exited one ends at once, by its watch
	case t != nil && (err == nil || errors.Is(err, container.ErrNotFound)):
		a.spawn(func(ctx context.Context) { a.launch(ctx, j, spec) }) // the agent ended between writing it down and doing it
	default:
		j.mu.Lock()
		j.busy = false
		a.conclude(j, container.Exit{Code: 255, Unknown: true, Finished: time.Now()}, "its container can't be found")
		j.mu.Unlock()
	}
}

// resumeSeries goes on with a series whose last iteration had ended when the agent did.
func (a *Agent) resumeSeries(j *job) {
	j.mu.Lock()
	defer j.mu.Unlock()
	t := j.openTask()
	if t == nil || j.row.Local.Adopted {
		return
	}
	id, delay := t.ID, time.Duration(0)
	if n := j.row.Local.InARow; n > 0 {
		delay = backoff(n - 1)
	}
	a.spawn(func(ctx context.Context) { a.beginAfter(ctx, j, id, delay) })
}

// sweepContainers removes containers that nobody can want any more. One of a job that the store does not know runs on:
// its stand-in brings the job's spec when it asks for it, and gets it back (reclaim).
func (a *Agent) sweepContainers(ctx context.Context) {
	list, err := a.engine.List(ctx)
	if err != nil {
		a.log.Error("list containers", "err", err)
		return
	}
	for _, c := range list {
		j := a.jobs.get(c.Labels[labelJob])
		if j == nil {
			if c.State == container.Running {
				a.log.Warn("a container of a job that the store does not know runs; its stand-in will bring the job", "container", c.ID)
				continue
			}
			a.drop(ctx, c.ID)
			continue
		}
		j.mu.Lock()
		e := j.status().Execution
		old := e != nil && ordinal(c.Labels, labelExecution) <= e.Index-keepContainers
		j.mu.Unlock()
		if old && c.State != container.Running {
			a.drop(ctx, c.ID)
		}
	}
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
		st.Tally.Succeeded = index - 1 // as far as the labels tell
	}
	st.Epoch, st.Owner = st.Epoch+1, a.node
	st.Execution = &qos.Execution{
		Index: index, Task: c.Labels[labelTask], Started: c.Started, Deadline: spec.QoS.Deadline.From(st.Started), Allocation: c.Limits.CPUs,
	}
	st.Execution.Account.StartIncarnation(qos.Entry{Node: a.node, Container: c.ID, StatContainer: c.ID, Cgroup: c.Cgroup.CPUAcct})
	j.addTask(task{ID: c.Labels[labelTask], First: index, UID: who.uid, GID: who.gid, At: c.Started})
	j.busy = true
	return true
}
