package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"qosctl/framework/mesos"
	"qosctl/qos"
)

// A container that Mesos itself holds is where its framework has put it. The node that runs it claims its job from the one that has it, as the
// node of a stand-in's task does.

// claimAdopted claims the adopted jobs of other nodes of which Mesos runs a task here. One whose owner sees a task of it run there stays there.
func (a *Agent) claimAdopted(tasks []mesos.Task) {
	if a.cluster == nil || !a.settled.Load() || !a.cluster.mesh.Settled() {
		return
	}
	mine := a.jobs.all()
	loose := slices.DeleteFunc(slices.Clone(tasks), func(t mesos.Task) bool {
		return !running(t) || slices.ContainsFunc(mine, func(j *job) bool { return j.holdsTask(t) })
	})
	if len(loose) == 0 {
		return
	}
	for _, r := range a.cluster.mesh.All() {
		st, id := r.Status, r.Spec.ID
		if !st.Steward.Adopted || st.Owner == "" || st.Owner == a.node || st.Phase.Terminal() || st.Phase == qos.PhaseRunning || a.jobs.get(id) != nil {
			continue
		}
		i := slices.IndexFunc(loose, func(t mesos.Task) bool { return runsJob(r.Spec, t) })
		if i < 0 || a.stateOf(st.Owner, time.Now()) != nodeAlive || !a.cluster.turn(id) {
			continue
		}
		a.spawn(func(ctx context.Context) {
			defer a.cluster.turned(id)
			if err := a.claimRow(ctx, r, loose[i].ID); err != nil && ctx.Err() == nil {
				a.log.Debug("a job whose task Mesos runs here is not claimed yet", "job", r.Spec.Name, "from", st.Owner, "err", err) // with the next look
			}
		})
	}
}

// claimRow gets a job from its owner for a task that Mesos runs here.
func (a *Agent) claimRow(ctx context.Context, r qos.Record, task string) error {
	h, err := a.obtain(ctx, r, task)
	if err != nil {
		return err
	}
	if _, err := a.take(ctx, h, fmt.Sprintf("Mesos runs its task %s here", task)); err != nil {
		return err
	}
	a.lookSoon()
	a.mesosSoon()
	return nil
}

// holdsTask says whether a task is that of a job of this node.
func (j *job) holdsTask(t mesos.Task) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.task(t.ID) != nil || j.carries(t)
}

// runsJob says whether a task is an adopted job's, by what the table knows of it: its label, or its name. Marathon names a task by its app's
// id, the parts of it backwards.
func runsJob(spec qos.Spec, t mesos.Task) bool {
	if t.Labels[labelJob] != "" || t.FrameworkName != string(spec.Framework) {
		return t.Labels[labelJob] == spec.ID
	}
	if spec.Framework == qos.Chronos {
		return t.Name == "ChronosTask:"+spec.Name
	}
	parts := strings.Split(strings.Trim(spec.Name, "/"), "/")
	slices.Reverse(parts)
	return t.Name == strings.Join(parts, ".")
}
