package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"qosctl/framework"
	"qosctl/qos"
)

// A resize by reschedule goes through the framework, as in the thesis: the request is changed there, the framework ends the task, which
// suspends the job, and starts another one with the new CPUs, which restores it. CPUs that fit nowhere would leave the app killed, so
// nothing is asked for that this node has no room for, and what brought no task in time is undone.

// moving is where a resize by reschedule stands.
type moving string

const (
	moveAsked moving = "asked" // to be sent
	moveSent  moving = "sent"  // the framework has it
	moveUndo  moving = "undo"  // to be taken back
)

// move is a resize by reschedule under way.
type move struct {
	State      moving    `json:"state"`
	From       float64   `json:"from"`
	To         float64   `json:"to"`
	Task       string    `json:"task"` // that is to end
	At         time.Time `json:"at"`   // asked for, then sent
	Ended      time.Time `json:"ended,omitzero"`
	Deployment string    `json:"deployment,omitempty"`
	Node       string    `json:"node,omitempty"`  // that it is to go to; "": it is resized only
	Hosts      []string  `json:"hosts,omitempty"` // that the framework is told
}

// mover is a port of a framework that can change the request of a running app.
type mover interface {
	// Resize changes the cpus; force only to take a change back while the job is safely suspended. It returns what Undo wants.
	Resize(ctx context.Context, name string, cpus float64, force bool) (deployment string, err error)
	// Undo takes a change back whose deployment is not done: the app is as before it.
	Undo(ctx context.Context, deployment string) error
}

// reschedules says whether a job is resized through its framework. The caller holds j.mu.
func (a *Agent) reschedules(j *job) bool {
	_, can := a.ports[j.spec().Framework].(mover)
	return a.cfg.Control.Resize == resizeReschedule && can && !j.steward().Adopted && a.keeps(j)
}

const resizeReschedule = "reschedule"

// askMove begins a resize by reschedule, if there is room; false: it is to be done in place. The caller holds j.mu.
func (a *Agent) askMove(j *job, d qos.Decision, now time.Time) bool {
	m := j.row.Local.Move
	if m != nil {
		return true // one at a time
	}
	if now.Before(j.noMove) {
		return false
	}
	t := j.openTask()
	if t == nil {
		return false
	}
	j.row.Local.Move = &move{State: moveAsked, From: j.request(), To: d.To, Task: t.ID, At: now.Round(0)}
	j.row.Local.Changed = now
	j.note(now, "move", "%.2f → %.2f CPUs through %s: %s (%s)", j.request(), d.To, j.spec().Framework, d.Reason, d.Rule)
	if err := a.save(j); err != nil {
		j.row.Local.Move = nil
		return false
	}
	a.stewardSoon()
	return true
}

// carryMove does the next step of a job's move.
func (a *Agent) carryMove(ctx context.Context, j *job, p port, now time.Time) error {
	if err := a.unbind(ctx, j); err != nil {
		return err
	}
	others := a.sold() + a.requests(j)
	j.mu.Lock()
	m := j.row.Local.Move
	if m == nil || j.status().Phase.Terminal() {
		j.mu.Unlock()
		return nil
	}
	ready := true
	if m.Node != "" {
		ready = a.lookAtRelocation(j, m, now)
	} else {
		a.lookAtMove(j, m, others, now)
	}
	m = j.row.Local.Move
	if m == nil || m.State == moveSent || !ready {
		j.mu.Unlock()
		return nil
	}
	do := *m
	j.steward().Duty++
	err := a.save(j) // the act is numbered before it is done
	j.mu.Unlock()
	if err != nil {
		return err
	}
	at, relocates := p.(relocator)
	mv, resizes := p.(mover)
	switch {
	case do.Node != "" && relocates && do.State == moveUndo:
		return a.undoRelocation(ctx, j, at, do)
	case do.Node != "" && relocates:
		return a.sendMove(j, do, func() (string, error) { return a.sendRelocation(ctx, j, at, do) })
	case do.Node == "" && resizes && do.State == moveUndo:
		return a.undoMove(ctx, j, mv, do)
	case do.Node == "" && resizes:
		return a.sendMove(j, do, func() (string, error) { return mv.Resize(ctx, j.spec().Name, do.To, false) })
	}
	return nil
}

// lookAtMove draws the conclusions from what has become of a move. The caller holds j.mu.
func (a *Agent) lookAtMove(j *job, m *move, others float64, now time.Time) {
	t := j.openTask()
	switch {
	case m.State == moveAsked && others+m.To > a.cpus+1e-9:
		a.endMove(j, "this node has no room for %.2f CPUs beside %.2f that are sold", m.To, others)
		j.noMove = now.Add(a.cfg.Control.MoveTimeout)
	case m.State == moveAsked && (t == nil || t.ID != m.Task):
		a.endMove(j, "its task has ended meanwhile")
	case m.State == moveSent && t != nil && t.ID != m.Task:
		a.endMove(j, "done: task %s has %.2f CPUs", t.ID, j.request())
	case m.State == moveSent && t == nil && m.Ended.IsZero():
		m.Ended = now.Round(0)
	case m.State == moveSent && now.Sub(later(m.At, m.Ended)) > a.cfg.Control.MoveTimeout:
		m.State = moveUndo
		j.note(now, "move", "no task with %.2f CPUs was started within %s: taken back", m.To, a.cfg.Control.MoveTimeout)
		a.log.Warn("a reschedule brought no task in time; it is taken back", "job", j.spec().Name, "cpus", m.To)
	}
}

// endMove forgets a move. The caller holds j.mu.
func (a *Agent) endMove(j *job, format string, args ...any) {
	j.note(time.Now(), "move", format, args...)
	j.row.Local.Move = nil
	_ = a.save(j) // written by a later sweep if not now
	a.decideSoon()
}

// sendMove asks the framework for the new request, or the new place.
func (a *Agent) sendMove(j *job, m move, ask func() (deployment string, err error)) error {
	deployment, err := ask()
	j.mu.Lock()
	defer j.mu.Unlock()
	now := j.row.Local.Move
	if now == nil || !now.same(m) {
		return err
	}
	switch {
	case err == nil, framework.Uncertain(err): // a look will tell, or the time limit
		now.State, now.At, now.Deployment = moveSent, time.Now().Round(0), deployment
		if m.Node == "" {
			j.steward().Request = m.To
		}
		return errors.Join(err, a.save(j))
	case errors.Is(err, framework.ErrLocked) && time.Since(m.At) < a.cfg.Control.MoveTimeout:
		return err // another deployment is under way: waited out
	}
	a.endMove(j, "refused: %s", err)
	j.noMove = time.Now().Add(a.cfg.Control.MoveTimeout)
	a.goOn(j)
	return nil
}

// same says whether a move is the one that was begun, and stands where it stood.
func (m *move) same(n move) bool { return m.State == n.State && m.At.Equal(n.At) && m.Task == n.Task }

// undoMove brings the old request back, so that the framework starts a task that fits.
func (a *Agent) undoMove(ctx context.Context, j *job, p mover, m move) error {
	err := errors.New("no deployment is known")
	if m.Deployment != "" {
		err = p.Undo(ctx, m.Deployment)
	}
	if err != nil { // the deployment is gone, or never was: the old request is set, over whatever locks the app. The job is safely suspended
		_, err = p.Resize(ctx, j.spec().Name, m.From, true)
	}
	if err != nil {
		return fmt.Errorf("take a reschedule back: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.steward().Request = m.From
	j.noMove = time.Now().Add(a.cfg.Control.MoveTimeout)
	a.metrics.movesUndone.Inc()
	a.endMove(j, "taken back: %.2f CPUs again", m.From)
	return nil
}

// requests is what all jobs of this node but one were sold.
func (a *Agent) requests(but *job) float64 {
	sum := 0.0
	for _, j := range a.jobs.all() {
		if j == but {
			continue
		}
		j.mu.Lock()
		if j.openTask() != nil {
			sum += j.request()
		}
		j.mu.Unlock()
	}
	return sum
}
