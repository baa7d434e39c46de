package qos

import (
	"math"
	"time"
)

const (
	overrun      = 0.10 // share of a run that is assumed to be left when it has used up its estimate, at most
	leastOverrun = 0.02 // and at least
	devGuess     = 0.10 // relative deviation of a job's runs before they show their own
	devWeight    = 2.0  // deviations that the margin covers
	leastMargin  = 0.01 // share of the whole time allowed that is always kept: looks are some seconds apart
	bareReserve  = 1.5  // of that, what even the bare need keeps: where it is all that a job is given, the last look comes too late to mend it
	straggle     = 0.35 // share by which one run may take longer than all the others
	straggleFade = 0.1  // of that, for each run seen
	straggleMost = 0.5  // the same of a run that has proved to be such a one
	slimReserve  = 0.3  // of the reserve for one, below which an allocation is too low
	lastRuns     = 4    // runs whose deviations cannot be made up for by faster ones after them
	mostMargin   = 0.30 // share of the time left that a margin never exceeds
)

// outlook is what follows from a JobView at one moment: what is left to do, by when, and how many CPUs that takes.
type outlook struct {
	model      Model     // of one run: learnt, or the cautious guess from the declared duration
	declared   float64   // CPU seconds of one run by its declaration
	runs       float64   // what is left, in runs of the model
	remaining  float64   // what is left, in CPU seconds, with caution
	left       float64   // seconds until the deadline, deployments taken off
	margin     float64   // seconds of left that are kept
	reserve    float64   // seconds of left that are always kept
	need       float64   // CPUs to be in time with the margin; +Inf: none is enough
	urgent     float64   // the same with half of both: from here on an allocation is too low
	bare       float64   // the same without spread, and with hardly a margin: what the estimate itself needs
	least      float64   // the same at best: of a job that was never seen, if its declaration is right and all of it parallel
	past       bool      // the deadline is over
	late       bool      // past, or more than the declared work is done: never over-performant, never slowed down for it
	infeasible bool      // not even Max is enough, without any caution and at best
	hopeless   bool      // the same if its runs turn out as much shorter than the estimate as can be hoped for
	uses       float64   // CPUs that it is expected to use of its allocation
	laxity     float64   // seconds that it could stand still and yet be in time at Max
	desired    float64   // equation 2
	ratio      float64   // equation 3
	prediction time.Time // equation 1, or the model's for Marathon
	expected   time.Time // the model's, at the present allocation
}

// look works out a job's outlook.
func look(v JobView, now time.Time, p Params) outlook {
	o := outlook{declared: sane(v.QoS.Duration), model: v.Model}
	plain, best := v.Model, v.Model // the same without caution, for what is shown; and at best, to say that it cannot be done
	if v.Model.N == 0 || sane(v.Model.Work) <= 0 {
		o.model, plain, best = Guess(o.declared*p.Caution), Guess(o.declared), Model{B: o.declared, Work: o.declared}
	}
	if most := o.declared * p.Caution; v.Model.N == 1 && most > 0 && plain.Work > most {
		best = plain.scaled(most / plain.Work) // it may have been a straggler: nobody is given up by one run
	}
	runsLeft := max(v.RunsLeft, 1)

	o.runs, o.remaining = leftOf(o.model, v.Progress, runsLeft, spread(o.model, runsLeft), 1)
	pauses := v.Deploy * float64(runsLeft-1)
	allowed := v.Deadline.Sub(v.Start).Seconds()
	o.left = v.Deadline.Sub(now).Seconds() - pauses
	o.past = !now.Before(v.Deadline)
	o.reserve = leastMargin * allowed
	late := o.model.straggle() * o.model.Time(v.Max)
	o.margin = o.marginOf(p.MinMargin, o.reserve, late)
	if o.remaining > 0 {
		o.need = correct(o.model.CPUsFor((o.left-o.margin)/o.runs), v)
	}
	if half, _ := leftOf(o.model, v.Progress, runsLeft, spread(o.model, runsLeft)/2, 1); half > 0 {
		o.urgent = correct(o.model.CPUsFor((o.left-o.marginOf(p.MinMargin/2, o.reserve/2, slimReserve*late))/half), v)
	}
	if o.past {
		o.need, o.urgent = math.Inf(1), math.Inf(1)
	}
	plainRuns, _ := leftOf(plain, v.Progress, runsLeft, 0, 0)
	if bareRuns, _ := leftOf(o.model, v.Progress, runsLeft, 0, 0.5); bareRuns > 0 {
		o.bare = min(o.model.CPUsFor((o.left-o.marginOf(0, bareReserve*o.reserve, 0))/bareRuns), o.need)
	}
	if plainRuns > 0 {
		o.least = min(best.scaled(1-hopeFor(plain, runsLeft)/2).CPUsFor(o.left/plainRuns), o.bare)
	}
	o.infeasible = o.past || plainRuns > 0 && best.CPUsFor(o.left/plainRuns) > v.Max
	hope := 1 - hopeFor(plain, runsLeft)
	o.hopeless = o.past || plainRuns > 0 && best.scaled(hope).CPUsFor(o.left/plainRuns) > v.Max
	o.uses = v.Model.uses(v.Allocation)
	o.laxity = o.left - o.runs*o.model.Time(v.Max)

	done := float64(max(v.Runs, runsLeft) - runsLeft)
	total := float64(max(v.Runs, runsLeft))
	o.late = o.past || o.declared > 0 && runsLeft == 1 && v.Progress > o.declared
	o.desired = CPUDesired(now, v.Start, total*o.declared, v.Deadline.Sub(v.Start))
	o.ratio = ProgressRatio(done*o.declared+v.Progress, o.desired)

	o.expected = now.Add(seconds(plainRuns*plain.Time(v.Allocation) + pauses))
	o.prediction = o.expected
	if v.Framework == Chronos {
		o.prediction = Prediction(now, runsLeft, o.declared, p.Sleeping, v.Deploy)
	}
	return o
}

// marginOf is the seconds of what is left that are kept: the greatest of a share of it, a least, and what a run that takes longer costs.
func (o outlook) marginOf(share, least, late float64) float64 {
	return max(min(max(share*o.left, least, late), mostMargin*o.left), 0)
}

// leftOf is what is left of a series, in runs of the model and in CPU seconds, with extra runs as caution. A run that has used up its
// estimate is not done: some of it is assumed to be left still, a tenth for a job of which nothing was learnt, else as much as its runs
// deviate; so its estimate grows with it. One that has gone on for longer than runs deviate has proved to be one of those few that take much
// longer: tail is the share of the rest of such a one that is reckoned with.
func leftOf(m Model, progress float64, runsLeft int, extra, tail float64) (runs, remaining float64) {
	if m.Work <= 0 {
		return 0, 0
	}
	guard := overrun
	if m.N > 0 {
		guard = min(overrun, max(spread(m, 1), leastOverrun))
	}
	present := 1 - sane(progress)/m.Work
	if m.N > 0 && -present > spread(m, 1) {
		guard = max(guard, tail*(straggleMost+present))
	}
	runs = max(present+float64(runsLeft-1)+extra, guard+float64(runsLeft-1))
	return runs, runs * m.Work
}

// spread is how far the work of n runs may lie above n times their mean, in runs: the deviation of a sum grows with √n. It does not
// shrink while a run goes on: how long that one is shows at its end. Until runs have shown their own deviation a guess is mixed in;
// before the first one Params.Caution stands for it.
func spread(m Model, n int) float64 {
	if m.N == 0 {
		return 0
	}
	return devWeight * m.deviation() * math.Sqrt(float64(min(n, lastRuns)))
}

// deviation is the relative standard deviation of a run: what was seen, and a guess that counts as one run.
func (m Model) deviation() float64 {
	seen := float64(m.N)
	return math.Sqrt((devGuess*devGuess + seen*m.Dev*m.Dev) / (seen + 1))
}

// uses is how many of c CPUs a job is expected to use on average while it is not waiting: all of one, and of more what its parallel
// part can work at. Where that part is not known it is at least hardly more than one.
func (m Model) uses(c float64) float64 {
	switch {
	case c <= 1:
		return c
	case m.ZZ <= 0:
		return min(c, serialUse)
	}
	return m.Work / (m.serial() + m.B/c)
}

// straggle is the share by which one run may take longer than the others. It is learnt by not being seen.
func (m Model) straggle() float64 {
	if m.N == 0 {
		return 0 // Params.Caution stands for it
	}
	return straggle / (1 + straggleFade*float64(m.N-1))
}

// scaled is the model of runs that have f times the work.
func (m Model) scaled(f float64) Model {
	m.A, m.B, m.Work = f*m.A, f*m.B, f*m.Work
	return m
}

// hopeFor is by which share the work of n more runs may yet lie below what is expected of it: two standard deviations of their
// mean and of the estimate's. Of a declared duration a quarter.
func hopeFor(m Model, n int) float64 {
	if m.N == 0 {
		return 0.25
	}
	return min(2*m.deviation()*math.Sqrt(1/float64(m.N)+1/float64(n)), 0.4)
}

// correct raises a need by what is lost between an allocation and its use: a job that is throttled and yet does not use its whole
// quota (its threads' periods do not fill it) gets nothing for the difference.
func correct(need float64, v JobView) float64 {
	if v.Memory.Fill <= 0 {
		return need
	}
	return need / min(max(v.Memory.Fill, leastFill), 1)
}

// fill is the smoothed share of its allocation that a job uses while it is throttled. One look says little: an iteration may have
// ended within it.
func (v JobView) fill() float64 {
	if v.Throttled < throttledFrom || v.Usage <= 0 || v.Allocation <= 0 {
		return v.Memory.Fill
	}
	if v.Allocation > 1 && v.Model.ZZ <= 0 {
		return v.Memory.Fill // how much of it a job uses in its serial parts is not known
	}
	used := min(v.Usage/v.Model.uses(v.Allocation), 1)
	if v.Memory.Fill <= 0 {
		return 1 - fillWeight*(1-used)
	}
	return v.Memory.Fill + fillWeight*(used-v.Memory.Fill)
}

const (
	throttledFrom = 0.05 // share of throttled periods from which a job counts as short of quota
	fillWeight    = 0.2  // of one look
	serialUse     = 1.4  // CPUs that a job of unknown kind uses at least, of more than one
	leastFill     = 0.8  // a need is raised by a quarter at most
)

// thesisState is the verdict of the thesis' text.
func (o outlook) thesisState(v JobView) State {
	if v.Framework == Chronos {
		return ThesisStateChronos(o.prediction, v.Start, v.Deadline, v.QoS.Deviation)
	}
	return ThesisStateMarathon(o.ratio, v.QoS.Deviation)
}

// codeState is the verdict of the thesis' program.
func (o outlook) codeState(v JobView) State {
	if v.Framework == Chronos {
		return CodeStateChronos(o.prediction, v.Start, v.Deadline, v.QoS.Deviation)
	}
	return CodeStateMarathon(o.ratio, v.QoS.Deviation)
}

// state is our verdict: the bounds of the thesis' Chronos rule, held against what the learnt model expects at the present
// allocation, for both frameworks. A late job is never OVER_PERFORMANT, one past its deadline always UNDER_PERFORMANT.
func (o outlook) state(v JobView) State {
	if o.past {
		return UnderPerformant
	}
	s := ThesisStateChronos(o.expected, v.Start, v.Deadline, v.QoS.Deviation)
	if o.late && s == OverPerformant {
		return OnPlan
	}
	return s
}

// decision is what every policy reports of a job, before it has decided anything.
func (o outlook) decision(v JobView, now time.Time, policy string) Decision {
	return Decision{
		Job: v.ID, At: now, Policy: policy,
		State: o.state(v), ThesisState: o.thesisState(v), Late: o.late,
		Ratio: o.ratio, Desired: o.desired, Prediction: o.prediction, Expected: o.expected,
		Need: min(o.need, v.Max), Bare: min(o.bare, v.Max), From: v.Allocation, To: v.Allocation,
		Infeasible: o.infeasible, Memory: v.Memory,
	}
}
