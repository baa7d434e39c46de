package main

import "math"

// matrix is a square matrix of n rows, row after row.
type matrix struct {
	n int
	a []float64
}

// row returns row i, to be read and written.
func (m matrix) row(i int) []float64 { return m.a[i*m.n : (i+1)*m.n] }

// splitmix is Vigna's SplitMix64: small, fast, and the same on every machine.
type splitmix uint64

// next returns a number in [-0.5, 0.5), as LINPACK's own generator does.
func (s *splitmix) next() float64 {
	*s += 0x9e3779b97f4a7c15
	z := uint64(*s)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return float64(z>>11)/(1<<53) - 0.5
}

// fill makes m and b a random system of equations: the same one for the same seed.
func fill(m matrix, b []float64, seed uint64) {
	s := splitmix(seed)
	for i := range m.a {
		m.a[i] = s.next()
	}
	for i := range b {
		b[i] = s.next()
	}
}

// residual is LINPACK's normalised residual ‖b − A·x‖∞ / (ε · (‖A‖∞·‖x‖∞ + ‖b‖∞) · n); HPL takes up to 16 for right.
func residual(m matrix, x, b []float64) float64 {
	var normA, normX, normB, worst float64
	for i := range b {
		var sum, abs float64
		for j, v := range m.row(i) {
			sum += v * x[j]
			abs += math.Abs(v)
		}
		worst = math.Max(worst, math.Abs(b[i]-sum))
		normA = math.Max(normA, abs)
		normB = math.Max(normB, math.Abs(b[i]))
		normX = math.Max(normX, math.Abs(x[i]))
	}
	const epsilon = 0x1p-52
	return worst / (epsilon * (normA*normX + normB) * float64(m.n))
}
