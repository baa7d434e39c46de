package agent

import (
	"fmt"
	"time"

	"qosctl/qos"
)

// ending is how a container's run ended, as far as its consequences go.
type ending struct {
	Code       int
	Halted     string // not empty: it did not end by itself, and this is why
	NotStarted bool   // its container could not be started: that is waited for, and max_failures does not count it
}

// consequence is what follows from an ended run.
type consequence struct {
	Outcome qos.Outcome
	Phase   qos.Phase
	Reason  string
	Again   bool          // the agent starts the next iteration itself
	Delay   time.Duration // before it does
	Delete  bool          // the app or job is to go from the framework
}

// follow says what follows when a run of a job has ended at now. It is pure; the status does not count this run yet, nor does inARow, the failures before it.
func follow(spec *qos.Spec, st *qos.Status, e ending, inARow int, now time.Time) consequence {
	c := consequence{Outcome: qos.OutcomeOf(spec.Framework, e.Code, now, st.Execution.Deadline)}
	if e.Halted != "" {
		c.Outcome = qos.Failed
	}
	failures := st.Failures
	if c.Outcome == qos.Failed && e.Halted == "" && !e.NotStarted {
		failures++
	}
	switch {
	case st.Intent == qos.IntentCancel:
		c.Phase, c.Reason, c.Delete = qos.PhaseCancelled, "cancelled", true
	case e.Halted != "":
		c.Phase, c.Reason = qos.PhaseLost, e.Halted
	case c.Outcome == qos.Failed && spec.QoS.MaxFailures > 0 && failures >= spec.QoS.MaxFailures:
		c.Phase, c.Delete = qos.PhaseFailed, true
		c.Reason = fmt.Sprintf("run %d exited %d: %d failure(s), max_failures is %d", st.Execution.Index, e.Code, failures, spec.QoS.MaxFailures)
	case spec.Framework == qos.Chronos:
		followIteration(&c, spec, st, e, inARow)
	default:
		followExecution(&c, spec, st, e)
	}
	return c
}

func followExecution(c *consequence, spec *qos.Spec, st *qos.Status, e ending) {
	done := st.Tally.Succeeded
	if c.Outcome != qos.Failed {
		done++
	}
	if want := spec.QoS.Executions; want > 0 && done >= want {
		c.Phase, c.Reason, c.Delete = qos.PhaseCompleted, fmt.Sprintf("%d of %d execution(s) done", done, want), true
		return
	}
	c.Phase, c.Reason = qos.PhaseEnded, fmt.Sprintf("execution %d exited %d; the framework starts the next", st.Execution.Index, e.Code)
}

func followIteration(c *consequence, spec *qos.Spec, st *qos.Status, e ending, inARow int) {
	done := st.Tally.Succeeded
	if c.Outcome != qos.Failed {
		done++
	}
	if done >= spec.Iterations {
		c.Phase, c.Reason, c.Delete = qos.PhaseCompleted, fmt.Sprintf("%d of %d iteration(s) done", done, spec.Iterations), true
		return
	}
	c.Phase, c.Reason = qos.PhaseEnded, fmt.Sprintf("iteration %d exited %d; %d of %d done", st.Execution.Index, e.Code, done, spec.Iterations)
	c.Again = spec.QoS.IterationsBy != qos.IterationsByChronos
	if c.Outcome == qos.Failed {
		c.Delay = backoff(inARow)
	}
}

// backoff is the wait after so many failures in a row: 1 s, doubled up to a minute.
func backoff(failures int) time.Duration {
	return min(time.Second<<min(max(failures, 0), 6), time.Minute)
}
