package agent

import (
	"context"
	"time"

	"qosctl/container"
	"qosctl/qos"
)

// A container that ended while nobody held it, because this node's store was lost, has had CPU time that is in no account: it alone can
// tell, until it is removed.

// unheard is the entry of an ended container with what it has had, if that is more than a record of its job says. all are this node's
// containers: a counter that later ones of the execution share says nothing of this one any more.
func (a *Agent) unheard(c container.Info, all []held, r qos.Record) (i qos.Incarnation, entry qos.Entry, ok bool) {
	execution, e := ordinal(c.Labels, labelExecution), r.Status.Execution
	i = qos.Incarnation{N: ordinal(c.Labels, labelIncarnation), Node: a.node}
	if c.Exit == nil || c.Exit.Unknown || i.N == 0 || e == nil || e.Index != execution {
		return i, entry, false
	}
	counter := c.Cgroup.CPUAcct
	for k, other := range e.Account.Entries {
		if k.Node == a.node && k.N > i.N && other.Cgroup == counter {
			return i, entry, false
		}
	}
	for _, o := range all {
		later := o.Labels[labelJob] == r.Spec.ID && ordinal(o.Labels, labelExecution) == execution && ordinal(o.Labels, labelIncarnation) > i.N
		if later && o.Cgroup.CPUAcct == counter {
			return i, entry, false
		}
	}
	entry, known := e.Account.Entries[i]
	if !known && i.N > 1 {
		return i, entry, false // where its counter began is not known any more
	}
	own := c.Exit.CPU - entry.Zero
	if own <= entry.Own {
		return i, entry, false
	}
	entry.Own, entry.Node = own, a.node
	if !known {
		entry.Container, entry.StatContainer, entry.Cgroup = c.ID, c.ID, counter
	}
	return i, entry, true
}

// oweLeft owes what an ended container has had that no account has.
func (a *Agent) oweLeft(c container.Info, all []held) {
	if a.cluster == nil {
		return
	}
	r, ok := a.cluster.mesh.Get(c.Labels[labelJob])
	if !ok {
		return
	}
	if i, entry, ok := a.unheard(c, all, r); ok && (i != r.Status.Execution.Account.Live || r.Status.Owner != a.node) { // its owner's watch counts that one
		a.noteOwed(r.Spec.Name, owed{
			Job: r.Spec.ID, Execution: r.Status.Execution.Index, Since: time.Now().Round(0), Account: qos.Account{Entries: map[qos.Incarnation]qos.Entry{i: entry}},
		})
	}
}

// hearLeft takes what ended containers have had into the record of a job that this node is about to have.
func (a *Agent) hearLeft(all []held, r *qos.Record) {
	for _, c := range all {
		if c.Labels[labelJob] != r.Spec.ID {
			continue
		}
		if i, entry, ok := a.unheard(c.Info, all, *r); ok {
			e := *r.Status.Execution
			e.Account = e.Account.Merge(qos.Account{Entries: map[qos.Incarnation]qos.Entry{i: entry}})
			e.Account.Live = r.Status.Execution.Account.Live
			r.Status.Execution = &e
		}
	}
}

// listed are this node's containers; what an engine does not tell is left out.
func (a *Agent) listed(ctx context.Context) []held {
	list, err := a.engines.containers(ctx)
	if err != nil && ctx.Err() == nil {
		a.log.Warn("list containers", "err", err)
	}
	return list
}
