package qos

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"time"
)

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
	Saved     *Saved     `json:"saved,omitempty"`     // newest checkpoint of the present execution
	Runs      []Run      `json:"runs,omitempty"`      // ended executions and iterations, oldest first, the last MaxRuns
	Tally     Tally      `json:"tally"`
}

// Saved says where process state of an execution is kept.
type Saved struct {
	Node        string        `json:"node"`
	Sequence    int           `json:"sequence"`         // of the job's checkpoints
	Execution   int           `json:"execution"`        //
	Incarnation int           `json:"incarnation"`      // that it was taken of
	Digest      string        `json:"digest,omitempty"` // SHA-256 of its manifest; "": it is not sealed yet
	CPU         time.Duration `json:"cpu"`              // embodied
	Taken       time.Time     `json:"taken"`
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
	Parts    int       `json:"incarnations,omitempty"` // containers that it had; 0: one
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

// Compare orders two statuses of one job by age: by epoch, then owner, then sequence. Of two claims at one epoch the loser yields
// at first sight, whoever writes more. It is negative if s is the older one.
func (s Status) Compare(t Status) int {
	return cmp.Or(cmp.Compare(s.Epoch, t.Epoch), cmp.Compare(s.Owner, t.Owner), cmp.Compare(s.Seq, t.Seq))
}

// Newer says whether s is newer than t.
func (s Status) Newer(t Status) bool { return s.Compare(t) > 0 }

// Merge returns what two statuses of one job say together: the newer one, with the greater duty, the accounts of the same execution
// merged by entries, and a cancel kept whoever knows of it. It is idempotent and commutative, and associative as long as a newer
// status is never of an earlier execution. Neither argument is changed.
func (s Status) Merge(t Status) Status {
	m, old := s, t
	if c := s.Compare(t); c < 0 || c == 0 && bytes.Compare(s.core(), t.core()) < 0 {
		m, old = t, s
	}
	m.Runs = slices.Clone(m.Runs)
	m.Duty = max(s.Duty, t.Duty)
	if s.Intent == IntentCancel || t.Intent == IntentCancel {
		m.Intent = IntentCancel
	}
	if m.Saved != nil {
		saved := *m.Saved
		m.Saved = &saved
	}
	if m.Execution != nil {
		e := *m.Execution
		e.Account = e.Account.Clone()
		if old.Execution != nil && old.Execution.Index == e.Index {
			e.Account = e.Account.Merge(old.Execution.Account)
		}
		m.Execution = &e
	}
	return m
}

// core is what of a status is taken whole, in comparable form: two with the same epoch, owner and sequence should have the same,
// and if a fault gives them different ones all nodes must still choose alike.
func (s Status) core() []byte {
	s.Duty = 0
	if s.Intent == IntentCancel {
		s.Intent = IntentNone
	}
	if s.Execution != nil {
		e := *s.Execution
		e.Account = Account{}
		s.Execution = &e
	}
	b, err := json.Marshal(s)
	if err != nil { // a figure that is no number: then the order is by epoch, owner and sequence alone
		return nil
	}
	return b
}

// SetIntent changes what is to become of the job; a cancel stays. It says whether the intent is now the one asked for.
func (s *Status) SetIntent(i Intent) bool {
	if s.Intent == IntentCancel {
		return i == IntentCancel
	}
	s.Intent = i
	return true
}

// OutcomeOf is how a run ended. An execution that ended non-zero or was lost is Failed, and counts as missed; an iteration that
// exited 0 is Done, whenever it ended.
func OutcomeOf(f Framework, exitCode int, ended, deadline time.Time) Outcome {
	switch {
	case exitCode != 0:
		return Failed
	case f == Chronos:
		return Done
	case ended.After(deadline):
		return Missed
	}
	return Met
}

// AppendRun notes an ended run, keeps the last MaxRuns, and counts it in the tally. Met and missed of a Chronos series are not a
// run's to count: its end is.
func (s *Status) AppendRun(f Framework, r Run) {
	s.Runs = append(s.Runs, r)
	if n := len(s.Runs) - MaxRuns; n > 0 {
		s.Runs = slices.Delete(s.Runs, 0, n)
	}
	s.Tally.CPU += r.CPU
	s.Tally.Resizes += r.Resizes
	if r.Outcome == Failed {
		s.Tally.Failed++
	} else {
		s.Tally.Succeeded++
	}
	switch {
	case r.Outcome == Met:
		s.Tally.Met++
	case r.Outcome == Missed, r.Outcome == Failed && f == Marathon:
		s.Tally.Missed++
	}
}
