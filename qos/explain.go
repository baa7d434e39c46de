package qos

import (
	"fmt"
	"math"
	"strings"
)

// explain names the rule that decided a job's share, and says why in words and figures.
func explain(s *share, all []*share, pool float64) (rule, reason string) {
	from, to := s.view.Allocation, s.given
	needs := s.needs()
	switch {
	case to < from && s.lost:
		return "overload", fmt.Sprintf("%s; the node has %.2f for what can still be on time: lowered from %.2f to %.2f for %s", needs, pool, from, to, winners(s, all))
	case to < from && from > s.cap:
		return "bound", fmt.Sprintf("%s; at most %.2f are allowed: lowered from %.2f to %.2f", needs, s.cap, from, to)
	case to < from && from > 1 && to >= 1 && winners(s, all) == nobody:
		return "enough", fmt.Sprintf("%s; more than one CPU costs more than it gains: lowered from %.2f to %.2f", needs, from, to)
	case to < from:
		return "give-back", fmt.Sprintf("%s; lowered from %.2f to %.2f for %s", needs, from, to, winners(s, all))
	case to > from && s.past:
		return "late", fmt.Sprintf("%s; raised from %.2f to %.2f with what nobody else needs", needs, from, to)
	case to > from && to > s.claim+hair && from >= s.claim-hair && to <= s.view.Request+hair:
		return "request", fmt.Sprintf("%s; back from %.2f to its request of %.2f", needs, from, to)
	case to > from && from >= s.claim-hair:
		return "early", fmt.Sprintf("%s; nobody else needs the rest: raised from %.2f to %.2f to run early", needs, from, to)
	case to > from && to < s.claim-hair:
		return "need", fmt.Sprintf("%s; raised from %.2f to %.2f, all that others leave", needs, from, to)
	case to > from:
		return "need", fmt.Sprintf("%s; raised from %.2f to %.2f", needs, from, to)
	case s.infeasible && !s.past && s.lost:
		return "infeasible", fmt.Sprintf("%s; not even %.2f would do: stays at %.2f with what others leave", needs, s.cap, to)
	case s.lost && !s.past:
		return "overload", fmt.Sprintf("%s; the node cannot give that and keep other deadlines: stays at %.2f", needs, to)
	case s.idle && s.need > to:
		return "not-cpu-bound", fmt.Sprintf("%s, but it uses %.2f of %.2f and is not throttled: more CPUs would not help", needs, s.view.Usage, to)
	case s.need > to+hair && to >= s.cap-hair:
		return "bound", fmt.Sprintf("%s; at most %.2f are allowed", needs, s.cap)
	case s.need > to+hair && s.claim > to+hair:
		return "short", fmt.Sprintf("%s; the node has no more than %.2f for it now", needs, to)
	}
	return "keep", fmt.Sprintf("%s; stays at %.2f", needs, to)
}

// needs says what a job needs, and from what that follows.
func (s *share) needs() string {
	switch {
	case s.past:
		return fmt.Sprintf("late by %.1f s, about %.1f CPU seconds left", -s.left, s.remaining)
	case math.IsInf(s.need, 0):
		return fmt.Sprintf("no number of CPUs does the %.1f CPU seconds left in %.1f s", s.remaining, max(s.left-s.margin, 0))
	}
	return fmt.Sprintf("needs %.2f CPUs for %.1f CPU seconds in %.1f s (%.1f s kept as margin)", s.need, s.remaining, s.left-s.margin, s.margin)
}

const nobody = "CPUs that Mesos has sold"

// winners names the jobs that are raised at the same look.
func winners(s *share, all []*share) string {
	var ids []string
	for _, w := range all {
		if w != s && w.given > w.view.Allocation+hair {
			ids = append(ids, w.view.ID)
		}
	}
	switch {
	case len(ids) == 0:
		return nobody
	case len(ids) > 3:
		return fmt.Sprintf("%s and %d more", strings.Join(ids[:3], ", "), len(ids)-3)
	}
	return strings.Join(ids, ", ")
}
