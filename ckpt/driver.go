package ckpt

import (
	"context"

	"qosctl/cgroup"
	"qosctl/container"
)

// driver lets CRIU dump and restore containers. Both methods are bounded by their context: when it ends they stop CRIU (by its pid), and
// leave the container running and thawed (dump) or not running (restore).
type driver interface {
	// name is docker or runtime.
	name() string
	// ready adds to the spec of a container that is about to be created what it takes to be dumped and restored by this driver.
	ready(s *container.Spec) error
	// freeze stops the container's processes, so that counters and files can be read; thaw lets them go on. dump takes a frozen container.
	freeze(ctx context.Context, id string) error
	thaw(ctx context.Context, id string) error
	// dump writes the processes of a frozen container to d.Images. Unless d.Keep they are gone then, and the container has exited;
	// with it they are still frozen.
	dump(ctx context.Context, d dump) (DumpStats, error)
	// restore starts a created container from r.Images. zero is the counter of r.Counter when its processes were let go.
	restore(ctx context.Context, r restore) (restored, error)
}

// dump is one order to a driver.
type dump struct {
	Container string // the engine's id
	Images    string // directory for CRIU's images, empty
	Work      string // directory for its log and statistics
	Keep      bool
	Allow     Allow
	Init      bool // docker-init is its first process
}

// restore is one order to a driver.
type restore struct {
	Container string
	Images    string
	Work      string
	Counter   cgroup.Group // whose reading is wanted at the moment when the processes are let go
	Allow     Allow
	Init      bool
}

type restored struct {
	RestoreStats
	Zero int64 // nanoseconds
}
