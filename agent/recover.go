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
		st, adopted := j.status(), j.steward().Adopted
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
	was := st.Execution
	st.Execution = &qos.Execution{
		Index: index, Task: c.Labels[labelTask], Started: c.Started, Deadline: spec.QoS.Deadline.From(st.Started), Allocation: c.Limits.CPUs,
	}
	if was != nil && was.Index == index {
		st.Execution.Account = was.Account.Clone()
	}
	readmitted(&st.Execution.Account, qos.Incarnation{N: part, Node: a.node}, c)
	j.addTask(task{ID: c.Labels[labelTask], First: index, Part: part, UID: who.uid, GID: who.gid, At: c.Started})
	j.busy = true
	return true
}

// readmitted makes a container the live incarnation of an account that may not know it: what it was restored from is in its labels, and
// where the counter began that it may share with earlier ones follows from theirs.
func readmitted(account *qos.Account, i qos.Incarnation, c container.Info) {
	entry, known := account.Entries[i]
	if !known {
		for k, earlier := range account.Entries {
			if k.Node == i.Node && k.N < i.N && earlier.Cgroup == c.Cgroup.CPUAcct {
				entry.Zero = max(entry.Zero, earlier.Zero+earlier.Own)
			}
		}
	}
	if base, err := time.ParseDuration(c.Labels[labelBase]); err == nil {
		entry.Base = max(entry.Base, base)
	}
	entry.Node, entry.Container, entry.StatContainer, entry.Cgroup = i.Node, c.ID, c.ID, c.Cgroup.CPUAcct
	if account.Entries == nil {
		account.Entries = map[qos.Incarnation]qos.Entry{}
	}
	account.Entries[i], account.Live = entry, i
}
