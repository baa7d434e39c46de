package qos

import (
	"cmp"
	"slices"
	"time"
)

// arbitrate gives each job its share of pool CPUs, tier by tier; a tier is served only from what those before it left.
//
//  1. Min for everybody.
//  2. The entitlement: what the best estimate needs, up to the request, which Mesos sold it. Not for jobs that are lost.
//  3. What a job asks for and has, if it was given to it within the dwell time, or if the overload rule would drop the job but is
//     not sure yet.
//  4. What the best estimate needs of each, those with the least laxity first, before the margin of any.
//  5. What jobs ask for up to their requests, then what they ask for and have, then all they ask for. Jobs that even Max cannot save
//     come after them, lost ones not yet.
//  6. What late jobs have.
//  7. Comfort: a little beyond the need, so that the next raise is not due at once, and what there is of a dead zone above that.
//  8. The request: who has it keeps it, who lent a part of it gets it back once nobody needs that part. Then what lost jobs ask for.
//  9. What everybody has: a loan is not taken back while nobody needs it, unless it costs more than it gains.
//  10. Run early: the rest, in proportion to need, in coarse steps.
//
// Where one of the later tiers runs short, the jobs that would lose least are served first, so that few are resized.
func arbitrate(shares []*share, pool float64, borrow bool, now time.Time, p Params) {
	has := func(s *share) float64 { return s.view.Allocation }
	asks := func(s *share) float64 { return s.claim }
	inTime := func(s *share) bool { return !s.out && !s.lost }
	found := func(s *share) bool { return !s.lost }
	everybody := func(*share) bool { return true }

	t := tiers{shares: shares, left: pool, params: p}
	for _, s := range shares {
		s.given = s.view.Min
		t.left -= s.given
	}
	t.serve(byLaxity, found, func(s *share) float64 { return min(s.claim, s.view.Request, ceilTo(s.bare, p.Quantum)) })
	t.serve(byLaxity, func(s *share) bool { return !s.lost && (s.out || s.dwells(now, p)) }, func(s *share) float64 { return min(s.claim, has(s)) })
	t.serve(byLaxity, inTime, func(s *share) float64 { return min(ceilTo(s.bare, p.Quantum), s.claim) })
	t.serve(byLaxity, found, func(s *share) float64 { return min(s.claim, s.view.Request) })
	t.serve(byLaxity, inTime, func(s *share) float64 { return min(s.claim, has(s)) })
	t.serve(byLaxity, inTime, asks)
	t.serve(byLaxity, found, asks)
	t.serve(byLoss(has), func(s *share) bool { return s.late }, has)
	t.serve(byLaxity, inTime, func(s *share) float64 { return s.comfort })
	t.serve(byLoss(has), inTime, func(s *share) float64 { return s.band })
	t.serve(byLoss(has), everybody, func(s *share) float64 { return min(has(s), s.view.Request) })
	t.serve(byLoss(has), func(s *share) bool { return s.mayRestore(t.left, now, p) }, func(s *share) float64 { return s.view.Request })
	t.serve(byLaxity, everybody, func(s *share) float64 { return s.leftover(t.left, p) })
	t.serve(byLoss(has), everybody, func(s *share) float64 { return s.keeps(now, p) })
	t.lowerCoarsely(p)
	if borrow {
		runEarly(shares, t.left, now, p)
	}
	for _, s := range shares {
		s.given = s.tidy(p)
	}
}

// tiers is the sharing out under way: what is left of the pool.
type tiers struct {
	shares []*share
	left   float64
	params Params
}

// serve raises the jobs that when holds for to target, in the given order, as far as the pool goes. A part of a raise that is not
// worth a resize is left in the pool.
func (t *tiers) serve(order func(a, b *share) int, when func(*share) bool, target func(*share) float64) {
	for _, s := range slices.SortedStableFunc(slices.Values(t.shares), order) {
		if !when(s) {
			continue
		}
		to := min(target(s), s.cap)
		has := s.view.Allocation
		if room := s.given + max(t.left, 0); room < to {
			to = room
			if to > has && to < has+0.5*deadZone(has, t.params) {
				to = max(s.given, has)
			}
		}
		if to > s.given {
			t.left -= to - s.given
			s.given = to
		}
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

// mayRestore says whether a job that lent a part of its request gets it back now: not within the dwell time, and not in pieces that
// are not worth a resize. It does not need that part, so there is no hurry.
func (s *share) mayRestore(left float64, now time.Time, p Params) bool {
	lent := s.view.Request - s.given
	return s.given >= s.view.Request || !s.dwells(now, p) && left >= min(lent, 2*deadZone(s.given, p))
}

// leftover is what a lost job is given of what those who can be in time leave: all it asks for, but not in small pieces.
func (s *share) leftover(left float64, p Params) float64 {
	has := s.view.Allocation
	if !s.lost || s.given+left < has+2*deadZone(has, p) {
		return min(has, s.claim)
	}
	return s.claim
}

// hurried says whether a job may run early with more than one CPU, at a greater cost: each of its runs must be launched anew, and what
// that takes can't be foreseen nor made up for by CPUs.
func (s *share) hurried() bool {
	return s.view.Deploy > 0 && s.need > hurryFrom && !s.idle && !s.lost
}

// keeps is what a job keeps while nobody needs it: all it has, but above one CPU only as long as that is of use, since there a run
// costs more CPU seconds than it would below.
func (s *share) keeps(now time.Time, p Params) float64 {
	a := s.view.Allocation
	if enough := max(1, s.view.Request, s.comfort); s.worthLowering(enough, p) && !s.lost && !s.hurried() && !s.dwells(now, p) {
		return enough
	}
	return a
}

// worthLowering says whether to lower what exceeds one CPU saves enough. What is saved are the CPU seconds of the serial parts yet to come,
// so the same step is worth more early in a job's life than at its end.
func (s *share) worthLowering(enough float64, p Params) bool {
	excess := s.view.Allocation - enough
	saved := excess * s.model.A * s.runs
	return excess > savedZones*deadZone(s.view.Allocation, p) && saved >= savedShare*s.model.Work*float64(max(s.view.Runs, 1))
}

// lowerCoarsely makes what is taken from a job worth a resize: at least a dead zone's width, as far as it neither needs it nor
// has bought it. What is taken too much stays in left, for the next one who needs some.
func (t *tiers) lowerCoarsely(p Params) {
	for _, s := range t.shares {
		if s.given >= s.view.Allocation-hair {
			continue
		}
		floor := max(min(s.comfort, s.view.Allocation), min(s.view.Request, s.cap), s.view.Min)
		to := min(s.given, max(s.view.Allocation-2*deadZone(s.view.Allocation, p), floor))
		t.left += s.given - to
		s.given = to
	}
}

// runEarly hands out what nobody needs, in proportion to need, so that all jobs gain the same share of time in hand. For c ≤ 1 an
// early CPU second costs no more than a late one; more than one CPU is given only to who is late or hurried.
// Only steps of two dead zones are made, and none within the dwell time of a change: a loan is meant to last.
func runEarly(shares []*share, left float64, now time.Time, p Params) {
	target := func(s *share, scale float64) float64 {
		most := min(s.cap, 1)
		if s.past || s.hurried() {
			most = s.cap
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
