package node

import (
	"crypto/rand"
	"fmt"
	"time"
)

// State is a Mesos task state.
type State string

// The states that the development scheduler uses (mesos.proto, TaskState).
const (
	Staging     State = "TASK_STAGING"
	Starting    State = "TASK_STARTING"
	Running     State = "TASK_RUNNING"
	Killing     State = "TASK_KILLING"
	Finished    State = "TASK_FINISHED"
	Failed      State = "TASK_FAILED"
	Killed      State = "TASK_KILLED"
	Lost        State = "TASK_LOST"
	Gone        State = "TASK_GONE"
	Unreachable State = "TASK_UNREACHABLE"

	GoneByOperator State = "TASK_GONE_BY_OPERATOR"
)

// Terminal says whether a task in this state never runs again.
func (s State) Terminal() bool {
	switch s {
	case Finished, Failed, Killed, Lost, Gone, GoneByOperator:
		return true
	}
	return false
}

// DefaultGrace is what a kill allows between SIGTERM and SIGKILL where the task has no kill policy (command executor).
const DefaultGrace = 3 * time.Second

// Task is what a framework launches: Mesos' TaskInfo with a CommandInfo.
type Task struct {
	ID        string
	Name      string
	Framework string // marathon, chronos
	Command   string // run by /bin/sh -c; exclusive with Args
	Args      []string
	Env       map[string]string
	User      string // "": whoever runs the scheduler
	CPUs      float64
	MemMiB    float64
	DiskMiB   float64
	Ports     []int // of the offer, booked for the task
	Labels    []Label
	Grace     *time.Duration // kill policy; nil: DefaultGrace
	Image     string         // container image; "": the host's file system
	Fetch     []Fetch        // brought into the sandbox
	Docker    *Container     // of type DOCKER; nil: of type MESOS, or without an image

	// FrameworkID is the ID that the framework has in the cluster; "": the node makes one up.
	FrameworkID string
}

// Label is a Mesos label.
type Label struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Status is a status update as a framework gets it.
type Status struct {
	TaskID  string
	State   State
	Message string
	At      time.Time
}

// Offer is what an agent has to give at a moment.
type Offer struct {
	Hostname   string
	AgentID    string
	CPUs       float64
	MemMiB     float64
	DiskMiB    float64
	Ports      []int // free ones, the lowest first, at most a hundred
	Attributes map[string]string
	Lasting    bool // the agent's tasks outlive the scheduler's process
	Planned    *Unavailability
}

// Unavailability is when an agent's machine is to be maintained; a zero Duration has no end.
type Unavailability struct {
	Start    time.Time
	Duration time.Duration
}

// During says whether a moment lies in it.
func (u *Unavailability) During(now time.Time) bool {
	return u != nil && !now.Before(u.Start) && (u.Duration == 0 || now.Before(u.Start.Add(u.Duration)))
}

// NewUUID makes a random (version 4) UUID, lower case.
func NewUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails, says its documentation
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
