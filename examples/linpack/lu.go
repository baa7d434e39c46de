package main

import (
	"errors"
	"math"
	"sync"
	"sync/atomic"
)

const (
	panel = 48  // columns factored at a time
	tile  = 512 // columns updated at a time: panel × tile numbers stay in the second-level cache
	batch = 8   // rows that a thread takes at a time
)

// errSingular says that a pivot was 0: the system has no single solution.
var errSingular = errors.New("matrix is singular")

// factor replaces m by its factors: L below the diagonal (whose own diagonal is 1), U on it and above. piv[k] is the row that
// was exchanged with row k. The right-looking blocked algorithm: panels are factored by one thread, what is right of and below
// them is updated by all. The result does not depend on the number of threads.
func factor(m matrix, piv []int, threads int) error {
	for k := 0; k < m.n; k += panel {
		end := min(k+panel, m.n)
		if err := factorPanel(m, piv, k, end); err != nil {
			return err
		}
		solveRight(m, k, end)
		update(m, k, end, threads)
	}
	return nil
}

// factorPanel factors columns k to end, from row k down. Rows are exchanged over their whole length.
func factorPanel(m matrix, piv []int, k, end int) error {
	for j := k; j < end; j++ {
		p := j
		for i := j + 1; i < m.n; i++ {
			if math.Abs(m.a[i*m.n+j]) > math.Abs(m.a[p*m.n+j]) {
				p = i
			}
		}
		if m.a[p*m.n+j] == 0 {
			return errSingular
		}
		piv[j] = p
		if p != j {
			swap(m.row(p), m.row(j))
		}
		top := m.row(j)[j:end]
		inverse := 1 / top[0]
		for i := j + 1; i < m.n; i++ {
			r := m.row(i)[j:end]
			f := r[0] * inverse
			r[0] = f
			for c := 1; c < len(top); c++ {
				r[c] -= f * top[c]
			}
		}
	}
	return nil
}

func swap(x, y []float64) {
	y = y[:len(x)]
	for i := range x {
		x[i], y[i] = y[i], x[i]
	}
}

// solveRight turns the rows of the panel, right of it, into rows of U.
func solveRight(m matrix, k, end int) {
	for i := k + 1; i < end; i++ {
		r := m.row(i)
		for p := k; p < i; p++ {
			subtract(r[end:], m.row(p)[end:], r[p])
		}
	}
}

// subtract is c −= f·u.
func subtract(c, u []float64, f float64) {
	u = u[:len(c)]
	for j := range c {
		c[j] -= f * u[j]
	}
}

// update subtracts L21·U12 from what is below and right of the panel: nearly all of the work.
func update(m matrix, k, end, threads int) {
	batches := (m.n - end + batch - 1) / batch
	threads = min(threads, batches)
	if threads <= 1 {
		updateRows(m, k, end, end, m.n)
		return
	}
	var next atomic.Int64
	var all sync.WaitGroup
	for range threads {
		all.Go(func() {
			for b := int(next.Add(1)) - 1; b < batches; b = int(next.Add(1)) - 1 {
				from := end + b*batch
				updateRows(m, k, end, from, min(from+batch, m.n))
			}
		})
	}
	all.Wait()
}

// updateRows updates rows from to to, tile by tile, two rows and four columns of L at a time.
func updateRows(m matrix, k, end, from, to int) {
	for j := end; j < m.n; j += tile {
		stop := min(j+tile, m.n)
		i := from
		for ; i+1 < to; i += 2 {
			l0, l1 := m.row(i)[k:end], m.row(i + 1)[k:end]
			c0, c1 := m.row(i)[j:stop], m.row(i + 1)[j:stop]
			p := 0
			for ; p+3 < end-k; p += 4 {
				block(m, k+p, j, stop, c0, c1, l0[p:p+4], l1[p:p+4])
			}
			for ; p < end-k; p++ {
				u := m.row(k + p)[j:stop]
				subtract(c0, u, l0[p])
				subtract(c1, u, l1[p])
			}
		}
		for ; i < to; i++ {
			for p := k; p < end; p++ {
				subtract(m.row(i)[j:stop], m.row(p)[j:stop], m.row(i)[p])
			}
		}
	}
}

// block is the innermost loop: two rows less four rows of U, each times its factor of L.
func block(m matrix, p, j, stop int, c0, c1, l0, l1 []float64) {
	u0 := m.row(p)[j:stop]
	u1, u2, u3 := m.row(p + 1)[j:stop][:len(u0)], m.row(p + 2)[j:stop][:len(u0)], m.row(p + 3)[j:stop][:len(u0)]
	c0, c1 = c0[:len(u0)], c1[:len(u0)]
	a0, a1, a2, a3 := l0[0], l0[1], l0[2], l0[3]
	b0, b1, b2, b3 := l1[0], l1[1], l1[2], l1[3]
	for x, v0 := range u0 {
		v1, v2, v3 := u1[x], u2[x], u3[x]
		c0[x] -= a0*v0 + a1*v1 + a2*v2 + a3*v3
		c1[x] -= b0*v0 + b1*v1 + b2*v2 + b3*v3
	}
}

// solve replaces b by the solution of the system whose factors m and piv are.
func solve(m matrix, piv []int, b []float64) {
	for k, p := range piv {
		b[k], b[p] = b[p], b[k]
	}
	for i := range b {
		b[i] -= dot(m.row(i)[:i], b)
	}
	for i := m.n - 1; i >= 0; i-- {
		b[i] = (b[i] - dot(m.row(i)[i+1:], b[i+1:])) / m.row(i)[i]
	}
}

// dot is x·y over the length of x.
func dot(x, y []float64) float64 {
	var sum float64
	y = y[:len(x)]
	for i, v := range x {
		sum += v * y[i]
	}
	return sum
}
