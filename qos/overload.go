package qos

import (
	"cmp"
	"math"
	"slices"
)

// settleOverload decides who can be on time when the jobs of a node ask for more than there is. Jobs are taken in the order of their
// deadlines; whenever those taken cannot all be on time, the one that costs most CPU per weight is put out (Moore and Hodgson's rule,
// for work that can be shared out and has a greatest speed). So the kept set is as heavy as this greedy rule can make it, instead of
// everybody being a little late. A verdict must hold for Params.DoomLooks looks before a job is lost by it: estimates are noisy.
func settleOverload(shares []*share, pool float64, p Params) {
	asked := 0.0
	for _, s := range shares {
		asked += s.claim
	}
	over := asked > pool+hair
	var kept []*share
	for _, s := range slices.SortedStableFunc(slices.Values(shares), byDeadline) {
		switch {
		case !over || s.past:
			continue
		case s.infeasible && !s.idle:
			s.out = true
			continue
		}
		kept = append(kept, s)
		for len(kept) > 0 && !onTime(kept, pool) {
			worst := slices.MaxFunc(kept, func(a, b *share) int {
				return cmp.Or(cmp.Compare(a.cost(), b.cost()), cmp.Compare(a.view.ID, b.view.ID))
			})
			worst.out = true
			kept = slices.DeleteFunc(kept, func(s *share) bool { return s == worst })
		}
	}
	for _, s := range shares {
		if !s.out {
			s.memory.Doomed = 0
			continue
		}
		s.memory.Doomed = min(s.memory.Doomed+1, p.DoomLooks)
		s.lost = s.lost || s.memory.Doomed >= p.DoomLooks
	}
}

func byDeadline(a, b *share) int {
	return cmp.Or(a.view.Deadline.Compare(b.view.Deadline), cmp.Compare(a.view.ID, b.view.ID))
}

// demand is the CPU seconds of allocation that being in time takes, by the estimate itself: a spread is no reason to give a job up.
func (s *share) demand() float64 { return min(s.bare, s.cap) * max(s.left, 0) }

// cost is the CPU seconds of allocation per weight; one that was put out before must be a tenth cheaper to be taken in again.
func (s *share) cost() float64 {
	c := s.demand() / orDefault(sane(s.view.QoS.Weight), 1)
	if s.view.Memory.Doomed > 0 {
		c *= 1.1
	}
	return c
}

// onTime says whether all these jobs can be on time with pool CPUs. Time is walked backwards from the last deadline: a job can be
// worked at from its deadline down to now, at most at its greatest speed, and whoever would take longest at it goes first. Work that
// is left over at the present moment is work that does not fit.
func onTime(jobs []*share, pool float64) bool {
	const pieces, tolerance = 8, 0.01
	type todo struct{ until, work, speed float64 }
	todos := make([]*todo, 0, len(jobs))
	ends := []float64{0}
	for _, s := range jobs {
		until := max(s.left-s.margin, 0)
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
	return rest <= math.Max(tolerance*all, hair)
}
