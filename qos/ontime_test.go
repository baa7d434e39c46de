package qos

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// walkedOnTime is the verdict as it was reached before: time is walked backwards from the last deadline in pieces, and whoever would take
// longest goes first. It is a schedule, but no perfect one, since nobody changes places within a piece; and it takes long.
func walkedOnTime(jobs []*share, pool float64) bool {
	const pieces = 8
	type todo struct{ until, work, speed float64 }
	todos := make([]*todo, 0, len(jobs))
	ends := []float64{0}
	for _, s := range jobs {
		until := max(s.left-s.reserve, 0)
		todos = append(todos, &todo{until, s.demand(), s.cap})
		ends = append(ends, until)
	}
	slices.Sort(ends)
	ends = slices.Compact(ends)
	for k := len(ends) - 1; k > 0; k-- {
		step := (ends[k] - ends[k-1]) / pieces
		for range pieces {
			room := pool * step
			slices.SortStableFunc(todos, func(a, b *todo) int { return cmp.Compare(b.work/b.speed, a.work/a.speed) })
			for _, t := range todos {
				if t.until < ends[k] {
					continue
				}
				done := min(t.work, t.speed*step, room)
				t.work -= done
				room -= done
			}
		}
	}
	rest, all := 0.0, 0.0
	for i, t := range todos {
		rest += t.work
		all += jobs[i].demand()
	}
	return rest <= math.Max(undone*all, hair)
}

// onTime is the verdict about all of them.
func onTime(jobs []*share, pool float64) bool {
	var t throng
	for _, s := range jobs {
		t.add(s)
	}
	return t.onTime(pool)
}

// genShares are jobs with work that each could do alone, or nearly.
func genShares(most int) *rapid.Generator[[]*share] {
	return rapid.Custom(func(t *rapid.T) []*share {
		same := rapid.Bool().Draw(t, "one deadline")
		list := make([]*share, rapid.IntRange(1, most).Draw(t, "n"))
		for i := range list {
			left := rapid.Float64Range(10, 1000).Draw(t, "left")
			if same && i > 0 {
				left = list[0].left
			}
			reserve := rapid.SampledFrom([]float64{0, 0, 5}).Draw(t, "reserve")
			speed := rapid.SampledFrom([]float64{0.5, 1, 2, 4}).Draw(t, "speed")
			list[i] = worker(i, left, reserve, speed, speed*rapid.Float64Range(0, 1.05).Draw(t, "least"))
		}
		return list
	})
}

// worker is a job with so many seconds left that needs at least so many CPUs.
func worker(i int, left, reserve, speed, least float64) *share {
	s := &share{view: JobView{ID: fmt.Sprint(i), Deadline: at(left)}, cap: speed, mobile: i%11 == 10}
	s.left, s.reserve, s.least = left, reserve, least
	return s
}

// What a schedule can do is never called too much; and what is not called too much the walk can do with a twentieth more of a node.
func TestOnTimeIsWhatTheWalkFinds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		jobs := genShares(12).Draw(t, "jobs")
		rate := 0.0
		for _, s := range jobs {
			rate += s.least
		}
		pool := rate * rapid.Float64Range(0.5, 1.5).Draw(t, "pool")
		switch now := onTime(jobs, pool); {
		case walkedOnTime(jobs, pool) && !onTime(jobs, pool*(1+hair)):
			t.Fatal("a schedule has them on time, and it is said that there is none")
		case now && !walkedOnTime(jobs, pool*1.05):
			t.Fatal("all can be on time, and a walk with more room does not find that")
		}
	})
}

// walkedOut says who is put out, as it was found before.
func walkedOut(shares []*share, pool float64) (out []string) {
	var kept []*share
	for _, s := range slices.SortedStableFunc(slices.Values(shares), byDeadline) {
		kept = append(kept, s)
		for !walkedOnTime(kept, pool) {
			fixed := slices.DeleteFunc(slices.Clone(kept), func(s *share) bool { return s.mobile })
			if len(fixed) == 0 {
				break
			}
			worst := slices.MaxFunc(fixed, func(a, b *share) int {
				return cmp.Or(cmp.Compare(a.cost(), b.cost()), cmp.Compare(a.view.ID, b.view.ID))
			})
			out = append(out, worst.view.ID)
			kept = slices.DeleteFunc(kept, func(s *share) bool { return s == worst })
		}
	}
	slices.Sort(out)
	return out
}

func TestTheSameJobsArePutOutAsByTheWalk(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		var jobs []*share
		rate := 0.0
		for i := range 2 + r.IntN(14) {
			left := 10 + 990*r.Float64()
			if seed%2 == 1 && i > 0 {
				left = jobs[0].left
			}
			speed := []float64{0.5, 1, 2, 4}[r.IntN(4)]
			jobs = append(jobs, worker(i, left, 5*float64(r.IntN(2)), speed, speed*r.Float64()))
			rate += jobs[i].least
		}
		pool := rate * (0.2 + 0.8*r.Float64())
		want := walkedOut(jobs, pool)
		putOut(slices.SortedStableFunc(slices.Values(jobs), byDeadline), pool)
		var got []string
		for _, s := range jobs {
			if s.out {
				got = append(got, s.view.ID)
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("seed %d: %v are put out of %d, the walk says %v", seed, got, len(jobs), want)
		}
	}
}

func BenchmarkOverload(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		for _, spread := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d jobs, spread %t", n, spread), func(b *testing.B) {
				node := NodeView{Now: at(50), CPUs: float64(n) / 10, Borrow: true}
				for i := range n {
					node.Jobs = append(node.Jobs, job(func(v *JobView) {
						v.ID, v.Request, v.Allocation = fmt.Sprint(i), 0.1, 0.1
						v.Deadline = at(100)
						if spread {
							v.Deadline = v.Deadline.Add(time.Duration(i) * 100 * time.Millisecond)
						}
					}))
				}
				pol, err := NewPolicy(PolicyDeadline, Params{})
				if err != nil {
					b.Fatal(err)
				}
				before := cpuTime(b)
				for b.Loop() {
					pol.Decide(node)
				}
				b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N)/1e6, "cpu-ms/op") // others may be busy too
			})
		}
	}
}

// cpuTime is what this process has had.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
