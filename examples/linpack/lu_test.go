package main

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// system makes, factors and solves a random system and returns the factors, the solution and the residual.
func system(t testing.TB, n, threads int, seed uint64) (matrix, []float64, float64) {
	t.Helper()
	m := matrix{n: n, a: make([]float64, n*n)}
	b, piv := make([]float64, n), make([]int, n)
	fill(m, b, seed)
	original, x := matrix{n: n, a: slices.Clone(m.a)}, slices.Clone(b)
	if err := factor(m, piv, threads); err != nil {
		t.Fatalf("factor n=%d seed=%d: %v", n, seed, err)
	}
	solve(m, piv, x)
	return m, x, residual(original, x, b)
}

func TestResidualIsSmall(t *testing.T) {
	t.Parallel()
	// Around the edges of panel, tile and batch.
	for _, n := range []int{1, 2, 3, 47, 48, 49, 55, 57, 96, 97, 200, 511, 512, 561, 700} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			if _, _, r := system(t, n, 2, 7); !(r < 16) {
				t.Errorf("residual %g, want < 16", r)
			}
		})
	}
}

func TestSameResultOnAnyNumberOfThreads(t *testing.T) {
	t.Parallel()
	want, x, _ := system(t, 333, 1, 42)
	for _, threads := range []int{2, 3, 8} {
		m, y, _ := system(t, 333, threads, 42)
		if !slices.Equal(m.a, want.a) || !slices.Equal(x, y) {
			t.Errorf("%d threads give other factors or another solution than one", threads)
		}
	}
}

func TestSeedsDiffer(t *testing.T) {
	t.Parallel()
	_, x, _ := system(t, 20, 1, 1)
	_, y, _ := system(t, 20, 1, 2)
	if slices.Equal(x, y) {
		t.Error("two seeds give the same system")
	}
}

func TestKnownSolutionIsFound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 120).Draw(t, "n")
		m := matrix{n: n, a: make([]float64, n*n)}
		b, piv, want := make([]float64, n), make([]int, n), make([]float64, n)
		fill(m, want, rapid.Uint64().Draw(t, "seed"))
		for i := range b {
			b[i] = dot(m.row(i), want)
		}
		original, x := matrix{n: n, a: slices.Clone(m.a)}, slices.Clone(b)
		if err := factor(m, piv, rapid.IntRange(1, 4).Draw(t, "threads")); err != nil {
			t.Fatal(err)
		}
		solve(m, piv, x)
		if r := residual(original, x, b); !(r < 16) {
			t.Errorf("residual %g, want < 16", r)
		}
	})
}

func TestZeroMatrixIsSingular(t *testing.T) {
	t.Parallel()
	m := matrix{n: 3, a: make([]float64, 9)}
	if err := factor(m, make([]int, 3), 1); !errors.Is(err, errSingular) {
		t.Errorf("factor: %v, want %v", err, errSingular)
	}
}

func BenchmarkFactor(b *testing.B) {
	const n = 800
	m := matrix{n: n, a: make([]float64, n*n)}
	v, piv := make([]float64, n), make([]int, n)
	for b.Loop() {
		fill(m, v, 1)
		if err := factor(m, piv, 1); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(2*n*n*n/3.0*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFlop/s")
}
