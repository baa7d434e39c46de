package qos

import (
	"cmp"
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
	if over {
		putOut(slices.SortedStableFunc(slices.Values(shares), byDeadline), pool)
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

// putOut takes the jobs in their order, and puts out who costs most whenever those taken cannot all be on time.
func putOut(shares []*share, pool float64) {
	var kept throng
	for _, s := range shares {
		switch {
		case s.lost:
			continue
		case s.infeasible && !s.idle:
			s.out = true
			continue
		}
		kept.add(s)
		for !kept.onTime(pool) {
			worst := kept.dearest()
			if worst == nil {
				break
			}
			worst.out = true
			kept.drop(worst)
		}
	}
}

func byDeadline(a, b *share) int {
	return cmp.Or(a.view.Deadline.Compare(b.view.Deadline), cmp.Compare(a.view.ID, b.view.ID))
}

// demand is the CPU seconds of allocation that being in time takes, by the estimate itself: a spread is no reason to give a job up.
func (s *share) demand() float64 { return min(s.least, s.cap) * max(s.left, 0) }

// cost is the CPU seconds of allocation per weight; one that was put out before must be a tenth cheaper to be taken in again.
func (s *share) cost() float64 {
	c := s.demand() / orDefault(sane(s.view.QoS.Weight), 1)
	if s.view.Memory.Doomed > 0 {
		c *= 1.1
	}
	return c
}
