package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"qosctl/ckpt"
	"qosctl/container"
	"qosctl/qos"
)

// exitElsewhere is the exit code of a task that landed where its checkpoint can't be restored: the claim is given back, the checkpoint kept.
const exitElsewhere = 75 // EX_TEMPFAIL

// openIncarnation makes a new container of the present execution, to be restored from its newest checkpoint, the present one.
// The caller holds j.mu.
func (a *Agent) openIncarnation(j *job, t *task) error {
	now, st := time.Now(), j.status()
	e := st.Execution
	sequence := st.Saved.Sequence
	if w := j.row.Local.Wish; w > 0 {
		sequence = w
	}
	if err := j.enter(qos.PhaseRunning, now, fmt.Sprintf("run %d goes on from checkpoint %d for task %s", e.Index, sequence, t.ID)); err != nil {
		return err
	}
	a.countMove(st)
	st.Epoch, st.Seq, st.Owner = st.Epoch+1, 0, a.node
	e.Task, e.Allocation = t.ID, j.request()
	id := containerID(j.spec().ID, e.Index, e.Account.Next())
	e.Account.StartIncarnation(qos.Entry{Node: a.node, Container: id, StatContainer: id})
	l := &j.row.Local
	l.Restoring, l.Stop = sequence, nil
	return nil
}

// restore starts the container of the present incarnation from a checkpoint: the wanted one, else the container it was taken of, else an
// older checkpoint, else anew. The job is busy meanwhile.
func (a *Agent) restore(ctx context.Context, j *job, s container.Spec) {
	if !a.untilTested(ctx) {
		return
	}
	var faults []string
	var short shortage
	for try := 0; ; try++ {
		if !a.checkpoints() {
			a.giveBack(j, "it goes on from a checkpoint, and this node can't restore any", exitElsewhere)
			return
		}
		var list []ckpt.Manifest
		err := a.summon(ctx, j)
		if errors.Is(err, ckpt.ErrTaken) { // to wait does not help
			if a.passOn(j, err) {
				return
			}
			a.log.Error("a checkpoint of another node can't be had; what is here has to do", "job", j.spec().Name, "err", err)
			err = nil
		}
		if err == nil {
			list, err = a.candidates(ctx, j)
		}
		if err == nil {
			if try == 0 {
				a.unreadable(ctx, j, list)
			}
			var done bool
			if done, faults, err = a.restoreOne(ctx, j, s, list, short.over()); done || ctx.Err() != nil {
				return
			}
		}
		if err == nil {
			break // none can be restored
		}
		if ctx.Err() != nil {
			return
		}
		a.log.Error("restore", "job", j.spec().Name, "err", err)
		if !a.awaited(j) {
			a.giveBack(j, fmt.Sprintf("it could not be restored: %s", err), 137)
			return
		}
		if a.shortOf(j, &short, err) && a.passOn(j, err) {
			return
		}
		pause(ctx, backoff(try))
	}
	a.anew(ctx, j, s, faults)
}

// candidates are the checkpoints of the present execution in the order in which they are to be tried.
func (a *Agent) candidates(ctx context.Context, j *job) ([]ckpt.Manifest, error) {
	if a.engines.keeper == nil {
		return nil, nil
	}
	list, err := a.engines.keeper.List(ctx, j.spec().ID)
	if err != nil {
		return nil, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	index, first := j.status().Execution.Index, j.row.Local.Restoring
	list = slices.DeleteFunc(list, func(m ckpt.Manifest) bool { return m.Execution != index })
	slices.SortFunc(list, func(x, y ckpt.Manifest) int {
		if (x.Sequence == first) != (y.Sequence == first) {
			if x.Sequence == first {
				return -1
			}
			return 1
		}
		return y.Sequence - x.Sequence
	})
	return list, nil
}

// unreadable says why the wanted checkpoint is not among the candidates.
func (a *Agent) unreadable(ctx context.Context, j *job, list []ckpt.Manifest) {
	j.mu.Lock()
	m := ckpt.Manifest{Job: j.spec().ID, Sequence: j.row.Local.Restoring}
	j.mu.Unlock()
	if slices.ContainsFunc(list, func(c ckpt.Manifest) bool { return c.Sequence == m.Sequence }) {
		return
	}
	if _, err := a.engines.keeper.Verify(ctx, ckpt.Ref{Job: m.Job, Sequence: m.Sequence}); err != nil && ctx.Err() == nil {
		a.restoreFailed(j, m, err)
	}
}

// restoreOne tries one checkpoint after the other. An error is one that says nothing about the checkpoints: it is tried again. late says that
// a restore which takes too long was tried for long enough.
func (a *Agent) restoreOne(ctx context.Context, j *job, s container.Spec, list []ckpt.Manifest, late bool) (done bool, faults []string, err error) {
	k := a.engines.keeper
	for i, m := range list {
		ref := ckpt.Ref{Job: m.Job, Sequence: m.Sequence}
		a.restoring(j, m)
		err := k.Restorable(ctx, ref, s)
		if errors.Is(err, ckpt.ErrRefused) {
			a.giveBack(j, fmt.Sprintf("checkpoint %d can't be restored here: %s", m.Sequence, err), exitElsewhere)
			return true, nil, nil
		}
		var r ckpt.Restored
		if err == nil {
			s.Labels = maps.Clone(s.Labels)
			s.Labels[labelBase] = m.CPU.String()
			r, err = k.Restore(ctx, ref, s)
		}
		if err == nil {
			a.restored(ctx, j, m, r, s.ID)
			return true, nil, nil
		}
		again := lacking(err) && (!late || !errors.Is(err, ckpt.ErrTime))
		if !definite(err) && !again || ctx.Err() != nil {
			return false, nil, err
		}
		if !again {
			faults = append(faults, fmt.Sprintf("checkpoint %d: %s", m.Sequence, err))
			a.restoreFailed(j, m, err)
		}
		if i == 0 && !errors.Is(err, ckpt.ErrDamaged) && (m.Node == "" || m.Node == a.node) {
			done, back := a.goBack(ctx, j, m)
			if done || ctx.Err() != nil {
				return done, nil, back
			}
			if !again && !hopeless(back) {
				return false, nil, back
			}
			faults = append(faults, fmt.Sprintf("into its old container: %s", back))
		}
		if again {
			return false, nil, err
		}
		if i == 0 && !errors.Is(err, ckpt.ErrDamaged) && !errors.Is(err, ckpt.ErrNone) && a.passOn(j, err) {
			return true, nil, nil
		}
	}
	return false, faults, nil
}

// restoring writes down which checkpoint is about to be restored. What it embodies is only written into the account when it runs: of two
// figures that peers tell, the greater would win.
func (a *Agent) restoring(j *job, m ckpt.Manifest) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.row.Local.Restoring == m.Sequence {
		return
	}
	j.row.Local.Restoring = m.Sequence
	_ = a.save(j) // nothing runs yet; a later write has it
}

func (a *Agent) restoreFailed(j *job, m ckpt.Manifest, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	a.metrics.restoreErrors.Inc()
	j.note(time.Now(), "fault", "checkpoint %d was not restored: %s", m.Sequence, err)
	a.log.Error("restore", "job", j.spec().Name, "checkpoint", m.Sequence, "err", err)
}

// restored books that a container runs from a checkpoint, and holds it.
func (a *Agent) restored(ctx context.Context, j *job, m ckpt.Manifest, r ckpt.Restored, id string) {
	eng := a.engineOf(j)
	j.mu.Lock()
	st, l := j.status(), &j.row.Local
	account := &st.Execution.Account
	e := account.Entries[account.Live]
	e.Overhead = max(0, r.Zero-countedBefore(*account, a.node, r.Group.CPUAcct))
	e.Container, e.StatContainer, e.Cgroup, e.Base, e.Zero = id, id, r.Group.CPUAcct, m.CPU, r.Zero
	account.Entries[account.Live] = e
	lost := lostSince(*account, m)
	st.Execution.Clock.Resume(time.Since(st.Execution.Started).Seconds())
	l.Restoring, l.Wish, l.Elsewhere = 0, 0, 0
	j.note(time.Now(), "restore", "from checkpoint %d in %s", m.Sequence, r.Stats.Whole.Round(time.Millisecond))
	if lost > 0 {
		j.note(time.Now(), "fault", "%.2f s of CPU time spent after checkpoint %d are lost", lost.Seconds(), m.Sequence)
	}
	if r.Repaired {
		j.note(time.Now(), "fault", "its processes were found in another cgroup, and moved")
	}
	a.metrics.restored(r)
	if err := a.save(j); err != nil {
		a.log.Error("a restore is not on disk yet", "job", j.spec().Name, "err", err)
	}
	limits := container.Limits{CPUs: st.Execution.Allocation, Shares: j.request()}
	sealed := st.Saved != nil && st.Saved.Digest != ""
	j.mu.Unlock()
	a.log.Info("restored", "job", j.spec().Name, "checkpoint", m.Sequence, "container", id, "cpu_seconds", m.CPU.Seconds(), "took", r.Stats.Whole, "overhead", r.Zero-m.Counter)
	if id == m.Container.ID { // the old container has its old limits
		if err := eng.Resize(ctx, id, limits); err != nil {
			a.log.Error("resize", "container", id, "err", err) // mended by the control loop
		}
	}
	a.hold(ctx, j, eng, id)
	if sealed {
		a.collect(ctx, j)
	}
}

// countedBefore is what a counter showed before the live incarnation was restored: what earlier ones had in the same cgroup.
func countedBefore(account qos.Account, node, group string) time.Duration {
	var before time.Duration
	for i, e := range account.Entries {
		if i != account.Live && e.Node == node && e.Cgroup == group {
			before = max(before, e.Zero+e.Own)
		}
	}
	return before
}

// lostSince is the CPU time that earlier incarnations spent and that the checkpoint does not embody.
func lostSince(account qos.Account, m ckpt.Manifest) time.Duration {
	prev := qos.Entry{}
	for _, i := range account.Incarnations() {
		if i.N < account.Live.N {
			prev = account.Entries[i]
		}
	}
	return max(0, prev.Base+prev.Own-m.CPU)
}

// awaited says whether the job's task is still to be run for.
func (a *Agent) awaited(j *job) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	t := j.task(j.status().Execution.Task)
	return t != nil && t.Exit == nil && (j.attached > 0 || time.Since(j.detached) <= a.cfg.Run.DetachGrace) && j.status().Intent == qos.IntentNone
}

// giveBack ends a task whose job can't be restored for it. The checkpoint stays.
func (a *Agent) giveBack(j *job, why string, code int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	st := j.status()
	account := &st.Execution.Account
	account.Withdraw()
	if s := st.Saved; s != nil { // not that of another part of a cluster that was cut, which may have a higher number
		if from := (qos.Incarnation{N: s.Incarnation, Node: s.Node}); account.Knows(from) {
			account.Live = from
		}
	}
	j.busy, j.row.Local.Restoring = false, 0
	if t := j.task(st.Execution.Task); t != nil && t.Exit == nil {
		t.Exit, t.Cause = &code, why
	}
	phase, now := qos.PhaseSuspended, time.Now()
	if st.Intent == qos.IntentCancel {
		phase, j.steward().Pending = qos.PhaseCancelled, qos.ActDelete
	}
	if err := j.enter(phase, now, why); err != nil {
		a.log.Error("phase", "job", j.spec().Name, "err", err)
	}
	a.log.Error("not restored", "job", j.spec().Name, "why", why)
	if err := a.save(j); err != nil {
		a.log.Error("a claim given back is not on disk yet", "job", j.spec().Name, "err", err)
	}
	a.stewardSoon()
}

// anew starts the execution from its beginning: none of its checkpoints could be restored.
func (a *Agent) anew(ctx context.Context, j *job, s container.Spec, faults []string) {
	j.mu.Lock()
	st := j.status()
	account := &st.Execution.Account
	e := account.Entries[account.Live]
	lost := lostSince(*account, ckpt.Manifest{})
	e.Base = 0
	account.Entries[account.Live] = e
	st.Execution.Clock.Resume(time.Since(st.Execution.Started).Seconds())
	l := &j.row.Local
	st.Saved, l.Restoring, l.Wish, l.Elsewhere = nil, 0, 0, 0
	a.metrics.lost.Inc()
	j.note(time.Now(), "fault", "STARTED ANEW: no checkpoint could be restored, %.1f s of CPU time are lost (%s)", lost.Seconds(), strings.Join(faults, "; "))
	a.log.Error("started anew: no checkpoint could be restored", "job", j.spec().Name, "lost_cpu_seconds", lost.Seconds(), "why", strings.Join(faults, "; "))
	err := a.save(j)
	j.mu.Unlock()
	if err != nil {
		a.log.Error("a start anew is not on disk yet", "job", j.spec().Name, "err", err)
	}
	a.launch(ctx, j, s)
}

// takeUpRestore goes on with a restore that the agent before this one had begun; false: there was none. The job is busy.
func (a *Agent) takeUpRestore(ctx context.Context, j *job, eng engine, s container.Spec) bool {
	j.mu.Lock()
	sequence, id := j.row.Local.Restoring, j.here()
	j.mu.Unlock()
	if sequence == 0 {
		return false
	}
	ref := ckpt.Ref{Job: j.spec().ID, Sequence: sequence}
	list, err := a.candidates(ctx, j)
	for try := 0; err != nil && ctx.Err() == nil; try++ {
		a.log.Error("list checkpoints", "job", j.spec().Name, "err", err)
		pause(ctx, backoff(try))
		list, err = a.candidates(ctx, j)
	}
	i := slices.IndexFunc(list, func(m ckpt.Manifest) bool { return m.Sequence == sequence })
	if i >= 0 {
		for _, c := range []string{id, list[i].Container.ID} { // the new one, and the way back
			r, err := a.engines.keeper.Resumed(ctx, ref, c)
			if err != nil {
				continue
			}
			if info, err := eng.Inspect(ctx, c); err == nil && info.State != container.Created {
				a.restored(ctx, j, list[i], r, c)
				return true
			}
		}
	}
	if ctx.Err() != nil {
		return true
	}
	_ = eng.Stop(ctx, id, 0) // it was never let go
	a.drop(ctx, eng, id)
	if s.ID == "" {
		a.giveBack(j, "nobody waits for it any more", 137)
		return true
	}
	a.restore(ctx, j, s)
	return true
}
