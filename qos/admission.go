package qos

import (
	"fmt"
	"math"
	"time"
)

// Admission is the answer to whether a job's deadline can be met at all.
type Admission struct {
	Feasible bool      `json:"feasible"`
	Deadline time.Time `json:"deadline"` // asked for
	Earliest time.Time `json:"earliest"` // the earliest deadline that could be met, with nothing in its way
	Text     string    `json:"text"`     // in words, with the figures
}

// Admit works out whether a job that starts at start can meet its deadline with maxCPUs all the time: its runs take T(maxCPUs) each,
// and deploy seconds more. Where m has seen no run, the declared duration counts, taken as fully parallel, so that nothing is called
// impossible that might be possible. The thesis' case I pays for the first deployment too; so does this, with deploy each run.
func Admit(spec Spec, maxCPUs, deploy float64, m Model, start time.Time) Admission {
	if m.N == 0 {
		w := sane(spec.QoS.Duration)
		m = Model{B: w, Work: w}
	}
	runs := 1
	if spec.Framework == Chronos {
		runs = max(spec.Iterations, 1)
	}
	each := m.Time(maxCPUs)
	takes := float64(runs) * (each + sane(deploy))

	a := Admission{Deadline: spec.QoS.Deadline.From(start), Earliest: start.Add(seconds(takes))}
	a.Feasible = !a.Earliest.After(a.Deadline)
	allowed := a.Deadline.Sub(start).Seconds()
	work := fmt.Sprintf("%d × (%.1f s at %g CPUs + %.1f s deployment) = %.0f s", runs, each, maxCPUs, deploy, takes)
	if a.Feasible {
		a.Text = fmt.Sprintf("feasible: %s of %.0f s allowed", work, allowed)
		return a
	}
	a.Text = fmt.Sprintf("infeasible: %s, but %.0f s are allowed; the earliest deadline that could be met is %s",
		work, math.Max(allowed, 0), a.Earliest.UTC().Format(time.RFC3339))
	return a
}
