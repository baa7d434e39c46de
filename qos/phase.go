package qos

// Phase is where a job stands in its life.
type Phase string

// The phases of a job's life; Transition says which may follow which.
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
