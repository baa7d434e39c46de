package qos

import "math"

// Model is the time of one run as a function of its CPUs, T(c) = A + B/c seconds, learnt from the runs seen.
//
// A is serial work and waiting. Below one CPU serial work is stretched as well, waiting is not; the three parts follow from A, B and
// the CPU seconds that a run burns:
//
//	serial = Work − B    waiting = A − serial    T(c) = waiting + serial/min(c,1) + B/c
//
// So for c ≤ 1 and no waiting T(c) = Work/c, and a run costs the same CPU seconds whatever its speed; above one CPU only B gains.
type Model struct {
	A    float64 `json:"a"`    // seconds that more CPUs do not shorten
	B    float64 `json:"b"`    // CPU seconds that they do
	Work float64 `json:"work"` // CPU seconds that one run burns
	Dev  float64 `json:"dev"`  // relative standard deviation seen
	N    int     `json:"n"`    // runs seen

	// Sums of the regression for the parallel share B/Work, over runs above one CPU; old runs fade.
	ZZ float64 `json:"zz,omitempty"`
	ZY float64 `json:"zy,omitempty"`
}

const (
	parallelGuess = 0.5  // share of a run that more than one CPU shortens, before a run above one CPU was seen
	forget        = 0.15 // weight of the newest run once there are many
	waitFloor     = 0.1  // share of a run that must pass unused before it is taken for waiting, not for noise
)

// Guess is the model of a job that was never seen: its declared duration in CPU seconds, half of it parallel.
func Guess(duration float64) Model {
	w := sane(duration)
	return Model{A: (1 - parallelGuess) * w, B: parallelGuess * w, Work: w}
}

// Observe learns from an ended run: its wall time in seconds, the mean CPUs that it was allowed, and the CPU seconds that it burnt.
// A run shorter than a millisecond, or without work, or with figures out of this world, teaches nothing.
func (m *Model) Observe(wall, cpus, work float64) {
	for _, x := range []float64{wall, cpus, work} {
		if !(x >= 1e-3 && x <= 1e9) { // NaN too
			return
		}
	}
	weight := max(forget, 1/float64(m.N+1))
	if m.N > 0 {
		d := min(work/m.Work-1, 1) // an outlier counts as one deviation of 100 %
		// The first deviation is one of two runs about their mean; later ones are about the mean of those before.
		m.Dev = math.Sqrt((1-weight)*m.Dev*m.Dev + weight*d*d)
	}
	waiting := m.waiting()
	m.N++
	m.Work += weight * (work - m.Work)
	if m.N == 1 {
		m.Work, waiting = work, 0
	}

	parallel := parallelGuess
	if z := 1 - 1/cpus; z > 0.05 {
		m.ZZ = (1-forget)*m.ZZ + z*z
		m.ZY = (1-forget)*m.ZY + z*(work+waiting-wall)/work
	} else {
		w := wall - work/min(cpus, 1)
		if w < waitFloor*wall {
			w = 0
		}
		waiting += weight * (w - waiting)
	}
	if m.ZZ > 0 {
		parallel = min(max(m.ZY/m.ZZ, 0), 1)
	}
	m.B = parallel * m.Work
	m.A = m.Work - m.B + max(waiting, 0)
}

// Time is the wall time in seconds of one run with c CPUs; +Inf without any.
func (m Model) Time(c float64) float64 {
	if c <= 0 {
		return math.Inf(1)
	}
	return m.waiting() + m.serial()/min(c, 1) + m.B/c
}

// CPUsFor is the least number of CPUs with which a run ends within t seconds; +Inf if none is enough.
func (m Model) CPUsFor(t float64) float64 {
	waiting := m.waiting()
	switch {
	case m.serial()+m.B <= 0:
		return 0
	case t >= waiting+m.serial()+m.B:
		return (m.serial() + m.B) / (t - waiting)
	case t-m.A > 1e-9*m.A && m.B > 0:
		return m.B / (t - m.A)
	}
	return math.Inf(1)
}

// Sound says whether a model that was made elsewhere can be used: its figures are finite, and fit together.
func (m Model) Sound() bool {
	const most = 1e9
	for _, x := range []float64{m.A, m.B, m.Work, m.Dev, m.ZZ} {
		if !(x >= 0 && x <= most) { // NaN too
			return false
		}
	}
	return m.N > 0 && m.Work > 0 && m.B <= m.Work*(1+1e-6) && m.Dev <= 1 && math.Abs(m.ZY) <= most
}

// serial is the CPU seconds of a run that only one CPU can work at.
func (m Model) serial() float64 { return min(max(m.Work-m.B, 0), m.A) }

// waiting is the seconds of a run in which it wants no CPU.
func (m Model) waiting() float64 { return max(m.A-m.serial(), 0) }

// sane is x, or 0 for what is no positive finite number.
func sane(x float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) || x < 0 {
		return 0
	}
	return x
}
