package qos

import (
	"fmt"
	"slices"
)

// Phase is where a job stands in its life.
type Phase string

// The phases of a job's life; Phase.To says which may follow which.
const (
	PhaseSubmitted Phase = "Submitted" // known to us, not yet to the framework
	PhasePending   Phase = "Pending"   // the framework has it; no container yet
	PhaseRunning   Phase = "Running"
	PhaseSuspended Phase = "Suspended" // stopped, its process state kept in a checkpoint
	PhaseEnded     Phase = "Ended"     // an execution ended; the next may follow
	PhaseLost      Phase = "Lost"      // its node or container is gone
	PhaseCompleted Phase = "Completed"
	PhaseFailed    Phase = "Failed"
	PhaseCancelled Phase = "Cancelled"
)

// transition is one allowed step from a phase, and what takes it.
type transition struct {
	to  Phase
	why string
}

// next returns the ways out of a phase: the picture of a job's life as data. An empty answer is a terminal phase, or none at all.
func (p Phase) next() []transition {
	switch p {
	case PhaseSubmitted:
		return []transition{
			{PhasePending, "the framework took it"},
			{PhaseRunning, "its first task claimed before the framework's answer was noted"},
			{PhaseFailed, "the framework refused it"},
			{PhaseCancelled, "the user cancelled it"},
		}
	case PhasePending:
		return []transition{
			{PhaseRunning, "a task claimed it"},
			{PhaseSuspended, "scaled to 0 before it ran"},
			{PhaseCompleted, "nothing is left to run"},
			{PhaseFailed, "it could not be started, or failed too often"},
			{PhaseCancelled, "the user cancelled it, or it vanished from the framework"},
		}
	case PhaseRunning:
		return []transition{
			{PhaseEnded, "the run ended, another may follow"},
			{PhaseSuspended, "told to stop, its state kept"},
			{PhasePending, "the claim was given back, or the run was stopped without its state"},
			{PhaseLost, "its node or container is gone"},
			{PhaseCompleted, "the last run ended"},
			{PhaseFailed, "failed too often"},
			{PhaseCancelled, "the user cancelled it, or it vanished from the framework"},
		}
	case PhaseSuspended:
		return []transition{
			{PhaseRunning, "restored by a claim"},
			{PhasePending, "waits for an offer"},
			{PhaseLost, "the node that holds its state is gone"},
			{PhaseFailed, "its state cannot be restored"},
			{PhaseCancelled, "the user cancelled it, or it vanished from the framework"},
		}
	case PhaseEnded:
		return []transition{
			{PhasePending, "the framework starts the next run"},
			{PhaseRunning, "the next warm iteration"},
			{PhaseSuspended, "scaled to 0 between two runs"},
			{PhaseLost, "its node is gone between two runs"},
			{PhaseCompleted, "no run is left"},
			{PhaseFailed, "failed too often"},
			{PhaseCancelled, "the user cancelled it, or it vanished from the framework"},
		}
	case PhaseLost:
		return []transition{
			{PhaseRunning, "claimed elsewhere, or its owner came back with it"},
			{PhasePending, "the framework starts it again"},
			{PhaseSuspended, "its owner came back with its state"},
			{PhaseEnded, "its owner came back, the run had ended"},
			{PhaseFailed, "lost too often"},
			{PhaseCancelled, "the user cancelled it, or it vanished from the framework"},
		}
	default:
		return nil
	}
}

// Phases returns all phases, in the order of a job's life.
func Phases() []Phase {
	return []Phase{
		PhaseSubmitted, PhasePending, PhaseRunning, PhaseSuspended, PhaseEnded, PhaseLost,
		PhaseCompleted, PhaseFailed, PhaseCancelled,
	}
}

// To says whether a job in phase p may go to phase q; the error names both. To stay is no step and always allowed,
// so that an event that is told twice does no harm.
func (p Phase) To(q Phase) error {
	if p == q && slices.Contains(Phases(), p) {
		return nil
	}
	if slices.ContainsFunc(p.next(), func(t transition) bool { return t.to == q }) {
		return nil
	}
	return fmt.Errorf("a job that is %s cannot become %s", p.name(), q.name())
}

// Terminal says whether the job's life is over.
func (p Phase) Terminal() bool {
	return p == PhaseCompleted || p == PhaseFailed || p == PhaseCancelled
}

// name is the phase for an error message; the zero phase has one too.
func (p Phase) name() string {
	if p == "" {
		return "without a phase"
	}
	return string(p)
}
