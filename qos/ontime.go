package qos

import (
	"cmp"
	"slices"
)

// throng is a set of jobs of which it is asked, as it grows and shrinks, whether all of it can be on time.
//
// A job can be worked at from now to its deadline, at most at its greatest speed. So of its work, at least
// work − speed × (deadline − a)⁺ is to be done in the next a seconds, whatever is done later. All can be on time if, and only if, for no a
// that adds up to more than pool × a: since everybody can begin now, no stretch of time is ever tighter than one that begins now
// (max-flow, min-cut). What there is too much at the worst a is the least that stays undone. The sum bends where a job must begin at the
// latest, and at its deadline; so one walk over these bends in their order settles it.
type throng struct {
	claimants []claimant // in the order that they came in
	bends     []bend     // in order of time
}

// claimant is a job and what it asks for: CPU seconds of work in so many seconds from now, at most at speed, and what keeping it costs.
type claimant struct {
	*share

	work, until, speed, cost float64
}

// bend is a moment, in seconds from now, from which on the CPUs that one job must have change.
type bend struct {
	at, cpus float64
	of       *share
}

// undone is the part of the work of a set that may stay undone: of estimates nothing finer can be said.
const undone = 0.01

func (t *throng) add(s *share) {
	m := claimant{s, s.demand(), max(s.left-s.reserve, 0), s.cap, s.cost()}
	t.claimants = append(t.claimants, m)
	if m.work <= 0 || m.speed <= 0 || m.until <= 0 {
		return
	}
	for _, b := range []bend{{max(m.until-m.work/m.speed, 0), m.speed, s}, {m.until, -m.speed, s}} {
		i, _ := slices.BinarySearchFunc(t.bends, b.at, func(x bend, at float64) int { return cmp.Compare(x.at, at) })
		t.bends = slices.Insert(t.bends, i, b)
	}
}

func (t *throng) drop(s *share) {
	t.claimants = slices.DeleteFunc(t.claimants, func(m claimant) bool { return m.share == s })
	t.bends = slices.DeleteFunc(t.bends, func(b bend) bool { return b.of == s })
}

// onTime says whether all of the set can be on time with pool CPUs.
func (t *throng) onTime(pool float64) bool {
	excess, all := 0.0, 0.0 // what even a whole node can't do of a job is too much from the first moment on
	for _, m := range t.claimants {
		all += m.work
		excess += max(m.work-m.speed*m.until, 0)
	}
	worst, at, cpus := excess, 0.0, -pool
	for _, b := range t.bends {
		excess += cpus * (b.at - at)
		worst, at, cpus = max(worst, excess), b.at, cpus+b.cpus
	}
	return worst <= max(undone*all, hair)
}

// dearest is the job that costs most to keep, of those that must stay on this node; nil: all can be moved.
func (t *throng) dearest() *share {
	var worst claimant
	for _, m := range t.claimants {
		if !m.mobile && (worst.share == nil || cmp.Or(cmp.Compare(m.cost, worst.cost), cmp.Compare(m.view.ID, worst.view.ID)) > 0) {
			worst = m
		}
	}
	return worst.share
}
