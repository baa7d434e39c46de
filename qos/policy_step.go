package qos

import (
	"fmt"
	"time"
)

// stepPolicy is the thesis' law: a fixed increment for a job that its text calls UNDER_PERFORMANT, a fixed decrement for one that it
// calls OVER_PERFORMANT, within the job's bounds. A Chronos job is looked at when an iteration has ended, that is once in each later
// iteration, a Marathon job each monitoring period. It keeps the thesis' treatment of late jobs too: equation 2 stays at the declared
// duration after the deadline. Ours are two things that in-place resizing needs: a loan is made only of CPUs that nobody has bought,
// and taken back when they are sold.
//
// With code it does as the thesis' program does where that differs from its text: a Chronos job is OVER_PERFORMANT only if it is
// predicted to end within desv_deadline of the time allowed, a Marathon job UNDER below a fixed 0.95, and work that was lost counts
// as progress.
type stepPolicy struct {
	params Params
	code   bool
}

// Name is PolicyStep or PolicyStepCode.
func (p stepPolicy) Name() string {
	if p.code {
		return PolicyStepCode
	}
	return PolicyStep
}

// Decide steps each job that is due.
func (p stepPolicy) Decide(n NodeView) []Decision {
	out := make([]Decision, 0, len(n.Jobs))
	free := n.CPUs - n.Sold
	for _, v := range n.Jobs {
		free -= max(v.Request, v.Allocation)
	}
	for _, v := range n.Jobs {
		if p.code {
			v.Progress = max(v.Progress, v.Consumed)
		}
		o := look(v, n.Now, p.params)
		d := o.decision(v, n.Now, p.Name())
		if p.code {
			d.ThesisState = o.codeState(v)
		}
		p.step(v, n.Now, &d)

		// Only what exceeds the request is taken from the node's headroom.
		if loan, had := max(d.To-v.Request, 0), max(v.Allocation-v.Request, 0); loan > had {
			room := max(free, 0)
			if !n.Borrow {
				room = 0
			}
			if loan-had > room {
				d.To = floorTo(max(v.Allocation, v.Request)+room, p.params.Quantum)
				d.To = max(d.To, v.Allocation)
				d.Reason += fmt.Sprintf("; only %.2f CPUs of the node are free to lend", room)
			}
			free -= max(d.To, v.Request) - max(v.Allocation, v.Request)
		} else if had > 0 && free < 0 {
			back := min(had, -free)
			d.To = min(d.To, v.Allocation-back)
			d.Rule, d.Reason = "sold", fmt.Sprintf("%.2f borrowed CPUs have been sold by Mesos and are given back", back)
			free += max(v.Allocation, v.Request) - max(d.To, v.Request)
		}
		out = append(out, d)
	}
	return out
}

// step applies the law to a decision, if the job is due.
func (p stepPolicy) step(v JobView, now time.Time, d *Decision) {
	d.Rule = "step-wait"
	if !p.due(v, now) {
		d.Reason = fmt.Sprintf("%s by the thesis' rule; the next step is not due", d.ThesisState)
		return
	}
	d.Memory.Acted = now
	switch d.ThesisState {
	case UnderPerformant:
		d.Rule = "step-under"
		d.To = min(v.Allocation+p.params.Increment, max(v.Max, v.Allocation))
		d.Reason = fmt.Sprintf("%s: %.2f + %.2f CPUs, at most %.2f", d.ThesisState, d.From, p.params.Increment, v.Max)
	case OverPerformant:
		d.Rule = "step-over"
		d.To = max(v.Allocation-p.params.Decrement, min(v.Min, v.Allocation))
		d.Reason = fmt.Sprintf("%s: %.2f - %.2f CPUs, at least %.2f", d.ThesisState, d.From, p.params.Decrement, v.Min)
	default:
		d.Rule = "step-plan"
		d.Reason = fmt.Sprintf("%s: progress ratio %.2f", d.ThesisState, d.Ratio)
	}
}

// due says whether the law applies now.
func (p stepPolicy) due(v JobView, now time.Time) bool {
	last := v.Memory.Acted
	if last.Before(v.LastChange) {
		last = v.LastChange
	}
	if v.Framework == Chronos {
		first := v.Runs > 0 && v.RunsLeft >= v.Runs || !v.RunStart.After(v.Start)
		return !first && last.Before(v.RunStart)
	}
	if last.Before(v.RunStart) {
		last = v.RunStart
	}
	return now.Sub(last) >= p.params.StepPeriod
}
