package qos

import (
	"fmt"
	"time"
)

// Kinds of Cause, in the order in which they are told.
const (
	CauseWaited = "waited" // for a task: before the first run, and between runs
	CauseWork   = "work"   // as declared
	CauseLonger = "longer" // than declared
	CauseLost   = "lost"   // done again: after a crash, or a run that failed
	CauseDown   = "down"   // without a container: checkpoints that stopped it, moves, restores
	CauseIdle   = "idle"   // CPU that it was given and did not use
	CauseShort  = "short"  // less than it needed to be in time
)

// Cause is what a part of the time was spent on.
type Cause struct {
	Kind    string  `json:"kind"`
	Seconds float64 `json:"seconds"`
	Text    string  `json:"text"`
}

// Judgement is why an ended job met its deadline or missed it. The seconds of its causes add up to what it took, but for those of
// CauseShort, which lie within the others.
type Judgement struct {
	Outcome Outcome `json:"outcome"`
	Run     int     `json:"run,omitempty"` // of Marathon: the execution that it is about; 0: the whole series
	Took    float64 `json:"took_seconds"`
	Allowed float64 `json:"allowed_seconds"` // from when the deadline began to count
	Causes  []Cause `json:"causes"`
}

// Late is by how many seconds the deadline was missed; below 0: what was left.
func (v Judgement) Late() float64 { return v.Took - v.Allowed }

// spent is what is known of how a time was spent.
type spent struct {
	took, waited, down, short, missing float64 // seconds, but for missing
	cpu, lost                          float64 // CPU seconds
	mean                               float64 // CPUs allocated
	declared                           float64 // CPU seconds of the runs that ended well
	failed                             int
}

// Judge says why a job met or missed its deadline: a Chronos series when it has ended, of a Marathon app the last execution that missed,
// if the app has ended without meeting all, else the last one. ok is false when there is nothing to judge yet.
func Judge(spec Spec, st Status) (v Judgement, ok bool) {
	if spec.Framework == Chronos {
		return judgeSeries(spec, st)
	}
	if len(st.Runs) == 0 {
		return v, false
	}
	run := st.Runs[len(st.Runs)-1]
	for _, r := range st.Runs {
		if st.Phase.Terminal() && (r.Outcome == Missed || r.Outcome == Failed) {
			run = r
		}
	}
	s := spent{
		took: run.Ended.Sub(run.Started).Seconds(), down: run.Down, short: run.Short, missing: run.Missing,
		cpu: run.CPU, lost: run.Lost(), mean: run.MeanCPUs,
	}
	if run.Outcome == Failed {
		s.failed = 1
	} else {
		s.declared = spec.QoS.Duration
	}
	return Judgement{
		Outcome: run.Outcome, Run: run.Index, Took: s.took, Allowed: spec.QoS.Deadline.From(run.Started).Sub(run.Started).Seconds(), Causes: s.causes(),
	}, true
}

func judgeSeries(spec Spec, st Status) (v Judgement, ok bool) {
	if st.Phase != PhaseCompleted && st.Phase != PhaseFailed || st.Ended.IsZero() || st.Started.IsZero() {
		return v, false
	}
	t := st.Tally
	s := spent{
		took: st.Ended.Sub(st.Started).Seconds(), waited: t.Waited, down: t.Down, short: t.Short, missing: t.Missing,
		cpu: t.CPU, lost: t.Lost, declared: float64(t.Succeeded) * spec.QoS.Duration, failed: t.Failed,
	}
	whole := 0.0
	for _, r := range st.Runs { // the last of them stand for all
		d := r.Ended.Sub(r.Started).Seconds()
		whole += d
		s.mean += d * r.MeanCPUs
	}
	if whole > 0 {
		s.mean /= whole
	}
	v = Judgement{Outcome: Met, Took: s.took, Allowed: spec.QoS.Deadline.From(st.Started).Sub(st.Started).Seconds(), Causes: s.causes()}
	switch {
	case st.Phase == PhaseFailed:
		v.Outcome = Failed
	case t.Missed > 0:
		v.Outcome = Missed
	}
	return v, true
}

// causes splits the time. While there was a container, mean CPUs went to work as declared, to more than that, to work that was lost, or to
// nothing.
func (s spent) causes() []Cause {
	var list []Cause
	add := func(kind string, seconds float64, format string, args ...any) {
		if seconds >= 0.05 {
			list = append(list, Cause{kind, seconds, fmt.Sprintf(format, args...)})
		}
	}
	add(CauseWaited, s.waited, "no task: the framework had not started one, or none had come yet")
	if s.mean > 0 {
		running := max(0, s.took-s.waited-s.down)
		done := s.cpu - s.lost
		work := min(done, s.declared)
		add(CauseWork, work/s.mean, "%.1f CPU seconds of work, of %.1f declared, at %.2f CPUs", work, s.declared, s.mean)
		add(CauseLonger, (done-work)/s.mean, "%.1f CPU seconds more than was declared", done-work)
		add(CauseLost, s.lost/s.mean, "%s", s.lostText())
		idle := running*s.mean - s.cpu
		add(CauseIdle, idle/s.mean, "%.1f CPU seconds that it was given and did not use: it waited for something else, or could not use more", idle)
	}
	add(CauseDown, s.down, "no container: checkpoints that stopped it, moves, restores")
	add(CauseShort, s.short, "within the above: it had less than it needed to be in time, %.1f CPU seconds in all", s.missing)
	return list
}

func (s spent) lostText() string {
	if s.failed > 0 {
		return fmt.Sprintf("%.1f CPU seconds came to nothing, with %d run(s) that failed", s.lost, s.failed)
	}
	return fmt.Sprintf("%.1f CPU seconds were done again, from a checkpoint or from the beginning", s.lost)
}

// Text says the judgement in words.
func (v Judgement) Text() string {
	what := "the series"
	if v.Run > 0 {
		what = fmt.Sprintf("execution %d", v.Run)
	}
	took, allowed := round(v.Took), round(v.Allowed)
	switch {
	case v.Outcome == Failed:
		return fmt.Sprintf("%s failed after %s of %s", what, took, allowed)
	case v.Late() > 0:
		return fmt.Sprintf("%s took %s of %s: missed by %s", what, took, allowed, round(v.Late()))
	}
	return fmt.Sprintf("%s took %s of %s: %s were left", what, took, allowed, round(-v.Late()))
}

func round(seconds float64) time.Duration {
	return time.Duration(seconds * float64(time.Second)).Round(100 * time.Millisecond)
}
