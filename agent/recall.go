package agent

import (
	"context"
	"fmt"
	"time"

	"qosctl/container"
	"qosctl/qos"
)

// A node whose store was lost learns from the table what it owns. What runs of it runs on: it is found by its labels, and held again.

// forgotten says whether the table has a job as this node's that this node does not know: then nobody else looks after it.
func (a *Agent) forgotten(r qos.Record) bool {
	over := r.Status.Phase.Terminal() && r.Status.Steward.Pending == qos.ActNone
	return r.Status.Owner == a.node && a.jobs.get(r.Spec.ID) == nil && !over
}

// recall makes a job this node's again, at the next epoch. A container of it that runs is held; without one its run counts as lost.
func (a *Agent) recall(ctx context.Context, h handover, why string) (*job, error) {
	if h.Record.Status.Steward.Adopted { // Mesos holds its container: the next look at what Mesos runs here finds it, or books its end
		return a.take(ctx, h, why)
	}
	list, err := a.engines.containers(ctx)
	if err != nil {
		return nil, refuse(codeConflict, "what runs here is not known yet: %s; ask again", err)
	}
	id, st := h.Record.Spec.ID, &h.Record.Status
	for _, c := range list {
		if c.Labels[labelJob] != id || st.Phase.Terminal() {
			continue
		}
		if c.State == container.Running || a.endedWell(*st, c.Info) {
			return a.takeBack(c.ID, func() (*job, error) { return a.recallRunning(ctx, h, c, why) })
		}
	}
	if a.engines.keeper != nil && !isClosed(a.recovered) && a.engines.of(&h.Record.Spec, a.cfg.Engine.Images) == a.engines.docker {
		return nil, refuse(codeConflict, "what became of this node's checkpoints is being found out; ask again")
	}
	a.hearLeft(list, &h.Record)
	a.hearSaved(ctx, &h.Record)
	return a.take(ctx, h, why)
}

// endedWell says whether a container is the present one of a job that runs, and did its work while nobody looked.
func (a *Agent) endedWell(st qos.Status, c container.Info) bool {
	e := st.Execution
	return st.Phase == qos.PhaseRunning && e != nil && e.Account.Live.Node == a.node && e.Account.Entries[e.Account.Live].Container == c.ID &&
		c.Exit != nil && c.Exit.Code == 0 && !c.Exit.Unknown
}

// recallRunning makes a job this node's again whose container runs here, or ended well: its watch says so.
func (a *Agent) recallRunning(ctx context.Context, h handover, c held, why string) (*job, error) {
	r := h.Record
	epoch, err := a.claimNext(ctx, r)
	if err != nil {
		return nil, err
	}
	j := newJob(row{Record: r, Local: h.Local})
	j.mu.Lock()
	defer j.mu.Unlock()
	st, now := j.status(), time.Now()
	index, part := ordinal(c.Labels, labelExecution), ordinal(c.Labels, labelIncarnation)
	i := qos.Incarnation{N: part, Node: a.node}
	if e := st.Execution; e == nil || e.Index != index || e.Account.Entries[i].Container != c.ID {
		if st.Phase == qos.PhaseRunning { // the table is older than what runs
			st.Phase = qos.PhaseLost
		}
		if !a.readmit(j, c.Info, caller{}) {
			return nil, refuse(codeConflict, "container %s runs, and the job is %s; ask again", c.ID, st.Phase)
		}
	} else {
		if err := j.enter(qos.PhaseRunning, now, "its running container was found"); err != nil {
			return nil, err
		}
		e.Allocation = c.Limits.CPUs
		readmitted(&e.Account, i, c.Info) // it may have been written down before what it was restored from was
		t := task{ID: c.Labels[labelTask], First: index, Part: part, At: c.Started}
		if e.Task != "" {
			t.ID = e.Task // another may have taken it over
		}
		e.Task = t.ID
		j.addTask(t)
		j.busy = true
	}
	st.Epoch, st.Seq, st.Owner = epoch, 0, a.node
	j.note(now, "owner", "this node had forgotten it; container %s of it is %s: %s", c.ID, c.State, why)
	held, fresh := a.jobs.add(j)
	if !fresh {
		return held, nil
	}
	if err := a.save(j); err != nil {
		j.gone = true
		a.jobs.remove(r.Spec.ID)
		return nil, err
	}
	a.spawn(func(ctx context.Context) { a.hold(ctx, j, c.engine, c.ID) })
	a.log.Warn("job recalled: the store had lost it", "job", r.Spec.Name, "id", r.Spec.ID, "container", c.ID, "epoch", st.Epoch)
	return j, nil
}

// recallForgotten looks after what the table has as this node's and this node has forgotten.
func (a *Agent) recallForgotten(r qos.Record, now time.Time) {
	id := r.Spec.ID
	if ended := r.Status.Ended; !a.forgotten(r) && a.jobs.get(id) == nil && !ended.IsZero() && now.Sub(ended) > keepEnded {
		a.unshare(id)
	}
	if !a.forgotten(r) || !a.cluster.turn(id) {
		return
	}
	a.spawn(func(ctx context.Context) {
		defer a.cluster.turned(id)
		now, ok := a.findRow(ctx, id)
		if !ok || !a.forgotten(now) {
			return
		}
		if _, err := a.recall(ctx, handover{Record: a.askReplicas(ctx, now)}, "the table says that it is this node's"); err != nil && ctx.Err() == nil {
			a.log.Warn("recall a job", "job", r.Spec.Name, "err", fmt.Sprint(err)) // looked at again
		}
		a.stewardSoon()
	})
}
