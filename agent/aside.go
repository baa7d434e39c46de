package agent

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"qosctl/ckpt"
	"qosctl/container"
	"qosctl/qos"
)

// A container that runs and that no job of this node holds is what is left when the store is lost. What the table, or a stand-in, gives back
// to its job within the grace runs on. Nobody asks for the rest, whose CPUs Mesos may have sold: its state is saved as that of a suspended
// job, and only then it is stopped. So the job goes on from there when somebody who knows of it is heard again.

// orphan is such a container.
type orphan struct {
	since time.Time // that it was first seen, by the loop alone

	mu       sync.Mutex
	busy     bool
	failed   int // checkpoints, in a row
	failedAt time.Time
}

// begin says whether it is to be put aside now.
func (o *orphan) begin(now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.busy || o.failed > 0 && now.Sub(o.failedAt) < backoff(o.failed) {
		return false
	}
	o.busy = true
	return true
}

func (o *orphan) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.busy = false
}

// fails notes a checkpoint that failed; it says whether enough have.
func (o *orphan) fails(now time.Time) (enough bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failed, o.failedAt = o.failed+1, now
	return o.failed >= stopTries
}

// asideTurns are ids that one at a time has to do with. The zero value is ready.
type asideTurns struct {
	mu    sync.Mutex
	taken map[string]bool
}

func (t *asideTurns) take(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken[id] {
		return false
	}
	if t.taken == nil {
		t.taken = map[string]bool{}
	}
	t.taken[id] = true
	return true
}

func (t *asideTurns) give(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.taken, id)
}

// putAsideLeft saves and stops a container that no job holds; what fails is tried again at the next look.
func (a *Agent) putAsideLeft(ctx context.Context, c held, all []held, o *orphan) {
	defer o.end()
	if !a.asides.take(c.ID) {
		return // its job is just taking it back
	}
	defer a.asides.give(c.ID)
	if known := a.jobs.get(c.Labels[labelJob]) != nil; !known && a.worthSaving(c) {
		switch err := a.saveLeft(ctx, c, all); {
		case err == nil:
			a.oweStopped(ctx, c, all)
			return
		case ctx.Err() != nil, errors.Is(err, ckpt.ErrBusy):
			return
		default:
			a.log.Error("save a container that no job holds", "container", c.ID, "err", err)
			if !o.fails(time.Now()) {
				return
			}
		}
	}
	if err := c.engine.Stop(ctx, c.ID, a.cfg.Run.KillGrace); err == nil {
		a.oweStopped(ctx, c, all)
	}
}

// oweStopped owes what a container has had that was put aside.
func (a *Agent) oweStopped(ctx context.Context, c held, all []held) {
	if info, err := c.engine.Inspect(ctx, c.ID); err == nil {
		a.oweLeft(info, all)
	}
}

// worthSaving says whether the state of a container that no job holds can be saved, and somebody may want it: not if the job was removed, or
// is known to be over.
func (a *Agent) worthSaving(c held) bool {
	if c.engine != a.engines.docker || a.engines.keeper == nil || ordinal(c.Labels, labelExecution) == 0 || ordinal(c.Labels, labelIncarnation) == 0 {
		return false
	}
	if isClosed(a.tested) && !a.checkpoints() {
		return false
	}
	id := c.Labels[labelJob]
	if removed, err := a.removed(id); err != nil || removed {
		return false
	}
	if a.cluster == nil {
		return true
	}
	r, known := a.cluster.mesh.Get(id)
	return !known || !r.Status.Over() && !pastExecution(r.Status, ordinal(c.Labels, labelExecution))
}

// pastExecution says whether an execution of a job has ended.
func pastExecution(st qos.Status, index int) bool {
	return st.Execution != nil && st.Execution.Index > index || slices.ContainsFunc(st.Runs, func(r qos.Run) bool { return r.Index == index })
}

// saveLeft takes the checkpoint of a container that no job holds, which ends it.
func (a *Agent) saveLeft(ctx context.Context, c held, all []held) error {
	if !isClosed(a.tested) {
		return ckpt.ErrBusy // it is not known yet whether this node can
	}
	o, err := a.orderLeft(c, all)
	if err != nil {
		return err
	}
	m, err := a.engines.keeper.Take(ctx, o)
	for try := 0; errors.Is(err, ckpt.ErrStopped) && pause(ctx, backoff(try)); try++ { // its images are all that there is of the job
		m, err = a.completed(ctx, m, err)
	}
	if err != nil {
		return err
	}
	a.metrics.checkpointed(m)
	a.log.Warn("a container that no job holds was saved and stopped", "container", c.ID, "checkpoint", m.Sequence, "cpu_seconds", m.CPU.Seconds())
	a.spawn(func(ctx context.Context) { a.sealAlone(ctx, ckpt.Ref{Job: m.Job, Sequence: m.Sequence}) })
	return nil
}

// orderLeft says what to checkpoint of a container, by its labels and what the table knows of its job.
func (a *Agent) orderLeft(c held, all []held) (ckpt.Order, error) {
	o := ckpt.Order{
		Job: c.Labels[labelJob], Execution: ordinal(c.Labels, labelExecution), Incarnation: ordinal(c.Labels, labelIncarnation),
		Container: c.ID, Group: c.Cgroup, Allow: a.allowed(), Reason: "no job of this node held it",
	}
	if base, err := time.ParseDuration(c.Labels[labelBase]); err == nil && base > 0 {
		o.Base = base
	}
	if a.cluster != nil {
		if r, known := a.cluster.mesh.Get(o.Job); known {
			if done, err := a.orderKnown(&o, r); done || err != nil {
				return o, err
			}
		}
	}
	if o.Incarnation == 1 {
		return o, nil
	}
	counter, err := a.counterOf(c)
	o.Zero = zeroOf(c, all, o.Base, counter)
	return o, err
}

// orderKnown adds what a row says of a job; done: where the container's counter began is among that.
func (a *Agent) orderKnown(o *ckpt.Order, r qos.Record) (done bool, err error) {
	st := r.Status
	o.Name, o.Epoch, o.After = r.Spec.Name, st.Epoch, st.Sequence
	if st.Saved != nil {
		o.After = max(o.After, st.Saved.Sequence)
	}
	if o.Spec, err = json.Marshal(r.Spec); err != nil || st.Execution == nil || st.Execution.Index != o.Execution {
		return false, err
	}
	e, known := st.Execution.Account.Entries[qos.Incarnation{N: o.Incarnation, Node: a.node}]
	if known && e.Container == o.Container {
		o.Base, o.Zero = max(o.Base, e.Base), e.Zero
	}
	return known && (o.Incarnation == 1 || e.Zero > 0), nil
}

// counterOf reads a container's counter.
func (a *Agent) counterOf(c held) (time.Duration, error) {
	r, err := a.engines.cgroups.OpenReader(c.Cgroup)
	if err != nil {
		return 0, err
	}
	defer r.Close() //nolint:errcheck // only read
	return r.Usage()
}

// zeroOf is where the counter of a container began that shares it with earlier ones of its execution: at what the last of these has left
// there. If none of them is there to tell, what it embodies is rather taken for too little: the CPU time before it is not counted twice.
func zeroOf(c held, all []held, base, counter time.Duration) (zero time.Duration) {
	told := false
	for _, o := range all {
		earlier := o.Labels[labelJob] == c.Labels[labelJob] && o.Labels[labelExecution] == c.Labels[labelExecution] &&
			ordinal(o.Labels, labelIncarnation) < ordinal(c.Labels, labelIncarnation)
		if earlier && o.Cgroup.CPUAcct == c.Cgroup.CPUAcct && o.Exit != nil && !o.Exit.Unknown {
			zero, told = max(zero, o.Exit.CPU), true
		}
	}
	if !told {
		zero = base
	}
	return min(zero, counter)
}

// takeBack makes f the only one that has to do with a container until it returns; else it says so.
func (a *Agent) takeBack(id string, f func() (*job, error)) (*job, error) {
	if !a.asides.take(id) {
		return nil, refuse(codeConflict, "container %s, which no job held, is being saved and stopped; ask again", id)
	}
	defer a.asides.give(id)
	return f()
}

// leftSaved is the newest checkpoint here of a job that this node knows nothing else of; false: there is none, or a later execution has begun.
func (a *Agent) leftSaved(ctx context.Context, spec *qos.Spec, all []held) (found ckpt.Manifest, ok bool, err error) {
	if a.engines.keeper == nil || a.engines.of(spec, a.cfg.Engine.Images) != a.engines.docker {
		return found, false, nil
	}
	if !isClosed(a.recovered) {
		return found, false, refuse(codeConflict, "what became of this node's checkpoints is being found out; ask again")
	}
	list, err := a.engines.keeper.List(ctx, spec.ID)
	if err != nil {
		return found, false, err
	}
	for _, m := range list {
		newer := m.Execution > found.Execution || m.Execution == found.Execution && (m.Incarnation > found.Incarnation || m.Incarnation == found.Incarnation && m.Sequence > found.Sequence)
		if m.Sequence > 0 && (m.Node == a.node || len(m.Files) > 0) && newer {
			found, ok = m, true
		}
	}
	for _, c := range all {
		if c.Labels[labelJob] != spec.ID {
			continue
		}
		n, well := ordinal(c.Labels, labelExecution), c.Exit != nil && !c.Exit.Unknown && c.Exit.Code == 0
		if n > found.Execution || n == found.Execution && well {
			return found, false, nil
		}
	}
	return found, ok, nil
}

// readmitSaved writes down the execution that a checkpoint was taken of, which is all that is known of it. The caller holds j.mu.
func (a *Agent) readmitSaved(j *job, m ckpt.Manifest, all []held) {
	st, spec, begun := j.status(), j.spec(), m.Taken
	i := qos.Incarnation{N: m.Incarnation, Node: m.Node}
	entry := qos.Entry{Node: m.Node, Container: m.Container.ID, StatContainer: m.Container.ID, Cgroup: m.Container.Cgroup}
	for _, c := range all {
		if c.Labels[labelJob] != spec.ID || ordinal(c.Labels, labelExecution) != m.Execution {
			continue
		}
		if !c.Started.IsZero() && c.Started.Before(begun) {
			begun = c.Started
		}
		st.Tally.Succeeded = max(st.Tally.Succeeded, ordinal(c.Labels, labelSucceeded))
		if base, err := time.ParseDuration(c.Labels[labelBase]); err == nil && c.ID == m.Container.ID {
			entry.Base = min(max(base, 0), m.CPU)
		}
	}
	entry.Own = m.CPU - entry.Base
	entry.Zero = max(m.Counter-entry.Own, 0)
	st.Started = begun
	if spec.Framework == qos.Chronos {
		st.Started = spec.SeriesStart()
	}
	st.Epoch = max(st.Epoch, m.Epoch)
	st.Execution = &qos.Execution{
		Index: m.Execution, Started: begun, Deadline: spec.QoS.Deadline.From(st.Started), Allocation: j.request(),
		Account: qos.Account{Live: i, Entries: map[qos.Incarnation]qos.Entry{i: entry}},
	}
	st.Saved = &qos.Saved{Node: m.Node, Sequence: m.Sequence, Execution: m.Execution, Incarnation: m.Incarnation, CPU: m.CPU, Taken: m.Taken, Bytes: m.Bytes}
	st.Sequence = m.Sequence
	if err := j.enter(qos.PhaseSuspended, time.Now(), "its checkpoint was found"); err != nil {
		a.log.Error("phase", "job", spec.Name, "err", err)
	}
}

// running says whether a container runs that is a job's.
func (c held) running(job string) bool {
	return c.Labels[labelJob] == job && c.State == container.Running
}
