package cgroup

import (
	"errors"
	"fmt"
	"math"
)

// Bounds and unit of v1's cpu.shares and of v2's cpu.weight. One CPU is the default of both, so that a weight stays in proportion to
// the shares it stands for: the kernel's own mapping (sched_weight_to_cgroup). The mappings of container runtimes squeeze or bend the range, and are not in proportion.
const (
	minShares, maxShares, sharesPerCPU = 2, 262144, 1024
	minWeight, maxWeight, weightPerCPU = 1, 10000, 100
)

var errShares = errors.New("shares out of range")

// sharesFor is the value of cpu.shares for an entitlement of so many CPUs.
func sharesFor(cpus float64) (int64, error) {
	return entitle(cpus, sharesPerCPU, minShares, maxShares)
}

// weightFor is the value of cpu.weight for an entitlement of so many CPUs.
func weightFor(cpus float64) (int64, error) {
	return entitle(cpus, weightPerCPU, minWeight, maxWeight)
}

func entitle(cpus, unit, least, most float64) (int64, error) {
	if math.IsNaN(cpus) || cpus < 0 {
		return 0, fmt.Errorf("%w: %g CPUs", errShares, cpus)
	}
	return int64(min(max(math.Round(cpus*unit), least), most)), nil
}
