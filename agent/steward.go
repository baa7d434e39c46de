package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"qosctl/framework"
	"qosctl/qos"
)

// startAgain is how long after a start was asked for it is asked for again, if no task has come: Chronos answers 204 and may drop it.
const startAgain = 5 * time.Second

// tend does one job's duty towards its framework; the error is noted already.
func (a *Agent) tend(ctx context.Context, j *job, now time.Time) error {
	j.mu.Lock()
	a.voidDelete(j, now)
	d, p, st := j.steward().Pending, a.ports[j.spec().Framework], *j.status()
	skip := p == nil || j.gone || j.handing || j.rival != nil || now.Before(j.nextTry) || st.Phase.Terminal() && d == qos.ActNone
	done := st.Execution == nil || j.live == nil && !j.busy
	j.mu.Unlock()
	if skip {
		return nil
	}
	var err error
	switch {
	case d == qos.ActDelete && (done || st.Intent == qos.IntentCancel):
		err = a.discharge(ctx, j, p) // of a cancelled job the app goes while its end is awaited, so that nothing is started again
	case d == qos.ActDelete:
		return nil
	default:
		err = a.carryMove(ctx, j, p, now)
		if err == nil {
			err = a.reconcile(ctx, j, p, now)
		}
	}
	a.tried(j, now, err)
	return err
}

// tried sets when the job's duty is looked at again: back-off after errors, said once in a row.
func (a *Agent) tried(j *job, now time.Time, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil || errors.Is(err, context.Canceled) {
		if j.tries > 0 {
			a.log.Info("framework answers again", "job", j.spec().Name, "framework", j.spec().Framework)
		}
		j.tries = 0
		return
	}
	if j.tries == 0 {
		a.log.Warn("framework", "job", j.spec().Name, "err", err)
		j.note(now, "framework", "%s", err)
		j.touch()
	}
	a.metrics.frameworkErrors.Inc()
	j.nextTry = now.Add(backoff(j.tries))
	j.tries++
}

// voidDelete drops the removal of a job that goes on. Who has brought a job to its end decides on it, and the duty counts for itself: it may
// come to a row that another has written since, at a higher epoch, by which the job is not over. The caller holds j.mu.
func (a *Agent) voidDelete(j *job, now time.Time) {
	if j.steward().Pending != qos.ActDelete || j.status().Over() || j.gone || j.rival != nil {
		return
	}
	j.steward().Pending = qos.ActNone
	j.note(now, "framework", "it was to be removed from %s for an end that another node saw; it goes on", j.spec().Framework)
	_ = a.save(j) // retried by the sweep
}

// mayDelete says whether the job of a row is still to be removed as that row stands now: while its framework was asked, the job may have
// gone on elsewhere. The caller holds j.mu.
func (a *Agent) mayDelete(j *job) bool {
	return j.steward().Pending == qos.ActDelete && j.status().Over() && !j.gone && !a.contested(j)
}

// discharge removes the app or job from its framework, if what has its name there is the job.
func (a *Agent) discharge(ctx context.Context, j *job, p port) error {
	s, err := p.Look(ctx, *j.spec())
	switch {
	case errors.Is(err, framework.ErrNotFound):
		if !a.sure(j, time.Now()) {
			return nil
		}
		return a.discharged(j, "gone from %s", j.spec().Framework)
	case err != nil:
		return err
	case !j.is(s):
		return a.discharged(j, "%s has another by the name %s now: it is left alone", j.spec().Framework, j.spec().Name)
	}
	j.mu.Lock()
	due := a.mayDelete(j)
	if due {
		j.steward().Duty++
		err = a.save(j) // the act is numbered before it is done
		due = a.mayDelete(j)
	}
	j.mu.Unlock()
	if err != nil || !due {
		return err
	}
	if c := a.cluster; c != nil && !c.mesh.Settled() { // this process may have been stopped since it looked, and the job be another's
		return nil
	}
	if err := p.Delete(ctx, j.spec().Name); err != nil && !errors.Is(err, framework.ErrNotFound) {
		return err
	}
	return a.discharged(j, "removed from %s", j.spec().Framework)
}

// sure says whether what a framework does not know will not turn up there any more: a submission that failed in doubt may be under way.
func (a *Agent) sure(j *job, now time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.doubt.IsZero() || now.Sub(j.doubt) >= a.gap()
}

// discharged notes that there is nothing to be removed any more.
func (a *Agent) discharged(j *job, format string, args ...any) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.steward().Pending = qos.ActNone
	j.note(time.Now(), "framework", format, args...)
	if st := j.status(); st.Intent == qos.IntentCancel && !st.Phase.Terminal() && j.idle() {
		if err := j.enter(qos.PhaseCancelled, time.Now(), "cancelled"); err != nil {
			return err
		}
	}
	return a.save(j)
}

// mostGap is the time between the two looks that it takes to believe that a framework does not know a job.
const mostGap = 10 * time.Second

func (a *Agent) gap() time.Duration { return min(mostGap, 4*a.poll) }

// reconcile compares a job with what its framework knows of it.
func (a *Agent) reconcile(ctx context.Context, j *job, p port, now time.Time) error {
	asked := time.Now()
	s, err := p.Look(ctx, *j.spec())
	if errors.Is(err, framework.ErrNotFound) || err == nil && !j.is(s) {
		return a.vanished(ctx, j, now)
	}
	if err != nil {
		return err
	}
	j.mu.Lock()
	st := j.status()
	j.missing = time.Time{}
	if st.Phase.Terminal() || j.steward().Pending == qos.ActDelete { // cancelled, or ended, while the framework was looked at
		j.mu.Unlock()
		return nil
	}
	if st.Phase == qos.PhaseSubmitted { // the agent died between the submission and its note
		j.steward().Pending = qos.ActNone
		if err := j.enter(qos.PhasePending, now, "found submitted"); err != nil {
			a.log.Error("phase", "err", err)
		}
		_ = a.save(j) // retried by the sweep
	}
	a.requested(j, s, now)
	a.scaled(j, s, now)
	told := a.countTold(j, s, now)
	start := wantsStart(j.spec(), st, now) && j.live == nil && !j.busy && !s.Active && !s.Stopped && !told
	if j.steward().Adopted && s.Tasks != nil {
		j.tasks = s.Tasks
	}
	j.mu.Unlock()
	if !start {
		return a.giveUpStray(ctx, j, p, s, asked)
	}
	return a.start(ctx, j, p, now)
}

// requested notes a request that was changed in the framework by somebody else. It acts at the next launch: what runs was sold as it is.
func (a *Agent) requested(j *job, s sight, now time.Time) {
	if s.CPUs <= 0 || sameCPUs(s.CPUs, j.known()) {
		return
	}
	j.note(now, "request", "the request was changed in %s: %.2f → %.2f CPUs", j.spec().Framework, j.known(), s.CPUs)
	a.log.Info("request changed in the framework", "job", j.spec().Name, "from", j.known(), "to", s.CPUs)
	j.steward().Request = s.CPUs
	_ = a.save(j) // retried by the sweep
	a.decideSoon()
}

// scaled follows a job that others stopped in the framework (scaled to 0, disabled), or let go on.
func (a *Agent) scaled(j *job, s sight, now time.Time) {
	st := j.status()
	if !j.idle() {
		return // its task is told to stop: what follows from that comes first
	}
	var err error
	switch {
	case s.Stopped && st.Phase != qos.PhaseSuspended && st.Phase.To(qos.PhaseSuspended) == nil:
		err = j.enter(qos.PhaseSuspended, now, fmt.Sprintf("stopped in %s by somebody else", j.spec().Framework))
	case !s.Stopped && st.Phase == qos.PhaseSuspended:
		err = j.enter(qos.PhasePending, now, fmt.Sprintf("let go on in %s", j.spec().Framework))
		if t := j.openTask(); t != nil && !j.steward().Adopted { // its stand-in waits for the next iteration
			id := t.ID
			a.spawn(func(ctx context.Context) { a.beginAfter(ctx, j, id, 0) })
		}
	default:
		return
	}
	if err != nil {
		a.log.Error("phase", "job", j.spec().Name, "err", err)
	}
	_ = a.save(j) // retried by the sweep
}

// wantsStart says whether a Chronos job is to be launched now. Marathon launches by itself.
func wantsStart(spec *qos.Spec, st *qos.Status, now time.Time) bool {
	if spec.Framework != qos.Chronos || st.Intent != qos.IntentNone || now.Before(spec.SeriesStart()) {
		return false
	}
	return st.Phase == qos.PhasePending || st.Phase == qos.PhaseLost || st.Phase == qos.PhaseEnded
}

// start asks Chronos for a launch. Its 204 is a "maybe": without a task, it is asked again.
func (a *Agent) start(ctx context.Context, j *job, p port, now time.Time) error {
	j.mu.Lock()
	if now.Sub(j.startAsked) < startAgain {
		j.mu.Unlock()
		return nil
	}
	if t := j.openTask(); t != nil {
		if j.attached > 0 || min(now.Sub(t.At), now.Sub(j.detached)) < a.cfg.Run.DetachGrace {
			j.mu.Unlock()
			return nil // its stand-in is here: the next iteration is the agent's own
		}
		code := exitNotStarted
		t.Exit, t.Cause = &code, "its stand-in has gone"
	}
	j.startAsked = now
	j.steward().Duty++
	err := a.save(j)
	j.mu.Unlock()
	if err == nil {
		err = a.bindNext(ctx, j, p, now)
	}
	if err != nil {
		return err
	}
	return p.Start(ctx, j.spec().Name)
}

// vanished draws the conclusion when the framework does not know a job, or knows another by its name. One look alone proves nothing:
// a framework that has just elected another leader, or begins anew, may answer before it has read all that it knows.
func (a *Agent) vanished(ctx context.Context, j *job, now time.Time) error {
	j.mu.Lock()
	if j.status().Phase == qos.PhaseSubmitted && j.steward().Pending == qos.ActSubmit { // the agent died before the framework had it
		j.handing = true
		j.mu.Unlock()
		return a.handAgain(ctx, j, now)
	}
	defer j.mu.Unlock()
	st := j.status()
	if st.Phase.Terminal() || j.gone {
		return nil
	}
	if j.missing.IsZero() {
		j.missing = now
		a.spawn(func(ctx context.Context) {
			if pause(ctx, a.gap()) {
				a.lookSoon()
			}
		})
	}
	if now.Sub(j.missing) < a.gap() {
		return nil
	}
	news := st.Intent != qos.IntentCancel
	if news {
		j.note(now, "framework", "gone from %s without a word of ours", j.spec().Framework)
		st.Intent = qos.IntentCancel
	}
	switch {
	case j.live != nil && !j.steward().Adopted:
		a.halt(j, fmt.Sprintf("deleted from %s", j.spec().Framework))
	case !j.idle(): // its end is awaited
	default:
		news = true
		if err := j.enter(qos.PhaseCancelled, now, fmt.Sprintf("deleted from %s by somebody else", j.spec().Framework)); err != nil {
			return err
		}
	}
	if !news {
		return nil
	}
	return a.save(j)
}

// handAgain submits a job once more whose submission the former agent did not note.
func (a *Agent) handAgain(ctx context.Context, j *job, now time.Time) error {
	err := a.hand(ctx, j)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.handing = false
	switch {
	case errors.Is(err, errWithdrawn):
		return nil
	case errors.Is(err, framework.ErrInvalid), errors.Is(err, framework.ErrExists):
		if j.steward().Pending == qos.ActSubmit {
			j.steward().Pending = qos.ActNone
		}
		if j.status().Phase.Terminal() {
			return nil
		}
		return errors.Join(j.enter(qos.PhaseFailed, now, "refused: "+err.Error()), a.save(j))
	}
	return err
}
