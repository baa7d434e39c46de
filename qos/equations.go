package qos

import (
	"math"
	"time"
)

// The equations of S. López Huguet, Despliegue y monitorización de un clúster Mesos (master's thesis, UPV, 2017), as its text has them.
// Where the thesis' program differs from its text, the text is followed.

// superior is the share of the time allowed at which deadline_superior lies: 5 % are kept as tolerance (thesis, 3.2).
const superior = 0.95

// farthest bounds predictions, so that a job that does not move has one that can be printed.
const farthest = 10 * 365 * 24 * time.Hour

// Prediction is equation 1: when all iterations of a Chronos job will have ended.
//
//	prediction = time_current + remaining_iterations · (job_duration + sleeping_time + deployment_time)
//
// remaining counts the iterations that have not ended; duration (qos.duration), sleeping and deployment are seconds for each.
func Prediction(now time.Time, remaining int, duration, sleeping, deployment float64) time.Time {
	return now.Add(seconds(float64(max(remaining, 0)) * (duration + sleeping + deployment)))
}

// DeadlineSuperior is the bound above which a prediction means UNDER_PERFORMANT: start and 95 % of the time allowed.
func DeadlineSuperior(start, deadline time.Time) time.Time {
	return start.Add(scale(deadline.Sub(start), superior))
}

// DeadlineInferior is the bound below which a prediction means OVER_PERFORMANT: start and (1 − deviation) of the time allowed.
// (The thesis' program has start + deviation · allowed; its text, and its example of 100 s and 0.2 → 80, are followed.)
func DeadlineInferior(start, deadline time.Time, deviation float64) time.Time {
	return start.Add(scale(deadline.Sub(start), 1-deviation))
}

// CPUDesired is equation 2: the CPU seconds that an execution should have had.
//
//	cpu_desired(t) = (t − t_init) · job_duration / deadline   up to t_init + deadline, then job_duration
//
// Before t_init it is 0. duration is in CPU seconds, deadline is the time allowed from t_init.
func CPUDesired(now, start time.Time, duration float64, deadline time.Duration) float64 {
	elapsed := now.Sub(start)
	switch {
	case elapsed <= 0:
		return 0
	case elapsed >= deadline:
		return duration
	}
	return duration * elapsed.Seconds() / deadline.Seconds()
}

// ProgressRatio is equation 3: progress_ratio(t) = cpu_current(t) / cpu_desired(t). Where nothing is desired yet (less than
// a microsecond of CPU time) it is 1: nothing is missing.
func ProgressRatio(current, desired float64) float64 {
	if desired < 1e-6 {
		return 1
	}
	return current / desired
}

// ThesisStateChronos is the thesis' verdict on a Chronos job, from its prediction (equation 1).
func ThesisStateChronos(prediction, start, deadline time.Time, deviation float64) State {
	switch {
	case prediction.After(DeadlineSuperior(start, deadline)):
		return UnderPerformant
	case prediction.Before(DeadlineInferior(start, deadline, deviation)):
		return OverPerformant
	}
	return OnPlan
}

// ThesisStateMarathon is the thesis' verdict on a Marathon execution, from its progress ratio (equation 3):
// under 1 − deviation, over 1 + deviation. (The thesis' program has a fixed 0.95; its text is followed.)
func ThesisStateMarathon(ratio, deviation float64) State {
	switch {
	case ratio < 1-deviation:
		return UnderPerformant
	case ratio > 1+deviation:
		return OverPerformant
	}
	return OnPlan
}

// The verdicts of the thesis' program, where it differs from the text, for comparison.
const codeUnder = 0.95 // progress ratio of a Marathon execution below which it is UNDER_PERFORMANT, whatever its deviation

// CodeStateChronos is ThesisStateChronos with the bound that the thesis' program has: deadline_inferior = start + deviation · allowed.
func CodeStateChronos(prediction, start, deadline time.Time, deviation float64) State {
	return ThesisStateChronos(prediction, start, deadline, 1-deviation)
}

// CodeStateMarathon is ThesisStateMarathon with the thesis' program's fixed lower bound.
func CodeStateMarathon(ratio, deviation float64) State {
	if ratio < codeUnder {
		return UnderPerformant
	}
	return ThesisStateMarathon(max(ratio, 1-deviation), deviation)
}

// seconds is s as a duration, bounded by farthest; what is no number is bounded too.
func seconds(s float64) time.Duration {
	if math.IsNaN(s) || s >= farthest.Seconds() {
		return farthest
	}
	if s <= -farthest.Seconds() {
		return -farthest
	}
	return time.Duration(math.Round(s * float64(time.Second)))
}

// scale is a share of a duration.
func scale(d time.Duration, share float64) time.Duration {
	return time.Duration(math.Round(float64(d) * share))
}
