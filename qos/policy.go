package qos

import "time"

// JobView is what a policy knows of one running job. Times are wall times; CPU is in CPUs and CPU seconds.
type JobView struct {
	ID         string
	Framework  Framework
	QoS        QoS
	Request    float64 // cpus that the framework knows
	Min, Max   float64 // bounds of the allocation, defaults applied; 0 < Min ≤ Max
	Allocation float64 // now
	Usage      float64 // CPUs really used since the last look
	Throttled  float64 // share of CFS periods in which it was throttled since the last look, 0..1

	Start    time.Time // when the deadline began to count
	Deadline time.Time
	RunStart time.Time // of the present execution or iteration
	Progress float64   // CPU seconds of the present execution or iteration
	Consumed float64   // the same with what was spent on lost work; 0: none was lost
	Runs     int       // runs in all, the ended ones included; 0: as many as are left
	RunsLeft int       // runs not yet ended, the present one included; Marathon: 1
	Deploy   float64   // seconds between one run's end and the next one's start
	Model    Model     // of one run's time; the zero Model: nothing seen yet

	LastChange time.Time // of the allocation; zero: never
	Placed     time.Time // when it was launched on this node; zero: not known
	Firm       bool      // it is moved with its request as it is, not with one fitted to the offer
	Memory     Memory    // the last decision's, as it was
}

// Memory is what a policy has to know of its earlier looks at a job. Policies being pure, it travels: whoever acts on a Decision puts
// its Memory into the job's next JobView (and may forget it, when a job starts anew or the agent does: then the policy waits a few
// looks longer). Its fields are the policies' own business.
type Memory struct {
	Acted   time.Time `json:"acted,omitzero"`    // step: when its law was last applied
	Fill    float64   `json:"fill,omitempty"`    // deadline: share of its allocation that the job used while throttled, smoothed; 0: not seen
	Idle    int       `json:"idle,omitempty"`    // deadline: looks in a row at which the job left a part of its allocation unused
	Crowded int       `json:"crowded,omitempty"` // deadline: looks in a row at which the node's jobs needed more than there is
	Doomed  int       `json:"doomed,omitempty"`  // deadline: looks in a row at which the overload rule found no room for it
}

// NodeView is what a policy knows of a node: its capacity and all jobs that run on it. A job stays in the view between two warm
// iterations (Progress 0), or others would be given its CPUs for that moment.
type NodeView struct {
	Now    time.Time
	CPUs   float64 // that jobs may have: the node's CPUs less the reserve
	Sold   float64 // CPUs sold by Mesos to anything that is not in Jobs
	Busy   float64 // CPUs in use on the whole node by anything since the last look; 0: not known
	Spare  float64 // most that any other node has to spare, by gossip; 0: nothing, or not known
	Jobs   []JobView
	Borrow bool // loans above the request are allowed
}

// State is a job's standing against its QoS, by the thesis' names.
type State string

// The three states of the thesis.
const (
	UnderPerformant State = "UNDER_PERFORMANT"
	OnPlan          State = "ON_PLAN"
	OverPerformant  State = "OVER_PERFORMANT"
)

// Decision is what a policy wants for one job, and why.
type Decision struct {
	Job         string    `json:"job"`
	At          time.Time `json:"at"`
	Policy      string    `json:"policy"`
	State       State     `json:"state"`
	ThesisState State     `json:"thesis_state"`
	Late        bool      `json:"late"`
	Ratio       float64   `json:"progress_ratio"`      // equation 3; Chronos: consumed over desired of the series
	Desired     float64   `json:"desired_cpu_seconds"` // equation 2
	Prediction  time.Time `json:"prediction"`          // when all work is done at this allocation; Chronos: equation 1
	Need        float64   `json:"need_cpus"`           // CPUs needed from now on to be in time
	Bare        float64   `json:"bare_cpus"`           // the same without margins: what the estimate itself needs
	From        float64   `json:"from_cpus"`
	To          float64   `json:"to_cpus"`              // equal to From: leave it
	Rule        string    `json:"rule"`                 // short name of the rule that decided
	Reason      string    `json:"reason"`               // in words, with the figures
	Infeasible  bool      `json:"infeasible,omitempty"` // not even Max could do it
	Hopeless    bool      `json:"hopeless,omitempty"`   // not even Max, and no other node, could do it, however short its runs turn out
	Lost        bool      `json:"lost,omitempty"`       // it will miss its deadline, as far as can be told: not even Max, or the overload rule, has room for it
	Expected    time.Time `json:"expected"`             // when all work is done at From, by the learnt model, for both frameworks
	Memory      Memory    `json:"memory,omitzero"`      // for the job's next JobView
}

// Policy decides the allocation of every job of a node. It is pure: same view, same decisions, one for each job, in the view's order.
type Policy interface {
	Name() string
	Decide(NodeView) []Decision
}
