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
	Intent  Intent    `json:"intent,omitempty"` // a cancel is never unset
	Started time.Time `json:"started,omitzero"` // when the deadline began to count: Chronos series, Marathon execution
	Ended   time.Time `json:"ended,omitzero"`   // when the job reached Completed, Failed or Cancelled

	Execution *Execution `json:"execution,omitempty"` // the present one, or the last
	Saved     *Saved     `json:"saved,omitempty"`     // newest checkpoint of the present execution
	Sequence  int        `json:"sequence,omitempty"`  // the highest that a checkpoint of the job is known to have had, of whatever execution
	Runs      []Run      `json:"runs,omitempty"`      // ended executions and iterations, oldest first, the last MaxRuns
	Tally     Tally      `json:"tally"`
	Model     *Model     `json:"model,omitempty"`    // of its runs, when the last one had ended; never changed in place
	Failures  int        `json:"failures,omitempty"` // runs that ended by themselves and not well: what max_failures counts

	Steward Stewardship `json:"steward"`
}

// Over says whether no more of the job is to be run: its life has ended, or is to end.
func (s Status) Over() bool { return s.Phase.Terminal() || s.Intent != IntentNone }

// Act is something that is to be done towards the framework.
type Act string

// The acts that may be pending.
const (
	ActNone   Act = ""
	ActSubmit Act = "submit" // create the app or job
	ActDelete Act = "delete" // remove it
)

// Stewardship is what whoever talks to the framework about a job must know, and has still to do. It has a counter of its own, the duty:
// to act for an owner that seems to be gone never fences a container that in truth still runs.
type Stewardship struct {
	Duty     uint64   `json:"duty"`               // grows with each change; of two the greater holds
	By       string   `json:"by,omitempty"`       // node that wrote it
	Pending  Act      `json:"pending,omitempty"`  // not yet known to have been done
	Policy   string   `json:"policy,omitempty"`   // chosen at submission; "": the configuration's
	Request  float64  `json:"request,omitempty"`  // cpus in the framework, when somebody changed them there
	Attached bool     `json:"attached,omitempty"` // somebody else submitted it; detach leaves it as it was
	Adopted  bool     `json:"adopted,omitempty"`  // Mesos holds the container; we only resize it
	Launched bool     `json:"launched,omitempty"` // the thesis' launcher submitted it: it is adopted, and tells its ends by the thesis' protocol
	Secrets  [][]byte `json:"secrets,omitempty"`  // SHA-256 of those that stand-ins may have, newest first
	Expunged string   `json:"expunged,omitempty"` // task that was given up, so that the framework starts another
	Hosts    []string `json:"hosts,omitempty"`    // that the framework was last told to keep to; none: any
}

// Compare orders stewardships of one job: by duty, then node, then content.
func (s Stewardship) Compare(t Stewardship) int {
	return cmp.Or(cmp.Compare(s.Duty, t.Duty), cmp.Compare(s.By, t.By), bytes.Compare(s.content(), t.content()))
}

func (s Stewardship) content() []byte {
	b, err := json.Marshal(s)
	if err != nil { // a figure that is no number
		return nil
	}
	return b
}

// Clone returns a copy that shares nothing with s.
func (s Stewardship) Clone() Stewardship {
	s.Secrets, s.Hosts = slices.Clone(s.Secrets), slices.Clone(s.Hosts)
	return s
}

// Saved says where process state of an execution is kept.
type Saved struct {
	Node        string        `json:"node"`             // that took it
	Copies      []string      `json:"copies,omitempty"` // other nodes that have it
	Sequence    int           `json:"sequence"`         // of the job's checkpoints
	Execution   int           `json:"execution"`        //
	Incarnation int           `json:"incarnation"`      // that it was taken of
	Digest      string        `json:"digest,omitempty"` // SHA-256 of its manifest; "": it is not sealed yet
	CPU         time.Duration `json:"cpu"`              // embodied
	Taken       time.Time     `json:"taken"`
	Bytes       int64         `json:"bytes,omitempty"` // on disk; 0: it is not sealed yet
	Took        time.Duration `json:"took,omitempty"`  // from its order to its complete images
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
	Clock      Clock     `json:"clock"`
}

// Clock integrates an execution's allocation over its time.
type Clock struct {
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpu_seconds"` // ∫ allocation dt
	Max        float64 `json:"max"`
	Resizes    int     `json:"resizes"`
	Requested  float64 `json:"requested,omitempty"` // CPU seconds: ∫ request dt, while there was a container
	Down       float64 `json:"down,omitempty"`      // seconds without one: checkpoints that stopped it, moves, what waited for the next task
	Short      float64 `json:"short,omitempty"`     // seconds in which it had less than it needed to be in time
	Missing    float64 `json:"missing,omitempty"`   // CPU seconds that it lacked then
	Skip       float64 `json:"skip,omitempty"`      // seconds not integrated yet, and without a container
}

// Integrate adds the time up to seconds after the execution's start. allocation is what it had of request, need what it needed of it to
// be in time; 0: nobody says.
func (k *Clock) Integrate(seconds, allocation, request, need float64) {
	if dt := seconds - k.Seconds; dt > 0 {
		held := max(0, dt-k.Skip)
		k.Seconds += dt
		k.CPUSeconds += dt * allocation
		k.Requested += held * request
		if lack := need - allocation; lack > 0.005 {
			k.Short += held
			k.Missing += held * lack
		}
		k.Skip = 0
	}
	k.Max = max(k.Max, allocation)
}

// Resume notes that a container runs again, seconds after the execution's start. It had none since it was integrated last.
func (k *Clock) Resume(seconds float64) {
	if gap := seconds - k.Seconds - k.Skip; gap > 0 {
		k.Down += gap
		k.Skip += gap
	}
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

	Progress  float64 `json:"progress_cpu_seconds,omitempty"`  // of CPU, what its last process state embodied; 0: all of it
	Requested float64 `json:"requested_cpu_seconds,omitempty"` // what the framework had sold it
	Borrowed  float64 `json:"borrowed_cpu_seconds,omitempty"`  // of CPU, above the request
	Overhead  float64 `json:"overhead_cpu_seconds,omitempty"`  // beside CPU, of restores themselves
	Down      float64 `json:"down_seconds,omitempty"`          // without a container
	Short     float64 `json:"short_seconds,omitempty"`         // with less than it needed to be in time
	Missing   float64 `json:"missing_cpu_seconds,omitempty"`   // that it lacked then

	Spent map[Incarnation]Share `json:"spent,omitempty"` // what CPU counts; never changed in place
}

// Share is what an incarnation has had of a booked run: what of its Entry counts in Consumed.
type Share struct {
	Own  time.Duration `json:"own"`
	Base time.Duration `json:"base,omitempty"`
}

// Lost is the CPU time that did not count in the end: of a run that failed all, of another what was spent on process states that are gone.
func (r Run) Lost() float64 {
	switch {
	case r.Outcome == Failed:
		return r.CPU
	case r.Progress == 0:
		return 0
	}
	return max(0, r.CPU-r.Progress)
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
	Requested float64 `json:"requested_cpu_seconds,omitempty"`
	Borrowed  float64 `json:"borrowed_cpu_seconds,omitempty"`
	Lost      float64 `json:"lost_cpu_seconds,omitempty"`
	Overhead  float64 `json:"overhead_cpu_seconds,omitempty"`
	Moves     int     `json:"moves,omitempty"`          // from node to node, the present execution's among them
	Waited    float64 `json:"waited_seconds,omitempty"` // for a task: before the first run, and between runs
	Down      float64 `json:"down_seconds,omitempty"`
	Short     float64 `json:"short_seconds,omitempty"`
	Missing   float64 `json:"missing_cpu_seconds,omitempty"`
}

// Compare orders two statuses of one job by age: by epoch, then owner, then sequence. Of two claims at one epoch the loser yields
// at first sight, whoever writes more. It is negative if s is the older one.
func (s Status) Compare(t Status) int {
	return cmp.Or(cmp.Compare(s.Epoch, t.Epoch), cmp.Compare(s.Owner, t.Owner), cmp.Compare(s.Seq, t.Seq))
}

// Newer says whether s is newer than t.
func (s Status) Newer(t Status) bool { return s.Compare(t) > 0 }

// Merge returns what two statuses of one job say together: the newer one, the stewardship with the greater duty, the accounts of the
// same execution merged by entries, and a cancel kept whoever knows of it. It is idempotent and commutative, and associative as long as
// a newer status is never of an earlier execution. Neither argument is changed.
func (s Status) Merge(t Status) Status {
	m, old := s, t
	if c := s.Compare(t); c < 0 || c == 0 && bytes.Compare(s.core(), t.core()) < 0 {
		m, old = t, s
	}
	m.Runs = slices.Clone(m.Runs)
	m.Sequence = max(s.Sequence, t.Sequence)
	if m.Steward.Compare(old.Steward) < 0 {
		m.Steward = old.Steward
	}
	m.Steward = m.Steward.Clone()
	if s.Intent == IntentCancel || t.Intent == IntentCancel {
		m.Intent = IntentCancel
	}
	if m.Saved != nil {
		saved := *m.Saved
		saved.Copies = slices.Clone(saved.Copies)
		m.Saved = &saved
	}
	if m.Execution != nil {
		e := *m.Execution
		e.Account = e.Account.Clone()
		if old.Execution != nil && old.Execution.Index == e.Index {
			e.Account = e.Account.Merge(old.Execution.Account)
			e.Account.Live = m.Execution.Account.Live // of two that were made at once, the winner's lives
		}
		m.Execution = &e
	}
	return m
}

// core is what of a status is taken whole, in comparable form: two with the same epoch, owner and sequence should have the same,
// and if a fault gives them different ones all nodes must still choose alike.
func (s Status) core() []byte {
	s.Steward = Stewardship{}
	if s.Intent == IntentCancel {
		s.Intent = IntentNone
	}
	if s.Execution != nil {
		e := *s.Execution
		e.Account = Account{Live: e.Account.Live}
		s.Execution = &e
	}
	b, err := json.Marshal(s)
	if err != nil { // a figure that is no number: then the order is by epoch, owner and sequence alone
		return nil
	}
	return b
}

// News is what of a status peers are told of at once, in comparable form: all but its sequence, its account and what changes with each
// decision. Another one needs another sequence.
func (s Status) News() string {
	s.Seq = 0
	if s.Execution != nil {
		e := *s.Execution
		e.Allocation, e.Clock = 0, Clock{}
		s.Execution = &e
	}
	return string(s.core())
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

// Ran says whether an execution is among the booked runs, of which the newest are kept.
func (s *Status) Ran(index int) bool {
	return slices.ContainsFunc(s.Runs, func(r Run) bool { return r.Index == index })
}

// AppendRun notes an ended run, keeps the last MaxRuns, and counts it in the tally. Met and missed of a Chronos series are not a
// run's to count: its end is.
func (s *Status) AppendRun(f Framework, r Run) {
	s.Runs = append(s.Runs, r)
	if n := len(s.Runs) - MaxRuns; n > 0 {
		s.Runs = slices.Delete(s.Runs, 0, n)
	}
	s.trimShares()
	s.Tally.CPU += r.CPU
	s.Tally.Resizes += r.Resizes
	s.Tally.Requested += r.Requested
	s.Tally.Borrowed += r.Borrowed
	s.Tally.Lost += r.Lost()
	s.Tally.Overhead += r.Overhead
	s.Tally.Down += r.Down
	s.Tally.Short += r.Short
	s.Tally.Missing += r.Missing
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
