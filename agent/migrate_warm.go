package agent

import (
	"context"
	"time"

	"qosctl/qos"
)

// A Chronos job whose iterations the agent runs back to back (a warm series) is launched once. Chronos ends no task when a job changes, so
// to move it the agent ends the task itself: a container that can be checkpointed at once, any other at the next boundary between two
// iterations, where there is nothing to be lost. The steward then has Chronos start the series again, where the constraint lets it.

// warm says whether a job is a series whose iterations this agent starts itself. The caller holds j.mu.
func warm(j *job) bool {
	return j.spec().Framework == qos.Chronos && j.spec().QoS.IterationsBy != qos.IterationsByChronos && !j.steward().Adopted
}

// waitsForBoundary says whether a series runs an iteration that can't be saved, or is starting one. The caller holds j.mu.
func (a *Agent) waitsForBoundary(j *job) bool {
	return warm(j) && (j.busy || j.live != nil && !a.keeps(j))
}

// atBoundary says whether a task is not to start the next iteration of its series, as that is to go to another node. On hold it is: nothing is
// moved then. The task that the move has brought goes on, though nobody has seen yet that the move is done. The caller holds j.mu.
func (a *Agent) atBoundary(j *job, taskID string) bool {
	m := j.row.Local.Move
	return m != nil && m.Node != "" && m.Task == taskID && warm(j) && (m.State != moveAsked || a.heldJob(j.row.Record) == "")
}

// leave ends the task of a series that Chronos was told to run elsewhere. The caller holds j.mu.
func (a *Agent) leave(j *job, t *task, m *move) {
	why := "it goes to node " + m.Node
	switch {
	case j.live != nil && a.keeps(j) && j.live.failed >= stopTries:
		m.State = moveUndo
		j.note(time.Now(), "move", "its state could not be saved %d times: taken back", j.live.failed)
	case j.live != nil && a.keeps(j):
		if l := j.live; l.saving || l.stopping || time.Since(l.failedAt) < backoff(l.failed) {
			return
		}
		if err := a.suspend(j, stopOrder{Why: why, Leaves: true}); err != nil {
			a.log.Warn("move", "job", j.spec().Name, "err", err) // at the next look again
		}
	case a.waitsForBoundary(j) || j.live != nil:
	default:
		code := 0
		t.Exit, t.Cause = &code, why
		j.note(m.At, "move", "its task %s has ended between two iterations", t.ID)
		_ = a.save(j) // written by a later sweep if not now
	}
}

// goOn starts the next iteration of a series whose move was given up at a boundary. The caller holds j.mu.
func (a *Agent) goOn(j *job) {
	t := j.openTask()
	if t == nil || !warm(j) || j.live != nil || j.busy {
		return
	}
	id := t.ID
	a.spawn(func(ctx context.Context) { a.beginAfter(ctx, j, id, 0) })
}
