package agent

import (
	"context"
	"errors"
	"maps"
	"time"

	"qosctl/ckpt"
	"qosctl/container"
	"qosctl/qos"
)

// keepCancelled is how long the checkpoints of a job that has ended before its time are kept.
const keepCancelled = time.Hour

// saved says whether the present execution is to go on from a checkpoint. The caller holds j.mu.
func (j *job) saved() bool {
	st := j.status()
	return st.Saved != nil && st.Execution != nil && st.Saved.Execution == st.Execution.Index
}

// noteSaved makes a checkpoint the one that the job goes on from. The caller holds j.mu.
func (j *job) noteSaved(node string, m ckpt.Manifest) {
	st := j.status()
	st.Saved = &qos.Saved{
		Node: node, Sequence: m.Sequence, Execution: m.Execution, Incarnation: m.Incarnation, CPU: m.CPU, Taken: m.Taken,
		Took: m.Dump.Whole,
	}
	st.Sequence = max(st.Sequence, m.Sequence)
	st.Execution.Clock.Down += m.Dump.Frozen.Seconds()
	j.note(time.Now(), "checkpoint", "%d: %.2f s of CPU time, %.1f MiB, frozen for %s", m.Sequence, m.CPU.Seconds(), float64(m.Resident)/(1<<20), m.Dump.Frozen.Round(time.Millisecond))
}

// forgetSaved gives the checkpoints of an execution that has ended up. The caller holds j.mu.
func (a *Agent) forgetSaved(j *job) {
	st := j.status()
	if st.Saved == nil || st.Phase == qos.PhaseLost || st.Phase == qos.PhaseCancelled {
		return
	}
	st.Saved = nil
	a.spawn(func(ctx context.Context) { a.removeSaved(ctx, j) })
}

// removeSaved removes all checkpoints of a job that its present execution does not need.
func (a *Agent) removeSaved(ctx context.Context, j *job) {
	k := a.engines.keeper
	if k == nil {
		return
	}
	list, err := k.List(ctx, j.spec().ID)
	if err != nil {
		a.log.Warn("list checkpoints", "job", j.spec().Name, "err", err)
		return
	}
	for _, m := range list {
		j.mu.Lock()
		needed := j.saved() && m.Execution >= j.status().Execution.Index
		j.mu.Unlock()
		if needed {
			continue
		}
		if err := k.Remove(ctx, ckpt.Ref{Job: m.Job, Sequence: m.Sequence}); err != nil && ctx.Err() == nil && !errors.Is(err, ckpt.ErrNone) {
			a.log.Warn("remove a checkpoint", "job", j.spec().Name, "checkpoint", m.Sequence, "err", err) // Prune tries again
		}
	}
}

// pruneSaved removes checkpoints that no job of this node wants.
func (a *Agent) pruneSaved(ctx context.Context, now time.Time) {
	k := a.engines.keeper
	if k == nil || !a.settled.Load() || !isClosed(a.tested) {
		return
	}
	seen := map[string]bool{}
	err := k.Prune(ctx, func(id string) bool {
		seen[id] = true
		j := a.jobs.get(id)
		if j == nil {
			return a.savedElsewhere(id, now)
		}
		j.mu.Lock()
		defer j.mu.Unlock()
		if st := j.status(); st.Phase.Terminal() {
			return st.Saved != nil && now.Sub(st.Ended) < keepCancelled
		}
		return true
	})
	if err != nil && ctx.Err() == nil {
		a.log.Warn("prune checkpoints", "err", err)
	}
	maps.DeleteFunc(a.unasked, func(id string, _ time.Time) bool { return !seen[id] })
}

// mayBeAsked says whether somebody may still come for the checkpoints of a job that nobody knows: its stand-in, after the store was lost.
func (a *Agent) mayBeAsked(id string, now time.Time) bool {
	if removed, err := a.removed(id); err != nil || removed {
		return err != nil
	}
	if a.unasked == nil {
		a.unasked = map[string]time.Time{}
	}
	if a.unasked[id].IsZero() {
		a.unasked[id] = now
	}
	return now.Sub(a.unasked[id]) < keepUnknown
}

// savedElsewhere says whether the checkpoints here of a job that another node has may be wanted: as copies, or because this node is the
// one that took them.
func (a *Agent) savedElsewhere(id string, now time.Time) bool {
	if a.cluster == nil {
		return a.mayBeAsked(id, now)
	}
	if !a.cluster.mesh.Settled() {
		return true // whose they are is not known yet
	}
	r, ok := a.cluster.mesh.Get(id)
	switch {
	case !ok:
		return a.mayBeAsked(id, now)
	case r.Status.Phase.Terminal():
		return r.Status.Saved != nil && now.Sub(r.Status.Ended) < keepCancelled
	}
	return true
}

// sealTries is how often a checkpoint that its job does not go on from is tried to be sealed. The one that it goes on from is tried until it is.
const sealTries = 6

// seal makes a checkpoint durable: until then it can be restored on this node only.
func (a *Agent) seal(ctx context.Context, j *job, sequence int) {
	for try := 0; ctx.Err() == nil; try++ {
		m, digest, err := a.engines.keeper.Seal(ctx, ckpt.Ref{Job: j.spec().ID, Sequence: sequence})
		if err == nil {
			a.metrics.size.Observe(float64(m.Bytes))
			j.mu.Lock()
			if s := j.status().Saved; s != nil && s.Sequence == sequence && s.Execution == m.Execution && (s.Node == m.Node || s.Node == a.node) {
				s.Digest, s.Bytes = digest, m.Bytes
				_ = a.save(j) // written by a later sweep if not now
			}
			j.mu.Unlock()
			a.collect(ctx, j)
			a.replicate(ctx, j, m, digest)
			return
		}
		if errors.Is(err, ckpt.ErrNone) || ctx.Err() != nil {
			return // its execution has ended meanwhile
		}
		a.log.Error("seal a checkpoint", "job", j.spec().Name, "checkpoint", sequence, "err", err)
		j.mu.Lock()
		awaited := a.awaitsSeal(j.status().Saved, sequence)
		j.mu.Unlock()
		if !awaited && try+1 >= sealTries {
			a.unsealable.Store(ckpt.Ref{Job: j.spec().ID, Sequence: sequence}, true)
			return // it stays as it is; the next start tries again
		}
		pause(ctx, backoff(try))
	}
}

// awaitsSeal says whether a job goes on from a checkpoint of this node that is not sealed yet.
func (a *Agent) awaitsSeal(s *qos.Saved, sequence int) bool {
	return s != nil && s.Node == a.node && s.Sequence == sequence && s.Digest == ""
}

// sealLeft seals what the agents before this one have not: of this node's jobs, and of those that another node has by now, which may be waiting
// for it.
func (a *Agent) sealLeft(ctx context.Context) {
	for _, j := range a.jobs.all() {
		j.mu.Lock()
		s := j.status().Saved
		unsealed := s != nil && s.Digest == "" && j.saved()
		j.mu.Unlock()
		if unsealed {
			a.spawn(func(ctx context.Context) { a.seal(ctx, j, s.Sequence) })
		}
	}
	list, err := a.engines.keeper.List(ctx, "")
	if err != nil {
		a.log.Warn("list checkpoints", "err", err)
	}
	for _, m := range list {
		if len(m.Files) == 0 {
			a.sealFound(m)
		}
	}
}

// sealFound seals a checkpoint of this node that an agent before this one has left unsealed.
func (a *Agent) sealFound(m ckpt.Manifest) {
	if a.cfg.Checkpoint.Shared && m.Node != a.node {
		return
	}
	if j := a.jobs.get(m.Job); j != nil {
		a.spawn(func(ctx context.Context) { a.seal(ctx, j, m.Sequence) })
		return
	}
	a.spawn(func(ctx context.Context) { a.sealAlone(ctx, ckpt.Ref{Job: m.Job, Sequence: m.Sequence}) })
}

// sealAlone seals a checkpoint of a job that this node does not have, until it is sealed or nobody wants it any more.
func (a *Agent) sealAlone(ctx context.Context, r ckpt.Ref) {
	for try := 0; ctx.Err() == nil; try++ {
		_, _, err := a.engines.keeper.Seal(ctx, r)
		if err == nil || errors.Is(err, ckpt.ErrNone) {
			return
		}
		a.log.Error("seal a checkpoint of another node's job", "job", r.Job, "checkpoint", r.Sequence, "err", err)
		pause(ctx, backoff(try))
	}
}

// checkpoint saves the state of a job that goes on running. The caller holds j.mu.
func (a *Agent) checkpoint(j *job, reason string, done func(ckpt.Manifest, error)) error {
	l := j.live
	switch {
	case !a.keeps(j):
		return a.whyNotKept(j)
	case l == nil:
		return refuse(codeConflict, "%s is %s: there is no state of it to be saved", j.spec().Name, j.status().Phase)
	case l.stopping || l.saving:
		return refuse(codeConflict, "%s is being saved or stopped already", j.spec().Name)
	}
	o, err := a.orderOf(j, l, true)
	if err != nil {
		return err
	}
	o.Reason = reason
	l.saving, l.checkpointed = true, time.Now()
	a.spawn(func(ctx context.Context) {
		m, err := a.engines.keeper.Take(ctx, o)
		if errors.Is(err, ckpt.ErrStopped) { // it stands frozen
			m, err = a.untilComplete(ctx, j, m, err)
		}
		if ctx.Err() != nil {
			return
		}
		a.checkpointDone(j, l, m, err)
		if err == nil {
			a.seal(ctx, j, m.Sequence)
		}
		done(m, err)
	})
	return nil
}

func (a *Agent) checkpointDone(j *job, l *live, m ckpt.Manifest, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	l.saving = false
	if err != nil {
		a.metrics.checkpointErrors.Inc()
		j.note(time.Now(), "fault", "its state could not be saved: %s", err)
		a.log.Error("checkpoint", "job", j.spec().Name, "container", l.container, "err", err)
	} else {
		j.noteSaved(a.node, m)
		a.metrics.checkpointed(m)
		_ = a.save(j) // written by a later sweep if not now
		a.log.Info("checkpoint", "job", j.spec().Name, "checkpoint", m.Sequence, "cpu_seconds", m.CPU.Seconds(), "resident", m.Resident, "frozen", m.Dump.Frozen)
	}
	if l.ended != nil && j.live == l {
		a.conclude(j, *l.ended, "")
	}
}

// whyNotKept says why a job's process state can't be saved.
func (a *Agent) whyNotKept(j *job) error {
	switch {
	case j.steward().Adopted:
		return refuse(codeConflict, "Mesos holds the container of %s: it is resized in place only", j.spec().Name)
	case a.engineOf(j) != a.engines.docker:
		return refuse(codeConflict, "%s is a plain process: only Docker containers can be checkpointed", j.spec().Name)
	case !isClosed(a.tested):
		return refuse(codeConflict, "this node is still finding out whether it can checkpoint; ask again")
	}
	return refuse(codeConflict, "this node can't checkpoint").hint("qosctl doctor says what is missing")
}

// periodically saves a running job's state if that is due. The caller holds j.mu.
func (a *Agent) periodically(j *job, l *live, now time.Time) {
	every := a.cfg.Checkpoint.Interval
	if every == 0 || l.stopping || l.saving || !a.keeps(j) || now.Sub(later(l.since, l.checkpointed)) < every {
		return
	}
	if err := a.checkpoint(j, "every "+every.String(), func(ckpt.Manifest, error) {}); err != nil {
		a.log.Warn("checkpoint", "job", j.spec().Name, "err", err)
	}
}

func later(s, t time.Time) time.Time {
	if s.After(t) {
		return s
	}
	return t
}

// fallBack books that the container of a job was stopped by us without a checkpoint while an older one stands: the execution is not over,
// it goes on from there. The caller holds j.mu.
func (a *Agent) fallBack(j *job, exit container.Exit, why string, now time.Time) {
	st := j.status()
	if err := j.enter(qos.PhaseLost, now, why); err != nil {
		a.log.Error("phase", "job", j.spec().Name, "err", err)
	}
	t, again := j.task(st.Execution.Task), j.row.Local.Stop != nil && j.row.Local.Stop.Again
	if t != nil && t.Exit == nil && !again {
		code := exit.Code
		t.Exit, t.Cause = &code, why
	}
	lost := st.Execution.Account.Progress() - st.Saved.CPU
	j.note(now, "fault", "%s; it goes on from checkpoint %d, %.1f s of CPU time are lost", why, st.Saved.Sequence, max(0, lost.Seconds()))
	j.live, j.row.Local.Stop = nil, nil
	if err := a.save(j); err != nil {
		a.log.Error("a stop is not on disk yet", "job", j.spec().Name, "err", err)
	}
	if t != nil && again {
		id := t.ID
		a.spawn(func(ctx context.Context) { a.beginAgain(ctx, j, id) })
	}
	a.stewardSoon()
}
