package cli

import (
	"context"
	"errors"
	"time"

	"qosctl/agent/api"
	"qosctl/qos"
)

// watch calls see with a job each time it has changed and at least every period, until the job has ended or see returns an error.
// An agent that is away for less than giveUpAfter is waited for.
func watch(ctx context.Context, c *api.Client, j api.Job, period time.Duration, see func(api.Job) error) (api.Job, error) {
	again := newBackoff(250*time.Millisecond, 5*time.Second)
	for {
		if err := see(j); err != nil {
			return j, err
		}
		if j.Phase.Terminal() {
			return j, nil
		}
		asked := time.Now()
		next, err := c.Watch(ctx, j.ID, j.Revision, period)
		switch {
		case err == nil:
			again.reset()
			if next.Revision == j.Revision && time.Since(asked) < min(period, 100*time.Millisecond) {
				err = sleep(ctx, min(period, time.Second)) // an agent that doesn't wait must not be asked without a pause
			}
			j = next
		case errors.Is(err, api.ErrUnreachable) && again.elapsed() < giveUpAfter:
			err = again.wait(ctx)
		}
		if err != nil {
			return j, err
		}
	}
}

// outcomeCode is the exit code that tells how a job ended.
func outcomeCode(j api.Job) int {
	switch {
	case j.Phase != qos.PhaseCompleted:
		return exitFailed
	case j.Outcome == qos.Missed:
		return exitMissed
	case j.Outcome == qos.Failed:
		return exitFailed
	}
	return exitOK
}

// outcomeText tells how a job ended, in one line.
func outcomeText(j api.Job) string {
	now := time.Now()
	switch outcomeCode(j) {
	case exitOK:
		if j.Deadline.IsZero() || j.Ended.IsZero() {
			return j.Name + " is done"
		}
		return j.Name + " met its deadline, " + span(j.Deadline.Sub(j.Ended)) + " early, at " + moment(j.Ended, now)
	case exitMissed:
		if j.Deadline.IsZero() || j.Ended.IsZero() {
			return j.Name + " missed its deadline"
		}
		return j.Name + " missed its deadline by " + span(j.Ended.Sub(j.Deadline)) + ", at " + moment(j.Ended, now)
	}
	return j.Name + " ended as " + phaseText(j)
}
