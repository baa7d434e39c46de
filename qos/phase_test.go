package qos

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestEveryPhaseIsReachable(t *testing.T) {
	t.Parallel()
	seen := map[Phase]bool{}
	var visit func(Phase)
	visit = func(p Phase) {
		if seen[p] {
			return
		}
		seen[p] = true
		for _, n := range p.next() {
			visit(n.to)
		}
	}
	visit(PhaseSubmitted)
	for _, p := range Phases() {
		if !seen[p] {
			t.Errorf("%s cannot be reached from %s", p, PhaseSubmitted)
		}
	}
	if len(seen) != len(Phases()) {
		t.Errorf("reached %d phases, Phases has %d", len(seen), len(Phases()))
	}
}

func TestOnlyTerminalPhasesHaveNoWayOut(t *testing.T) {
	t.Parallel()
	for _, p := range Phases() {
		if got := len(p.next()) == 0; got != p.Terminal() {
			t.Errorf("%s: Terminal is %t, has no way out is %t", p, p.Terminal(), got)
		}
		if !p.Terminal() {
			if err := p.To(PhaseCancelled); err != nil {
				t.Errorf("a job can be cancelled in every phase of its life: %v", err)
			}
		}
	}
}

func TestTransitions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		from, to Phase
		ok       bool
	}{
		{PhaseSubmitted, PhasePending, true},
		{PhaseSubmitted, PhaseRunning, true},
		{PhaseSubmitted, PhaseFailed, true},
		{PhaseSubmitted, PhaseEnded, false},
		{PhasePending, PhaseRunning, true},
		{PhasePending, PhaseEnded, false},
		{PhasePending, PhaseCompleted, true},
		{PhaseRunning, PhaseEnded, true},
		{PhaseRunning, PhaseLost, true},
		{PhaseRunning, PhaseSuspended, true},
		{PhaseRunning, PhaseCancelled, true},
		{PhaseRunning, PhaseCompleted, true},
		{PhaseRunning, PhaseFailed, true},
		{PhaseRunning, PhaseSubmitted, false},
		{PhaseEnded, PhasePending, true},
		{PhaseEnded, PhaseRunning, true},
		{PhaseEnded, PhaseCompleted, true},
		{PhaseLost, PhaseRunning, true},
		{PhaseLost, PhasePending, true},
		{PhaseLost, PhaseCompleted, false},
		{PhaseSuspended, PhaseRunning, true},
		{PhaseSuspended, PhasePending, true},
		{PhaseSuspended, PhaseEnded, false},
		{PhaseCompleted, PhaseRunning, false},
		{PhaseCancelled, PhasePending, false},
		{PhaseCompleted, PhaseCompleted, true},
		{"", PhaseRunning, false},
		{"", "", false},
		{PhaseRunning, "Sleeping", false},
	} {
		err := tt.from.To(tt.to)
		if (err == nil) != tt.ok {
			t.Errorf("%q to %q: %v", tt.from, tt.to, err)
		}
		if err != nil && (!strings.Contains(err.Error(), tt.from.name()) || !strings.Contains(err.Error(), tt.to.name())) {
			t.Errorf("the error does not name both phases: %v", err)
		}
	}
}

func TestRandomWalksEndOnlyInTerminalPhases(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := PhaseSubmitted
		for range 50 {
			q := rapid.SampledFrom(Phases()).Draw(t, "to")
			allowed := p == q || slices.ContainsFunc(p.next(), func(n transition) bool { return n.to == q })
			if err := p.To(q); (err == nil) != allowed {
				t.Fatalf("%s to %s: %v, the table says %t", p, q, err, allowed)
			}
			if allowed {
				if p.Terminal() && q != p {
					t.Fatalf("left the terminal phase %s for %s", p, q)
				}
				p = q
			}
		}
	})
}
