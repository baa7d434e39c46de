package qos

import "time"

// Record is all that is known of a job: an immutable spec and a small status with one writer, its owner.
type Record struct {
	Spec   Spec   `json:"spec"`
	Status Status `json:"status"`
}

// Intent is what is to become of a job when its task is next told to stop.
type Intent string

// The intents. None means: keep the process state if that can be done.
const (
	IntentNone     Intent = ""
	IntentCancel   Intent = "cancel"   // the user wants it gone
	IntentComplete Intent = "complete" // it is done; the framework's app or job goes
)

// Status is what has become of a job. Of two statuses the one with the higher epoch, then owner, then sequence is the newer.
type Status struct {
	Phase   Phase     `json:"phase"`
	Reason  string    `json:"reason,omitempty"` // why it is in this phase, in words
	Since   time.Time `json:"since,omitzero"`   // of the phase
	Epoch   uint64    `json:"epoch"`            // grows with each container started, restored or adopted
	Owner   string    `json:"owner,omitempty"`  // node that holds the container
	Seq     uint64    `json:"seq"`              // of the owner's writes in this epoch
	Duty    uint64    `json:"duty"`             // of the steward's acts towards the framework
	Intent  Intent    `json:"intent,omitempty"` // a cancel is never unset
	Started time.Time `json:"started,omitzero"` // when the deadline began to count: Chronos series, Marathon execution
	Ended   time.Time `json:"ended,omitzero"`   // when the job reached Completed, Failed or Cancelled

	Execution *Execution `json:"execution,omitempty"` // the present one, or the last
	Runs      []Run      `json:"runs,omitempty"`      // ended executions and iterations, oldest first, the last MaxRuns
	Tally     Tally      `json:"tally"`
}

// MaxRuns bounds Status.Runs.
const MaxRuns = 64

// Execution is one run of a Marathon job, or one iteration of a Chronos job, from its start to its end.
type Execution struct {
	Index      int       `json:"index"` // from 1; claimed once
	Task       string    `json:"task,omitempty"`
	Started    time.Time `json:"started"`
	Deadline   time.Time `json:"deadline"`
	Account    Account   `json:"account"`
	Allocation float64   `json:"allocation"` // CPUs given now
}

// Run is an ended execution or iteration.
type Run struct {
	Index    int       `json:"index"`
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended"`
	CPU      float64   `json:"cpu_seconds"` // consumed
	ExitCode int       `json:"exit_code"`
	Outcome  Outcome   `json:"outcome"`
	MeanCPUs float64   `json:"mean_cpus"` // time-weighted allocation
	MaxCPUs  float64   `json:"max_cpus"`
	Resizes  int       `json:"resizes"`
	Reason   string    `json:"reason,omitempty"`
}

// Outcome is how an execution, an iteration or a job ended.
type Outcome string

// The outcomes. A Chronos iteration that exited 0 is Done; only the series is met or missed.
const (
	Met    Outcome = "met"
	Missed Outcome = "missed"
	Done   Outcome = "done"
	Failed Outcome = "failed" // non-zero exit, or lost
)

// Tally counts the ended executions and iterations of a job over its whole life.
type Tally struct {
	Succeeded int     `json:"succeeded"` // exited 0
	Failed    int     `json:"failed"`
	Met       int     `json:"met"`
	Missed    int     `json:"missed"`
	CPU       float64 `json:"cpu_seconds"` // consumed by ended executions
	Resizes   int     `json:"resizes"`
}
