package agent

import (
	"fmt"
	"time"

	"qosctl/container"
	"qosctl/qos"
)

// The account of a run has an entry for each of its containers, which can't be summed up before the run is over. Of one with more of them than the
// table of jobs takes no peer would have the row any more, and nobody could go on with the job when this node dies. So a run that has had
// qos.MaxIncarnations containers is not restored once more: it has failed, which is said, and the next one begins anew.

func whyFull(e *qos.Execution) string {
	return fmt.Sprintf("run %d has had %d containers, and does not go on in another: its account can't hold more; %.1f s of CPU time are lost. "+
		"The events say what has stopped it so often", e.Index, len(e.Account.Entries), e.Account.Consumed().Seconds())
}

// endFull books a run that would have to be restored once too often for a task. The caller holds j.mu.
func (a *Agent) endFull(j *job, t *task) error {
	st, now := j.status(), time.Now()
	e := st.Execution
	if err := j.enter(qos.PhaseRunning, now, fmt.Sprintf("run %d is claimed by task %s", e.Index, t.ID)); err != nil {
		return err
	}
	why := whyFull(e)
	a.log.Error("not restored", "job", j.spec().Name, "why", why)
	e.Task = t.ID
	e.Clock.Resume(now.Sub(e.Started).Seconds())
	a.conclude(j, container.Exit{Code: exitNotStarted, Finished: now, Reason: why}, "")
	return nil
}
