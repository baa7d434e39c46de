package cgroup

import (
	"errors"
	"time"
)

// Mode is how a host mounts its cgroup hierarchies.
type Mode string

// The modes. Hybrid: v1 controllers, beside a v2 mount that has no cpu controller.
const (
	V1     Mode = "v1"
	V2     Mode = "v2"
	Hybrid Mode = "hybrid"
)

// Sentinels that callers branch on.
var (
	// ErrGone says that the cgroup was removed (ENODEV on a kept-open file, ENOENT on its path).
	ErrGone = errors.New("cgroup is gone")
	// ErrNoAccess says that cgroups can't be written.
	ErrNoAccess = errors.New("no write access to cgroups")
)

// Group is one cgroup, known by its path below each hierarchy's root. The zero Group is none.
type Group struct {
	CPU     string `json:"cpu,omitempty"`     // path in the hierarchy that has the cpu controller (v2: the unified one), with leading slash
	CPUAcct string `json:"cpuacct,omitempty"` // path in the hierarchy that counts CPU time
}

// Sample is one reading of a cgroup's CPU counters.
type Sample struct {
	At            time.Time     // monotonic reading included
	Usage         time.Duration // CPU time of all its processes ever: cpuacct.usage, v2 cpu.stat usage_usec
	User, System  time.Duration // a statistic of the kernel's tick; never decides anything
	Periods       uint64        // CFS periods that elapsed
	Throttled     uint64        // of them, those in which it was throttled
	ThrottledTime time.Duration
}
