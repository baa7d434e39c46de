package docker

import (
	"context"
	"fmt"
	"math"
	"strings"

	dcontainer "github.com/docker/docker/api/types/container"

	"qosctl/container"
)

// Resize changes limits through Docker, which keeps them over its restarts. What is in force already, as the kernel says, is not
// written again.
func (e *Engine) Resize(ctx context.Context, id string, l container.Limits) error {
	c, err := e.look(ctx, id)
	if err != nil {
		return err
	}
	i := e.describe(c)
	if i.State == container.Exited {
		return fmt.Errorf("resize container %s: %w", id, container.ErrNotRunning)
	}
	if err := checkLimits(l); err != nil {
		return fmt.Errorf("resize container %s: %w", id, err)
	}
	r, changed := changes(c.HostConfig.Resources, i.Limits, l)
	if !changed {
		return nil
	}
	if _, err := e.o.Client.ContainerUpdate(ctx, c.ID, dcontainer.UpdateConfig{Resources: r}); err != nil {
		// Docker and containerd have several words for a container that ended meanwhile ("not running", "cannot update a stopped container").
		if c, lost := e.look(ctx, id); lost == nil && e.describe(c).State == container.Exited || strings.Contains(err.Error(), "stopped container") {
			err = fmt.Errorf("%w: %w", container.ErrNotRunning, err)
		}
		return e.failed(ctx, "resize container "+id, err)
	}
	return nil
}

// changes are the fields of an update that takes a container from what is in force to what is wanted.
func changes(has dcontainer.Resources, now, want container.Limits) (r dcontainer.Resources, changed bool) {
	if want.CPUs != 0 && differs(want.CPUs, now.CPUs) {
		changed = true
		switch {
		case has.NanoCPUs > 0 && want.CPUs > 0: // made with --cpus by somebody else: Docker refuses a quota then
			r.NanoCPUs = int64(math.Round(want.CPUs * 1e9))
		case want.CPUs < 0:
			r.CPUQuota = -1
		default:
			r.CPUQuota = quota(want.CPUs)
			if has.CPUPeriod > 0 { // somebody else's
				r.CPUQuota = int64(math.Round(want.CPUs * float64(has.CPUPeriod)))
			}
		}
	}
	if want.Shares > 0 && differs(want.Shares, now.Shares) {
		changed = true
		r.CPUShares = max(leastShares, int64(math.Round(want.Shares*sharesPerCPU)))
	}
	if want.MemBytes != 0 && want.MemBytes != now.MemBytes {
		changed = true
		r.Memory, r.MemorySwap = want.MemBytes, swapOf(has, want.MemBytes)
	}
	return r, changed
}

// swapOf is the limit of memory and swap together that goes with a new limit of memory; 0 leaves it. Docker wants it not below the memory,
// and gives twice the memory where none is asked for.
func swapOf(has dcontainer.Resources, memory int64) int64 {
	switch {
	case memory < 0 || has.MemorySwap < 0:
		return -1
	case has.MemorySwap == 0 || has.MemorySwap == 2*has.Memory || has.MemorySwap < memory:
		return 2 * memory
	}
	return has.MemorySwap
}

// differs says whether two limits are not the same but for the kernel's rounding. All negative ones are: no limit.
func differs(a, b float64) bool {
	if a < 0 || b < 0 {
		return (a < 0) != (b < 0)
	}
	return math.Abs(a-b) >= 0.0005
}
