// Package ckpt keeps checkpoints of Docker containers: takes, verifies, stores, lists and restores them, and collects the garbage.
//
// A checkpoint is a directory <Dir>/<job>/<sequence>: CRIU's images, the container's changed files (its writable layer) and a manifest
// with a digest of each file. It is made under the name <sequence>.partial, synced and renamed, so that it is there whole or not at all.
// Taking one has two steps. Take ends when the images are complete; from then on the container can be restored on this node. Seal reads
// everything back, writes the manifest, syncs and renames; it runs beside the restore. A partial checkpoint has its plan in it, by
// which Recover finishes or undoes what an agent that was killed had begun.
//
// Checkpoints go from node to node as streams (Send, Fetch); how those travel is the caller's affair. What comes in has the name
// <sequence>.fetch until it is whole, synced and what its digest says.
//
// CPU time is exact: the embodied CPU time is read while the processes are frozen, and the counter's reading when a restored process is let go
// is what its own CPU time counts from, so that what CRIU itself burns is in neither.
//
// Two drivers do the work, chosen by a self-test, never by version numbers: docker (Docker's checkpoint API, with a CRIU configuration
// file for each container so that CRIU writes straight into our directory) and runtime (runc checkpoint, and an OCI runtime of our own that
// turns the creation of a container into runc restore).
package ckpt

import (
	"encoding/json"
	"errors"
	"time"

	"qosctl/cgroup"
)

// Sentinels that callers branch on.
var (
	ErrNone     = errors.New("no such checkpoint")
	ErrDamaged  = errors.New("checkpoint is damaged")            // a digest, a file or the manifest is not what it was
	ErrRefused  = errors.New("container can't be checkpointed")  // known before the freeze, nothing was touched
	ErrBusy     = errors.New("container is being checkpointed")  // by another call
	ErrDisabled = errors.New("this node can't checkpoint")       // no driver has passed the self-test
	ErrSpace    = errors.New("no space for the checkpoint")      //
	ErrDump     = errors.New("checkpoint was not taken")         // the container goes on running
	ErrRestore  = errors.New("checkpoint could not be restored") // the new container does not run
	ErrTime     = errors.New("its time limit has passed")        // a restore's: on another node it may do
	ErrStopped  = errors.New("container is stopped, and its checkpoint is not complete yet")
)

// BackError is a checkpoint that was not taken after all, when its container had ended already: it was restored where it was, and runs on. It
// wraps ErrDump.
type BackError struct {
	Since    time.Time     // an end of the container before that is none
	Overhead time.Duration // CPU time of the way back, which the container's counter has and the job has not had
	Err      error
}

func (e *BackError) Error() string { return e.Err.Error() }
func (e *BackError) Unwrap() error { return e.Err }

// Order says what to checkpoint.
type Order struct {
	Job         string          // UUID
	Name        string          // the job's
	Epoch       uint64          //
	Execution   int             //
	Incarnation int             //
	Container   string          // engine's id
	Group       cgroup.Group    // whose counter the incarnation's CPU time is read from
	Base, Zero  time.Duration   // of the incarnation's account: embodied CPU time = Base + counter when frozen − Zero
	Keep        bool            // the container goes on running
	Allow       Allow           // what the job allows CRIU to do
	After       int             // the highest sequence of the job that is known, of whatever node: this one's is above it
	Spec        json.RawMessage // the job, for whoever restores it
	Reason      string          // in words
}

// Allow is what a job allows CRIU to do. All of them off is the safe choice.
type Allow struct {
	FileLocks      bool   `json:"file_locks,omitempty"`
	TCPEstablished bool   `json:"tcp_established,omitempty"` // keep connections; needs the same address after the restore
	TCPClose       bool   `json:"tcp_close,omitempty"`       // connections are closed at the restore
	Volumes        string `json:"volumes,omitempty"`         // of files open for writing on binds and volumes: refuse (""), shared
}

// Ref names a checkpoint.
type Ref struct {
	Job      string
	Sequence int // from 1, grows for ever
}

// Manifest describes a checkpoint. It is the file manifest.json in its directory.
type Manifest struct {
	Version     int             `json:"version"` // of this format: 1
	Job         string          `json:"job"`
	Name        string          `json:"name"`
	Sequence    int             `json:"sequence"`
	Epoch       uint64          `json:"epoch"`
	Execution   int             `json:"execution"`
	Incarnation int             `json:"incarnation"`
	Container   Container       `json:"container"`
	Node        string          `json:"node"`
	Class       Class           `json:"class"`
	CPU         time.Duration   `json:"cpu"`      // embodied: all CPU time that the process state stands for
	Counter     time.Duration   `json:"counter"`  // reading of the container's counter while it was frozen
	Resident    int64           `json:"resident"` // bytes of memory in it: a new limit must not be less
	Kept        bool            `json:"kept"`     // the container went on running
	Allow       Allow           `json:"options"`
	Taken       time.Time       `json:"taken"`
	Reason      string          `json:"reason,omitempty"`
	Dump        DumpStats       `json:"dump"`
	Bytes       int64           `json:"bytes"` // of all files
	Files       []File          `json:"files"` // sorted by name; all but the manifest itself
	Spec        json.RawMessage `json:"spec,omitempty"`
}

// Container is what a restore must know of the container that was checkpointed.
type Container struct {
	ID      string   `json:"id"`     // the engine's: its name in Docker
	Engine  string   `json:"engine"` // Docker's id
	Image   string   `json:"image"`  // name
	ImageID string   `json:"image_id"`
	Mounts  []string `json:"mounts"` // destinations, sorted
	TTY     bool     `json:"tty,omitempty"`
	Stdin   bool     `json:"stdin,omitempty"`
	Init    bool     `json:"init,omitempty"`
	// StatContainer is the container in whose cgroup the kernel counts it, and Cgroup the cgroup whose counter was read: its execution's.
	StatContainer string `json:"stat_container"`
	Cgroup        string `json:"cgroup"`
	// Volumes are those without a name of their own, by destination: a restored container gets the same ones.
	Volumes map[string]string `json:"volumes,omitempty"`
}

// Class is what a node must have in common with the one that took a checkpoint.
type Class struct {
	Arch   string `json:"arch"`
	CPU    string `json:"cpu"` // digest of the CPU's features
	Kernel string `json:"kernel"`
	CRIU   string `json:"criu"`
	Runc   string `json:"runc"`
	Docker string `json:"docker"`
	Driver string `json:"driver"`
}

// File is one file of a checkpoint.
type File struct {
	Name   string `json:"name"` // below its directory, with slashes
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// DumpStats is what a dump took. The first four come from CRIU's stats-dump.
type DumpStats struct {
	Freezing time.Duration `json:"freezing"`
	Frozen   time.Duration `json:"frozen"`
	MemDump  time.Duration `json:"mem_dump"`
	MemWrite time.Duration `json:"mem_write"`
	Pages    uint64        `json:"pages_written"`
	Whole    time.Duration `json:"whole"` // from the order to complete images, by our own clock
}

// RestoreStats is what a restore took.
type RestoreStats struct {
	Forking time.Duration `json:"forking"` // CRIU's stats-restore
	Restore time.Duration `json:"restore"` // likewise
	Pages   uint64        `json:"pages_restored"`
	Whole   time.Duration `json:"whole"` // by our own clock
}

// Restored is a container that runs again.
type Restored struct {
	Zero     time.Duration // reading of its counter when it was let go: what qos.Entry.Zero is to be
	Group    cgroup.Group  // whose counter that is
	Repaired bool          // its processes were found in another cgroup, and moved
	Stats    RestoreStats
}
