package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"qosctl/agent/api"
	"qosctl/ckpt"
	"qosctl/container"
	"qosctl/qos"
)

// A job that is told to stop without an intent is suspended: its process state is checkpointed, and its next task goes on from there.

// stopTries is how many checkpoints of a container without a stand-in may fail before it is stopped without one.
const stopTries = 3

// handTries is the same for one that another node waits for: what is in the way (a docker exec, a connection, a lock) is given about a minute to
// pass, as the back-off between them is.
const handTries = 6

// tell says to whoever waits for it what became of a stop.
func (s *stopOrder) tell(m ckpt.Manifest, err error) {
	if s != nil && s.done != nil {
		s.done(m, err)
	}
}

// stopLive obeys a stand-in whose container runs. The caller holds j.mu.
func (a *Agent) stopLive(j *job, t *task, s api.Stop) error {
	st := j.status()
	switch {
	case st.Intent != qos.IntentNone:
		a.halt(j, string(st.Intent))
		return nil
	case a.engineOf(j) == a.engines.docker && !isClosed(a.tested):
		return refuse(codeConflict, "it is not known yet whether this node can keep the job's state; ask again")
	case !a.keeps(j):
		a.halt(j, fmt.Sprintf("its task was told to stop (signal %d); its process state can't be kept here", s.Signal))
		return nil
	}
	if err := a.suspend(j, stopOrder{Why: fmt.Sprintf("its task was told to stop (signal %d)", s.Signal), Signal: s.Signal}); err != nil {
		return err
	}
	if j.spec().Framework == qos.Chronos && t.Exit == nil { // it has no grace to wait for the checkpoint: the next claim waits
		code := 128 + s.Signal
		t.Exit, t.Cause, t.Left = &code, "told to stop; its state is being saved", true
		return a.save(j)
	}
	return nil
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// stopOrphan ends a container whose stand-in is gone: its CPUs may be sold again. The caller holds j.mu.
func (a *Agent) stopOrphan(j *job, why string) {
	switch l := j.live; {
	case l.stopping:
	case a.engineOf(j) == a.engines.docker && !isClosed(a.tested):
	case a.keeps(j) && j.status().Intent == qos.IntentNone && l.failed < stopTries:
		if time.Since(l.failedAt) < backoff(l.failed) {
			return
		}
		_ = a.suspend(j, stopOrder{Why: why, Signal: 9}) // an error is tried again at the next look
	default:
		a.halt(j, why)
	}
}

// suspend checkpoints the live container and ends it. The order is written down first, so that an agent that comes after this one
// carries it out. The caller holds j.mu.
func (a *Agent) suspend(j *job, order stopOrder) error {
	l := j.live
	if l == nil || l.stopping {
		return nil
	}
	if l.saving {
		return refuse(codeConflict, "the job's state is being saved; ask again")
	}
	order.At, order.Save = time.Now().Round(0), true
	if j.row.Local.Stop == nil {
		j.row.Local.Stop = &order
		j.note(order.At, "stop", "%s: its state is saved", order.Why)
	}
	if err := a.save(j); err != nil {
		j.row.Local.Stop = nil
		return err
	}
	a.carryOutSuspend(j, l)
	return nil
}

// carryOutSuspend takes the checkpoint in the background. The caller holds j.mu.
func (a *Agent) carryOutSuspend(j *job, l *live) {
	j.readThrottling(l)
	l.stopping, l.saving = true, true
	o, err := a.orderOf(j, l, false)
	a.spawn(func(ctx context.Context) {
		var m ckpt.Manifest
		if err == nil {
			m, err = a.engines.keeper.Take(ctx, o)
		}
		halted := ""
		if errors.Is(err, ckpt.ErrStopped) { // its images are all that there is of the job
			halted = o.Reason
			m, err = a.untilComplete(ctx, j, m, err)
		}
		if ctx.Err() != nil {
			return // the agent stops: its successor finds the checkpoint, or the container
		}
		j.mu.Lock()
		defer j.mu.Unlock()
		if j.live != l || j.gone {
			return
		}
		l.saving = false
		back, is := errors.AsType[*ckpt.BackError](err)
		switch {
		case err == nil:
			a.suspended(j, m)
		case is:
			a.backAgain(j, l, back)
			a.notSuspended(j, l, err)
		case l.ended != nil: // it ended by itself before it could be frozen, or a CRIU that was killed took it along
			if l.ended.Signal != 0 && !l.ended.OOM {
				halted = o.Reason
			}
			j.row.Local.Stop.tell(ckpt.Manifest{}, err)
			a.conclude(j, *l.ended, halted)
		default:
			a.notSuspended(j, l, err)
		}
	})
}

// untilComplete completes a checkpoint whose container is stopped, however long that takes.
func (a *Agent) untilComplete(ctx context.Context, j *job, m ckpt.Manifest, err error) (ckpt.Manifest, error) {
	j.mu.Lock()
	j.note(time.Now(), "fault", "it is stopped, and its checkpoint %d is not complete: %s", m.Sequence, err)
	j.mu.Unlock()
	for try := 0; errors.Is(err, ckpt.ErrStopped); try++ {
		a.log.Error("complete a checkpoint", "job", j.spec().Name, "checkpoint", m.Sequence, "err", err)
		if !pause(ctx, backoff(try)) {
			return m, err
		}
		m, err = a.completed(ctx, m, err)
	}
	return m, err
}

// completed tries to complete a checkpoint whose container is stopped. The error is ErrStopped as long as it is to be tried again.
func (a *Agent) completed(ctx context.Context, m ckpt.Manifest, why error) (ckpt.Manifest, error) {
	whole, err := a.engines.keeper.Complete(ctx, ckpt.Ref{Job: m.Job, Sequence: m.Sequence})
	switch {
	case err == nil:
		return whole, nil
	case errors.Is(err, ckpt.ErrNone), errors.Is(err, ckpt.ErrDamaged):
		return m, fmt.Errorf("%w; %w", err, errors.New(why.Error())) // it is over: no ErrStopped any more
	}
	return m, fmt.Errorf("%w: %w", ckpt.ErrStopped, err)
}

// backAgain goes on with a container that had ended when its checkpoint failed, and was restored where it was. The caller holds j.mu.
func (a *Agent) backAgain(j *job, l *live, back *ckpt.BackError) {
	account := &j.status().Execution.Account
	e := account.Entries[account.Live]
	e.Zero += back.Overhead
	account.Entries[account.Live] = e
	l.back = back.Since
	if l.ended != nil { // its watch has seen that
		l.ended = nil
		a.spawn(func(context.Context) { a.attend(j, l.engine, l.container) })
	}
}

// allowed is what jobs allow CRIU to do here.
func (a *Agent) allowed() ckpt.Allow {
	c := a.cfg.Checkpoint
	allow := ckpt.Allow{FileLocks: c.FileLocks, TCPEstablished: c.TCP == "keep", TCPClose: c.TCP == "close"}
	if c.Volumes != "refuse" {
		allow.Volumes = c.Volumes
	}
	return allow
}

// orderOf says what to checkpoint. The caller holds j.mu.
func (a *Agent) orderOf(j *job, l *live, keep bool) (ckpt.Order, error) {
	e := j.status().Execution
	entry := e.Account.Entries[e.Account.Live]
	spec, err := json.Marshal(j.spec())
	if err != nil {
		return ckpt.Order{}, fmt.Errorf("encode the job: %w", err)
	}
	o := ckpt.Order{
		Job: j.spec().ID, Name: j.spec().Name, Epoch: j.status().Epoch, Execution: e.Index, Incarnation: e.Account.Live.N,
		Container: l.container, Base: entry.Base, Zero: entry.Zero, Keep: keep, Spec: spec, Allow: a.allowed(),
	}
	o.After = j.status().Sequence
	if s := j.status().Saved; s != nil { // by a broadcast, which has no more than that
		o.After = max(o.After, s.Sequence)
	}
	if stop := j.row.Local.Stop; stop != nil {
		o.Reason = stop.Why
	}
	o.Group = l.group
	return o, nil
}

// suspended books that the container was checkpointed and has ended. The caller holds j.mu.
func (a *Agent) suspended(j *job, m ckpt.Manifest) {
	now, st, l := time.Now(), j.status(), &j.row.Local
	e := st.Execution
	if live := j.live; live != nil {
		a.integrate(j, now)
		if live.reader != nil {
			_ = live.reader.Close() // read only: nothing to lose
		}
	}
	taken := qos.Incarnation{N: m.Incarnation, Node: a.node}
	e.Account.Observe(taken, m.CPU-e.Account.Entries[taken].Base)
	stop := l.Stop
	if stop == nil {
		stop = &stopOrder{Why: m.Reason, Signal: 15}
	}
	j.live, l.Stop = nil, nil
	stop.tell(m, nil)
	j.noteSaved(a.node, m)
	a.metrics.checkpointed(m)
	if j.rival != nil {
		a.spawn(func(ctx context.Context) { a.seal(ctx, j, m.Sequence) })
		a.gaveUp(j, container.Exit{Code: 137, Signal: 9, Finished: now}, stop.Why)
		return
	}
	if st.Intent == qos.IntentCancel {
		a.conclude(j, container.Exit{Code: 137, Signal: 9, Finished: now}, string(qos.IntentCancel))
		return
	}
	if err := j.enter(qos.PhaseSuspended, now, stop.Why); err != nil {
		a.log.Error("phase", "job", j.spec().Name, "err", err)
	}
	t := j.task(e.Task)
	if t != nil && t.Exit == nil && !stop.Again {
		code := 128 + stop.Signal
		if stop.Leaves {
			code = 0
		}
		t.Exit, t.Cause = &code, fmt.Sprintf("%s: suspended, %.1f s of CPU time are kept in checkpoint %d", stop.Why, m.CPU.Seconds(), m.Sequence)
	}
	if err := a.save(j); err != nil {
		a.log.Error("a suspension is not on disk yet", "job", j.spec().Name, "err", err)
	}
	a.log.Info("suspended", "job", j.spec().Name, "checkpoint", m.Sequence, "cpu_seconds", m.CPU.Seconds(), "resident", m.Resident, "frozen", m.Dump.Frozen, "took", m.Dump.Whole)
	a.spawn(func(ctx context.Context) { a.seal(ctx, j, m.Sequence) })
	if t != nil && stop.Again {
		a.spawn(func(ctx context.Context) { a.beginAgain(ctx, j, t.ID) })
	}
	a.stewardSoon()
	a.decideSoon()
}

// beginAgain starts the next container of a job for the task that it has.
func (a *Agent) beginAgain(ctx context.Context, j *job, taskID string) {
	for try := 0; ctx.Err() == nil; try++ {
		err := a.begin(j, taskID)
		if err == nil {
			return
		}
		a.log.Error("start again", "job", j.spec().Name, "err", err)
		pause(ctx, backoff(try))
	}
}

// notSuspended goes on with a container that could not be checkpointed: nothing is lost, and the error is said. Its task ends all the
// same, as it was told to; the next one takes the running container over. The caller holds j.mu.
func (a *Agent) notSuspended(j *job, l *live, why error) {
	l.stopping = false
	if !errors.Is(why, ckpt.ErrBusy) {
		l.failed++
	}
	l.failedAt = time.Now()
	stop := j.row.Local.Stop
	j.row.Local.Stop = nil
	stop.tell(ckpt.Manifest{}, why)
	a.metrics.checkpointErrors.Inc()
	j.note(time.Now(), "fault", "its state could not be saved: %s", why)
	a.log.Error("checkpoint", "job", j.spec().Name, "container", l.container, "err", why)
	if j.status().Intent != qos.IntentNone {
		a.halt(j, string(j.status().Intent))
		return
	}
	t := j.task(j.status().Execution.Task)
	if stop != nil && !stop.Again && !stop.Leaves && t != nil && t.Exit == nil && !errors.Is(why, ckpt.ErrBusy) {
		code := 128 + stop.Signal
		t.Left = true
		t.Exit, t.Cause = &code, fmt.Sprintf("%s; its state could not be saved (%s): it runs on for the next task", stop.Why, why)
	}
	if err := a.save(j); err != nil {
		a.log.Error("a failed checkpoint is not on disk yet", "job", j.spec().Name, "err", err)
	}
}
