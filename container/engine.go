// Package container holds a job's processes: an engine creates, starts, resizes, watches and removes containers.
//
// Sub-packages are the engines: process (a plain process in its own cgroup, the embedded default), mesos (containers that
// Mesos itself made, observed and resized only) and docker. Every engine passes the suite in containertest.
package container

import (
	"context"
	"errors"
	"io"
	"time"

	"qosctl/cgroup"
)

// Sentinels that callers branch on. Errors of an engine wrap them.
var (
	ErrNotFound     = errors.New("no such container")
	ErrExists       = errors.New("container exists")
	ErrNotRunning   = errors.New("container is not running")
	ErrNoImage      = errors.New("no such image")
	ErrNotSupported = errors.New("not supported by this engine")
	// ErrStarted refuses a second start: a container's payload is run at most once, whatever crashes. A first start whose outcome is not
	// known wraps it too.
	ErrStarted = errors.New("container was started before")
	// ErrRunning refuses what can be done to a container only while nothing runs in it.
	ErrRunning = errors.New("container is running")
)

// Exit codes of a container whose command never ran, as Docker has them.
const (
	CodeSetup    = 125 // the engine could not set the container up
	CodeNoExec   = 126 // the command is there and can't be executed
	CodeNotFound = 127 // there is no such command
	CodeUnknown  = 255 // nobody saw how it ended
)

// Spec says what to run. ID is chosen by the caller: [a-zA-Z0-9][a-zA-Z0-9_.-]+, at most 128 bytes. An engine that can't do what a field
// asks for refuses the Spec with ErrNotSupported, and names the field.
type Spec struct {
	ID      string            `json:"id"`
	Labels  map[string]string `json:"labels,omitempty"`  // given back by Inspect and List
	Image   string            `json:"image,omitempty"`   // "": the host's own file system
	Command string            `json:"command,omitempty"` // run by /bin/sh -c; exclusive with Args
	Args    []string          `json:"args,omitempty"`
	Env     []string          `json:"env,omitempty"` // KEY=value
	Dir     string            `json:"dir,omitempty"` // working directory, the task's sandbox; "": one of the engine's
	Mounts  []Mount           `json:"mounts,omitempty"`
	User    User              `json:"user"`
	Parent  string            `json:"parent,omitempty"` // cgroup parent below the engine's own, one per execution, so that its counters outlive the container
	Limits  Limits            `json:"limits"`

	// What only an engine with images of its own (Docker) can do. With neither Command nor Args the image's own command is run.
	Privileged   bool              `json:"privileged,omitempty"`
	Network      string            `json:"network,omitempty"` // "" or host: the host's; none; bridge; or the name of a network
	Ports        []Port            `json:"ports,omitempty"`   // published on the host
	Options      []Option          `json:"options,omitempty"` // arguments of docker run, as job files have them
	ForcePull    bool              `json:"force_pull,omitempty"`
	RegistryAuth string            `json:"registry_auth,omitempty"` // Docker's config.json with the registries' credentials; "": none
	Annotations  map[string]string `json:"annotations,omitempty"`   // for the OCI runtime
	Runtime      string            `json:"runtime,omitempty"`       // OCI runtime, "": the engine's default
}

// Port is a container's port that is reached by a port of the host.
type Port struct {
	Container int    `json:"container"`
	Host      int    `json:"host"`
	Protocol  string `json:"protocol,omitempty"` // tcp, udp; "": tcp
}

// Option is one argument of docker run, --Key=Value.
type Option struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Mount is a directory or file of the host that the container sees at Target. With Docker a Source without a slash names a volume.
type Mount struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"read_only,omitempty"`
}

// User is whom a container's processes run as. Where the image has a user of its own, that is meant by the zero value.
type User struct {
	UID    int   `json:"uid"`
	GID    int   `json:"gid"`
	Groups []int `json:"groups,omitempty"`
}

// Limits are a container's resources. A zero field is left as it is; a negative one is lifted.
type Limits struct {
	CPUs     float64 `json:"cpus,omitempty"`   // CFS quota: the most it gets
	Shares   float64 `json:"shares,omitempty"` // CPUs it is entitled to against its neighbours (1024 shares each)
	MemBytes int64   `json:"mem_bytes,omitempty"`
}

// State is where a container stands in its life.
type State string

// The states of a container.
const (
	Created State = "created"
	Running State = "running"
	Exited  State = "exited"
)

// Exit is how a container ended. It is kept until the container is removed.
type Exit struct {
	Code     int           `json:"code"` // exit status, or 128+signal
	Signal   int           `json:"signal,omitempty"`
	OOM      bool          `json:"oom,omitempty"`
	Unknown  bool          `json:"unknown,omitempty"` // it ended and nobody saw how (its shim was killed): Code is 255
	Finished time.Time     `json:"finished"`
	CPU      time.Duration `json:"cpu"`              // last reading of its counter, after its last process was gone; 0: not known
	Reason   string        `json:"reason,omitempty"` // why Code is not the command's own, or what else went wrong, in words
}

// Info is what an engine knows of a container.
type Info struct {
	ID      string
	Labels  map[string]string
	State   State
	PID     int // of its first process, in the engine's PID namespace; 0: none
	Created time.Time
	Started time.Time
	Exit    *Exit        // when State is Exited
	Limits  Limits       // Running: in force as far as the engine knows. Before, what it will start with; Exited: what it was created with, not what it had at its end
	Cgroup  cgroup.Group // zero Group when there is none, even of a Running one: then it can neither be read nor resized
}

// Event says that something happened to a container. It is a hint to look: events may be lost or repeated.
type Event struct {
	ID   string
	Kind EventKind
	At   time.Time
}

// EventKind is what happened.
type EventKind string

// The events.
const (
	EventStart EventKind = "start"
	EventExit  EventKind = "exit"
)

// Stream names one of a container's outputs.
type Stream string

// The two outputs.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// QuotaReader is an Engine that can read the quota of a running container from the kernel alone, which costs a hundredth of Inspect.
type QuotaReader interface {
	// Quota is the CFS quota in force in the container's cgroup, in CPUs; 0: none. cgroup.ErrGone if the cgroup was removed.
	Quota(id string, g cgroup.Group) (cpus float64, err error)
}

// Herald is an Engine that tells ends without anybody waiting for them: a thousand waiting goroutines have five to nine megabytes of stacks.
type Herald interface {
	// Herald has ended called once when the container has ended, or is about to: Wait returns at once then, or soon. It may be called before
	// Herald returns, and must not hold up its caller. It is not called any more once the engine is closed. An error: it never will be,
	// and Wait is to be used.
	Herald(id string, ended func()) error
}

// Positioner is what the readers of Logs implement: Offset is the position in the output of the next byte that Read returns. It is
// more than the caller asked for where older output was dropped already.
type Positioner interface {
	Offset() int64
}

// Engine holds containers. All methods may be called at once from several goroutines, and by a process that has just started and
// finds the containers of the one before it.
type Engine interface {
	// Name is what configuration and API call this engine.
	Name() string
	// Create prepares a container without starting it. ErrExists if there is one by that ID.
	Create(ctx context.Context, s Spec) error
	// Start starts a created container and returns when its first process runs. ErrStarted if it was started before. A command that can't
	// be executed is an error too; the container has then exited with CodeNotFound, CodeNoExec or CodeSetup. An error that leaves it open
	// whether the command runs, or has run, wraps ErrStarted: look again with Inspect. After any other this start has not run it and never will.
	// Of two processes that start a container at the same moment both may be told that they did; it is started once.
	Start(ctx context.Context, id string) error
	// Stop sends SIGTERM, waits at most grace, then kills all that is left in the container. It returns when the container has exited; an exited one is no error.
	Stop(ctx context.Context, id string, grace time.Duration) error
	// Wait returns when the container has exited.
	Wait(ctx context.Context, id string) (Exit, error)
	// Resize changes the limits of a container in place. A value already in force is not written again. ErrNotSupported if it runs in no
	// cgroup that the engine knows.
	Resize(ctx context.Context, id string, l Limits) error
	// Inspect describes one container.
	Inspect(ctx context.Context, id string) (Info, error)
	// List describes all containers of this engine, in order of their IDs.
	List(ctx context.Context) ([]Info, error)
	// Logs reads an output from a byte offset and follows it until the container has exited and all was read, or ctx ends; then
	// Read returns ctx's error. The reader is a Positioner.
	Logs(ctx context.Context, id string, s Stream, offset int64) (io.ReadCloser, error)
	// Remove forgets an exited or never started container and all it left behind. ErrNotFound if there is none, ErrRunning if it runs.
	Remove(ctx context.Context, id string) error
	// Events streams events until ctx ends; then the channel is closed.
	Events(ctx context.Context) (<-chan Event, error)
}
