package qos

import (
	"encoding/json"
	"time"
)

// Framework names the Mesos framework that a job is submitted to.
type Framework string

// The frameworks that jobs can be submitted to.
const (
	Marathon Framework = "marathon"
	Chronos  Framework = "chronos"
)

// IterationsBy says who starts a Chronos job's next iteration.
type IterationsBy string

// An agent runs the iterations back to back in one Chronos launch, or Chronos launches each.
const (
	IterationsByAgent   IterationsBy = "agent"
	IterationsByChronos IterationsBy = "chronos"
)

// Elasticity says how far a job may be taken from where it runs.
type Elasticity string

// Auto lets the agent hold the job's container; InPlace leaves the container with Mesos and only resizes it (an adopted job).
const (
	ElasticityAuto    Elasticity = "auto"
	ElasticityInPlace Elasticity = "inplace"
)

// Spec is what the user submitted, in one form for both frameworks. It never changes after submission.
type Spec struct {
	ID         string          `json:"id"`                   // UUID, made by the client
	Name       string          `json:"name"`                 // Marathon app id with its leading slash, or Chronos job name
	Framework  Framework       `json:"framework"`            //
	Tenant     string          `json:"tenant,omitempty"`     // Chronos owner, Marathon group, else ""
	CPUs       float64         `json:"cpus"`                 // request: the cpus that the framework knows
	MemoryMiB  float64         `json:"memory_mib"`           //
	Process    Process         `json:"process"`              //
	Container  *Container      `json:"container,omitempty"`  // nil: a plain command
	Iterations int             `json:"iterations,omitempty"` // Chronos: R of the schedule; Marathon: 0
	Start      time.Time       `json:"start,omitzero"`       // Chronos: start date of the schedule; zero: at submission
	QoS        QoS             `json:"qos"`
	Source     json.RawMessage `json:"source"` // the submitted file as it was, qos block included
	Submitted  time.Time       `json:"submitted,omitzero"`
}

// Process is what runs inside a job's container.
type Process struct {
	Command string            `json:"command,omitempty"` // run by sh -c; exclusive with Args for Marathon
	Args    []string          `json:"args,omitempty"`
	Env     map[string]string `json:"env,omitempty"`
	User    string            `json:"user,omitempty"` // "": the caller's
}

// Container is the container block of a job file, in the shape of Marathon ≥ 1.5 whichever shape it came in.
type Container struct {
	Type       string        `json:"type"` // DOCKER or MESOS
	Image      string        `json:"image,omitempty"`
	ForcePull  bool          `json:"force_pull,omitempty"`
	Privileged bool          `json:"privileged,omitempty"`
	Network    string        `json:"network,omitempty"` // host, bridge, none, or the name of a user network
	Ports      []PortMapping `json:"ports,omitempty"`
	Volumes    []Volume      `json:"volumes,omitempty"`
	Parameters []Parameter   `json:"parameters,omitempty"` // docker run --key=value
}

// PortMapping publishes a container's port.
type PortMapping struct {
	ContainerPort int    `json:"container_port"`
	HostPort      int    `json:"host_port"`
	Protocol      string `json:"protocol,omitempty"`
	Name          string `json:"name,omitempty"`
}

// Volume is a bind mount.
type Volume struct {
	ContainerPath string `json:"container_path"`
	HostPath      string `json:"host_path"`
	ReadOnly      bool   `json:"read_only,omitempty"`
}

// Parameter is an argument for docker run.
type Parameter struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// QoS is the quality of service that a job asks for: the qos block of its file.
type QoS struct {
	Duration     float64      `json:"duration"`                // CPU seconds that one execution or iteration needs
	Deviation    float64      `json:"desv_deadline"`           // tolerated deviation, 0 ≤ d < 1
	Deadline     Deadline     `json:"deadline"`                //
	Executions   int          `json:"executions,omitempty"`    // Marathon: end the app after so many successes; 0: never
	MaxFailures  int          `json:"max_failures,omitempty"`  // fail the job after so many failures; 0: never
	MinCPUs      float64      `json:"min_cpus,omitempty"`      // 0: the configuration's default
	MaxCPUs      float64      `json:"max_cpus,omitempty"`      // 0: the configuration's default
	Weight       float64      `json:"weight,omitempty"`        // of the deadline when not all can be met; 0: 1
	IterationsBy IterationsBy `json:"iterations_by,omitempty"` // "": agent
	Elasticity   Elasticity   `json:"elasticity,omitempty"`    // "": auto
	Policy       string       `json:"policy,omitempty"`        // "": the configuration's default
}

// Deadline is relative (After > 0: from the start of a Marathon execution, from the start of a Chronos series) or absolute (At).
// Its JSON form is a number of seconds, a duration such as "30m", or an RFC 3339 time.
type Deadline struct {
	After time.Duration
	At    time.Time
}

// From returns the wall time by which work that started at start must be done.
func (d Deadline) From(start time.Time) time.Time {
	if !d.At.IsZero() {
		return d.At
	}
	return start.Add(d.After)
}

// SeriesStart is when a Chronos series may begin, and its deadline begins to count: the schedule's start, else the submission.
func (s Spec) SeriesStart() time.Time {
	if s.Start.After(s.Submitted) {
		return s.Start
	}
	return s.Submitted
}
