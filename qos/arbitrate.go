package qos

import (
	"cmp"
	"slices"
	"time"
)

// arbitrate gives each job its share of pool CPUs, tier by tier; a tier is served only from what those before it left.
//
//  1. Min for everybody.
//  2. The entitlement: what a job asks for, up to its request, which Mesos sold it. Not for jobs that are lost.
//  3. Jobs that the overload rule would drop, but not for long enough to be sure, keep what they have of what they ask for.
//  4. What jobs ask for beyond that, those with the least laxity first.
//  5. The same for jobs that no allocation can save any more, and what late jobs have.
//  6. What somebody was given within the dwell time.
//  7. The request: who lent a part of it gets it back as soon as nobody needs that part.
//  8. What everybody has: a loan is not taken back while nobody needs it.
//  9. Run early: the rest, in proportion to need, in coarse steps.
//
// Where a tier runs short, the jobs that would lose least are served first, so that few are resized.
func arbitrate(shares []*share, pool float64, borrow bool, now time.Time, p Params) {
	left := pool
	tier := func(order func(a, b *share) int, target func(*share) float64) {
		for _, s := range slices.SortedStableFunc(slices.Values(shares), order) {
			if more := min(target(s), s.cap) - s.given; more > 0 {
				more = min(more, max(left, 0))
				s.given += more
				left -= more
			}
		}
	}
	has := func(s *share) float64 { return s.view.Allocation }
	request := func(s *share) float64 { return s.view.Request }

	for _, s := range shares {
		s.given = s.view.Min
		left -= s.given
	}
	tier(byLaxity, only(func(s *share) bool { return !s.lost }, func(s *share) float64 { return min(s.claim, s.view.Request) }))
	tier(byLaxity, only(func(s *share) bool { return s.out && !s.lost }, func(s *share) float64 { return min(s.claim, s.view.Allocation) }))
	tier(byLaxity, only(func(s *share) bool { return !s.out && !s.lost }, func(s *share) float64 { return s.claim }))
	tier(byLaxity, func(s *share) float64 { return s.claim })
	tier(byLoss(has), only(func(s *share) bool { return s.late }, has))
	tier(byLoss(has), only(func(s *share) bool { return s.dwells(now, p) }, has))
	tier(byLoss(request), request)
	tier(byLoss(has), func(s *share) float64 { return s.keeps(now, p) })
	lowerCoarsely(shares, &left, p)
	if borrow {
		runEarly(shares, left, now, p)
	}
	for _, s := range shares {
		s.given = s.tidy(p)
	}
}

// only limits a tier to the jobs that when holds for.
func only(when func(*share) bool, target func(*share) float64) func(*share) float64 {
	return func(s *share) float64 {
		if !when(s) {
			return 0
		}
		return target(s)
	}
}

// byLaxity puts the job that can wait least first. Laxities within a twentieth of the time allowed count as equal, and then the
// earlier deadline goes first: a strict order would make jobs of equal laxity take turns.
func byLaxity(a, b *share) int {
	return cmp.Or(
		cmp.Compare(a.urgency(), b.urgency()),
		a.view.Deadline.Compare(b.view.Deadline),
		cmp.Compare(a.view.ID, b.view.ID),
	)
}

// urgency is the laxity in twentieths of the time allowed.
func (s *share) urgency() float64 {
	return floorTo(s.laxity/max(s.view.Deadline.Sub(s.view.Start).Seconds(), 1), 0.05)
}

// byLoss puts the job first that would lose least if it were not given target.
func byLoss(target func(*share) float64) func(a, b *share) int {
	return func(a, b *share) int {
		return cmp.Or(
			cmp.Compare(target(a)-a.given, target(b)-b.given),
			cmp.Compare(a.view.ID, b.view.ID),
		)
	}
}

// dwells says whether the allocation was changed a moment ago.
func (s *share) dwells(now time.Time, p Params) bool {
	return !s.view.LastChange.IsZero() && now.Sub(s.view.LastChange) < p.Dwell
}

// keeps is what a job keeps while nobody needs it: all it has, but above one CPU only as long as that is of use, since there a run
// costs more CPU seconds than it would below.
func (s *share) keeps(now time.Time, p Params) float64 {
	if s.view.Allocation > 1 && !s.above && !s.idle && !s.dwells(now, p) {
		return max(1, s.view.Request, s.claim)
	}
	return s.view.Allocation
}

// lowerCoarsely makes what is taken from a job worth a resize: at least a dead zone's width, as far as it neither needs it nor
// has bought it. What is taken too much stays in left, for the next one who needs some.
func lowerCoarsely(shares []*share, left *float64, p Params) {
	for _, s := range shares {
		if s.given >= s.view.Allocation-hair {
			continue
		}
		floor := max(s.claim, min(s.view.Request, s.cap), s.view.Min)
		to := min(s.given, max(s.view.Allocation-2*deadZone(s.view.Allocation, p), floor))
		*left += s.given - to
		s.given = to
	}
}

// runEarly hands out what nobody needs, in proportion to need, so that all jobs gain the same share of time in hand. For c ≤ 1 an
// early CPU second costs no more than a late one; more than one CPU is given only to a job that needs nearly one.
// Only steps of two dead zones are made, and none within the dwell time of a change: a loan is meant to last.
func runEarly(shares []*share, left float64, now time.Time, p Params) {
	target := func(s *share, scale float64) float64 {
		most := s.cap
		if !s.above {
			most = min(most, 1)
		}
		return max(s.given, min(scale*max(min(s.need, s.cap), p.Quantum), most))
	}
	eligible := make([]*share, 0, len(shares))
	for _, s := range shares {
		if !s.idle && s.given >= s.view.Allocation-hair && !s.dwells(now, p) && s.remaining > 0 {
			eligible = append(eligible, s)
		}
	}
	total := func(scale float64) (sum float64) {
		for _, s := range eligible {
			sum += target(s, scale) - s.given
		}
		return sum
	}
	low, high := 0.0, 1e6
	if total(high) <= left {
		low = high
	}
	for i := 0; i < 60 && high-low > 1e-6*high; i++ {
		if mid := (low + high) / 2; total(mid) <= left {
			low = mid
		} else {
			high = mid
		}
	}
	for _, s := range eligible {
		to := target(s, low)
		if to-s.view.Allocation >= 2*deadZone(s.view.Allocation, p) || s.given > s.view.Allocation+hair {
			s.given = to
		}
	}
}

// tidy is the share as an allocation that can be written: what the job has where the change is none, a known figure as it is, else
// a multiple of the quantum.
func (s *share) tidy(p Params) float64 {
	for _, known := range []float64{s.view.Allocation, s.view.Request, s.view.Min, s.view.Max, s.claim} {
		if d := s.given - known; -hair < d && d < hair {
			return known
		}
	}
	return max(floorTo(s.given, p.Quantum), s.view.Min)
}
