// Package api is the wire format of the agent's HTTP API, and its client. docs/openapi.yaml describes the same.
package api

import (
	"encoding/json"
	"time"

	"qosctl/qos"
)

// SubmitRequest asks for a job: POST /v1/jobs. Idempotent by ID.
type SubmitRequest struct {
	ID      string          `json:"id"`   // UUID made by the client
	File    json.RawMessage `json:"file"` // the job file
	Replace bool            `json:"replace,omitempty"`
	Strict  bool            `json:"strict,omitempty"` // refuse a deadline that can't be met, and any warning
	Policy  string          `json:"policy,omitempty"`
}

// SubmitResponse answers it (201; 200 if that ID was there already).
type SubmitResponse struct {
	Job      Job       `json:"job"`
	Warnings []Problem `json:"warnings,omitempty"`
}

// Problem is one fault of a job file, or of a request.
type Problem struct {
	Path   string `json:"path"` // JSON path, as $.qos.deadline
	Value  string `json:"value,omitempty"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

// Error is the body of every answer ≥ 400.
type Error struct {
	Status   int       `json:"status"`
	Code     string    `json:"code"` // machine-readable: invalid, exists, not_found, forbidden, framework, conflict, internal, busy, host
	Text     string    `json:"message"`
	Hint     string    `json:"hint,omitempty"`
	Problems []Problem `json:"problems,omitempty"`
}

// Job is a job as the API shows it.
type Job struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Framework   qos.Framework     `json:"framework"`
	Tenant      string            `json:"tenant,omitempty"`
	Phase       qos.Phase         `json:"phase"`
	Reason      string            `json:"reason,omitempty"`
	Held        string            `json:"held,omitempty"`   // why nothing is decided about it
	Away        string            `json:"away,omitempty"`   // its owner, if that does not answer
	Owner       string            `json:"owner,omitempty"`  // node that has it
	Moving      string            `json:"moving,omitempty"` // node that it is on its way to
	Epoch       uint64            `json:"epoch"`
	Policy      string            `json:"policy"`
	QoS         qos.QoS           `json:"qos"`
	Submitted   time.Time         `json:"submitted"`
	Started     time.Time         `json:"started,omitzero"`
	Deadline    time.Time         `json:"deadline,omitzero"`
	Ended       time.Time         `json:"ended,omitzero"`
	Outcome     qos.Outcome       `json:"outcome,omitempty"`
	State       qos.State         `json:"state,omitempty"`
	ThesisState qos.State         `json:"thesis_state,omitempty"`
	Late        bool              `json:"late,omitempty"`
	Ratio       float64           `json:"progress_ratio"`
	Desired     float64           `json:"desired_cpu_seconds"`
	Prediction  time.Time         `json:"prediction,omitzero"`
	Request     float64           `json:"request_cpus"`
	Allocation  float64           `json:"allocation_cpus"`
	Usage       float64           `json:"usage_cpus"`
	Need        float64           `json:"need_cpus"`
	Throttled   float64           `json:"throttled"` // share of CFS periods, 0..1
	Progress    float64           `json:"progress_cpu_seconds"`
	Consumed    float64           `json:"consumed_cpu_seconds"` // of the present execution
	Borrowed    float64           `json:"borrowed_cpu_seconds"`
	Index       int               `json:"index,omitempty"`      // of the present execution or iteration
	Iterations  int               `json:"iterations,omitempty"` // Chronos: wanted
	Tally       qos.Tally         `json:"tally"`
	Runs        []qos.Run         `json:"runs,omitempty"`      // only in GET /v1/jobs/{id}
	Account     *qos.Account      `json:"account,omitempty"`   // only in GET /v1/jobs/{id}
	Container   string            `json:"container,omitempty"` // only in GET /v1/jobs/{id}
	Labels      map[string]string `json:"labels,omitempty"`
	Revision    uint64            `json:"revision"` // grows with each change of this job: what Watch waits behind
}

// JobList answers GET /v1/jobs?all=true.
type JobList struct {
	Jobs []Job `json:"jobs"`
}

// Explanation answers GET /v1/jobs/{id}/explain: the last decisions, newest last, and what was lost to what.
type Explanation struct {
	Job       Job            `json:"job"`
	Judgement *qos.Judgement `json:"judgement,omitempty"` // of a series that has ended, or of an app's last execution
	Decisions []qos.Decision `json:"decisions"`
	Events    []Event        `json:"events"`
	NextLook  time.Time      `json:"next_look,omitzero"`
}

// Event is something that happened to a job: a phase, a start, an exit, a fault.
type Event struct {
	At   time.Time `json:"at"`
	Kind string    `json:"kind"`
	Text string    `json:"text"`
}

// Node answers GET /v1/node: this agent and its node.
type Node struct {
	Name       string            `json:"name"`
	Version    string            `json:"version"`
	Started    time.Time         `json:"started"`
	Mode       string            `json:"control_mode"`
	Policy     string            `json:"policy"`
	CPUs       float64           `json:"cpus"`
	Reserve    float64           `json:"reserve_cpus"`
	Allocated  float64           `json:"allocated_cpus"`
	Headroom   float64           `json:"headroom_cpus"`
	Jobs       int               `json:"jobs"`
	Engine     string            `json:"engine"`
	Cgroup     string            `json:"cgroup_mode"`
	Frameworks map[string]string `json:"frameworks,omitempty"` // name → state in words
}

// Attach asks that an app or job that runs already be given QoS: POST /v1/attach.
type Attach struct {
	ID        string        `json:"id"`
	Framework qos.Framework `json:"framework"`
	Name      string        `json:"name"`
	QoS       qos.QoS       `json:"qos"`
}

// Claim is the stand-in's first call: POST /v1/standin/{job}/claim with the job's secret as bearer token.
type Claim struct {
	Task    string   `json:"task"`           // MESOS_TASK_ID
	Sandbox string   `json:"sandbox"`        // MESOS_SANDBOX, or the working directory
	Env     []string `json:"env,omitempty"`  // the task's environment: HOST, PORTn, MESOS_* and the app's own
	Spec    []byte   `json:"spec,omitempty"` // JSON of the qos.Spec without its Source, for an agent that never heard of the job
	CPUs    float64  `json:"cpus,omitempty"` // what the framework gave this task
}

// ClaimResponse says what the stand-in is to do.
type ClaimResponse struct {
	Verdict string `json:"verdict"` // run: attach and stream; idle: the job is complete, wait to be deleted; done: this claim came twice, exit Code
	Code    int    `json:"code,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Node    string `json:"node,omitempty"`
}

// Output is one line of the NDJSON stream GET /v1/standin/{job}/output?task=T&cursor=C (and of GET /v1/jobs/{id}/logs).
// A stand-in that lost the stream asks again with the last Cursor it has written out in full. The last line has Exit.
type Output struct {
	Stream string `json:"stream,omitempty"` // stdout or stderr
	Data   []byte `json:"data,omitempty"`
	Cursor string `json:"cursor,omitempty"` // where the stream stands behind Data
	Exit   *int   `json:"exit,omitempty"`   // the task's exit code: all was sent
	Reason string `json:"reason,omitempty"`
}

// Stop is the stand-in's word that it was told to stop: POST /v1/standin/{job}/stop. Repeating it changes nothing.
type Stop struct {
	Task   string `json:"task"`
	Signal int    `json:"signal"`
}
