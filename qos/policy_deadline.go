package qos

import (
	"math"
	"time"
)

// deadlinePolicy computes what each job needs to be in time, and shares the node out by it. The law stands in the package comment.
type deadlinePolicy struct{ params Params }

// Name is PolicyDeadline.
func (deadlinePolicy) Name() string { return PolicyDeadline }

// Decide shares the node out.
func (p deadlinePolicy) Decide(n NodeView) []Decision {
	shares := make([]*share, 0, len(n.Jobs))
	for _, v := range n.Jobs {
		shares = append(shares, newShare(v, n, p.params))
	}
	pool := n.CPUs - n.Sold
	settleOverload(shares, pool, p.params)
	arbitrate(shares, pool, n.Borrow, n.Now, p.params)
	countCrowd(shares, pool)

	out := make([]Decision, 0, len(n.Jobs))
	for _, s := range shares {
		d := s.decision(s.view, n.Now, p.Name())
		d.To = s.given
		d.Memory = s.memory
		d.Lost, d.Hopeless = s.lost, s.hopeless
		d.Rule, d.Reason = explain(s, shares, pool)
		out = append(out, d)
	}
	return out
}

// share is one job's part in the sharing out of a node.
type share struct {
	outlook
	view   JobView
	cap    float64 // most it may be given: Max, or the request where nothing may be borrowed
	given  float64
	memory Memory

	claim   float64 // CPUs it asks for: its need with hysteresis, within Min..cap
	comfort float64 // a little more, so that it need not ask again at once
	band    float64 // what it has of the dead zone above comfort: not worth taking
	idle    bool    // leaves its allocation unused and is not throttled: more CPUs would not help
	lost    bool    // the overload rule found no room for it often enough, or its deadline is over
	out     bool    // the overload rule finds no room for it at this look
	mobile  bool    // it need not stay here: another node has what it needs
}

const (
	idleLooks   = 2    // looks in a row that prove a job does not use its allocation
	idleBelow   = 0.9  // share of the allocation that such a job uses at most
	idleAbove   = 0.75 // the same above one CPU, of what it is expected to use
	crowdedFrom = 0.9  // share of the node's CPUs in use from which a job may be waiting for its neighbours
	idleRoom    = 1.25 // what it may keep, of what it uses
	raiseExtra  = 1.05 // a raise goes so far beyond the need, so that the next one is not due at once
	savedZones  = 1.5  // dead zones by which more than one CPU must be too much to be lowered
	savedShare  = 0.03 // share of a job's whole work that this must save
	hurryFrom   = 0.5  // need from which a job whose runs are launched one by one is given more than one CPU early
	settled     = 2 * time.Second
)

// newShare works out what a job asks for.
func newShare(v JobView, n NodeView, p Params) *share {
	v.Memory.Fill = v.fill()
	s := &share{outlook: look(v, n.Now, p), view: v, memory: v.Memory, cap: v.Max}
	if !n.Borrow {
		s.cap = max(min(v.Max, v.Request), v.Min)
	}
	s.idle = s.countIdle(n)
	s.lost = s.hopeless
	s.mobile = n.Spare > 0 && n.Spare >= min(s.bare, v.Max)-hair

	want := s.need
	if s.idle {
		want = min(want, max(idleRoom*v.Usage, min(v.Request, want)))
	}
	a := v.Allocation
	switch raise := want > a+0.5*deadZone(a, p) && s.urgent > a; {
	case s.past:
		// As fast as can be from what is left over, but nobody who can be in time waits for it.
		s.claim, s.comfort = v.Request, v.Request
	case raise && !s.idle:
		s.claim, s.comfort = ceilTo(want, p.Quantum), ceilTo(want*raiseExtra, p.Quantum)
	default:
		s.claim, s.comfort = min(ceilTo(want, p.Quantum), a), min(ceilTo(want*raiseExtra, p.Quantum), a)
	}
	s.claim = min(max(s.claim, v.Min), s.cap)
	s.comfort = min(max(s.comfort, s.claim), s.cap)
	s.band = s.comfort
	if a > s.comfort {
		s.band = min(a, s.comfort+deadZone(a, p), s.cap)
	}
	return s
}

// countIdle notes whether the job leaves its allocation unused, and says whether it has done so long enough to be sure. The first
// moments of a run, or after a change, prove nothing; nor does a node that is busy all over, where a job waits for its neighbours.
func (s *share) countIdle(n NodeView) bool {
	v, now := s.view, n.Now
	crowded := n.Busy >= crowdedFrom*n.CPUs
	young := now.Sub(v.RunStart) < settled || !v.LastChange.IsZero() && now.Sub(v.LastChange) < settled
	switch {
	case crowded || v.Throttled >= throttledFrom || v.Usage >= s.idleBelow():
		s.memory.Idle = 0
	case !young:
		s.memory.Idle = min(s.memory.Idle+1, idleLooks)
	}
	return s.memory.Idle >= idleLooks
}

// idleBelow is the use below which a job leaves CPUs unused. Of more than one, how many it can use changes from part to part.
func (s *share) idleBelow() float64 {
	if s.view.Allocation > 1 {
		return idleAbove * s.uses
	}
	return idleBelow * s.view.Allocation
}

// countCrowd notes whether the jobs of a node need more than there is; where they do, some had better be elsewhere.
func countCrowd(shares []*share, pool float64) {
	need := 0.0
	for _, s := range shares {
		if !s.lost {
			need += min(s.bare, s.view.Max)
		}
	}
	for _, s := range shares {
		if need <= pool+hair || len(shares) < 2 {
			s.memory.Crowded = 0
			continue
		}
		s.memory.Crowded = min(s.memory.Crowded+1, crowdedLooks)
	}
}

// deadZone is the change of an allocation that is not worth a resize, in CPUs.
func deadZone(allocation float64, p Params) float64 {
	return max(p.DeadZone, p.DeadZoneShare*allocation)
}

// hair absorbs the rounding of sums of CPUs.
const hair = 1e-9

func ceilTo(x, quantum float64) float64 {
	if math.IsInf(x, 0) {
		return x
	}
	return math.Ceil(x/quantum-hair) * quantum
}

func floorTo(x, quantum float64) float64 { return math.Floor(x/quantum+hair) * quantum }
