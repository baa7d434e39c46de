package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// The kernel's bounds of a CFS quota, in µs: under 1 ms it takes none, above it counts in 44 bits.
const (
	minQuota = 1000
	maxQuota = 1<<44 - 1
)

// errRange says that a quota can't be set, whatever the other cgroups have.
var errRange = errors.New("quota out of range")

// bandwidth is a CFS quota: quota µs of CPU time in each period µs. Quota -1: unlimited.
type bandwidth struct{ quota, period int64 }

// cpus is the bandwidth in CPUs; -1: unlimited.
func (b bandwidth) cpus() float64 {
	if b.quota < 0 {
		return -1
	}
	return float64(b.quota) / float64(b.period)
}

// parseQuota reads cpu.cfs_quota_us: µs, or -1.
func parseQuota(b []byte) (int64, error) {
	n, ok := parseInt(trimLine(b))
	switch {
	case !ok || n == 0 || n > maxQuota:
		return 0, errMalformed
	case n < 0:
		return -1, nil
	}
	return n, nil
}

// parsePeriod reads cpu.cfs_period_us and cpu.cfs_burst_us: µs.
func parsePeriod(b []byte) (int64, error) {
	n, ok := parseUint(trimLine(b))
	if !ok || n > maxQuota {
		return 0, errMalformed
	}
	return int64(n), nil
}

// parseCPUMax reads v2's cpu.max: "max 100000" or "50000 100000".
func parseCPUMax(b []byte) (bandwidth, error) {
	b = trimLine(b)
	i := bytes.IndexByte(b, ' ')
	if i < 0 {
		return bandwidth{}, errMalformed
	}
	period, err := parsePeriod(b[i+1:])
	if err != nil || period == 0 {
		return bandwidth{}, errMalformed
	}
	if string(b[:i]) == "max" {
		return bandwidth{-1, period}, nil
	}
	quota, err := parseQuota(b[:i])
	if err != nil || quota < 0 {
		return bandwidth{}, errMalformed
	}
	return bandwidth{quota, period}, nil
}

// quotaFor is the quota that gives cpus in a period, or -1 to lift it. What the kernel would refuse whatever stands around it is refused here, by name.
func quotaFor(cpus float64, period int64) (int64, error) {
	if math.IsNaN(cpus) {
		return 0, fmt.Errorf("%w: not a number of CPUs", errRange)
	}
	if cpus < 0 {
		return -1, nil
	}
	q := math.Round(cpus * float64(period))
	if q < minQuota {
		return 0, fmt.Errorf("%w: %g CPUs are %g ms of each period of %g ms, and the kernel takes no quota below 1 ms: at least %g CPUs",
			errRange, cpus, cpus*float64(period)/1000, float64(period)/1000, minQuota/float64(period))
	}
	if q > maxQuota {
		return 0, fmt.Errorf("%w: %g CPUs are more than the kernel can count", errRange, cpus)
	}
	return int64(q), nil
}

// appendQuota renders what is written to cpu.cfs_quota_us.
func appendQuota(b []byte, q int64) []byte { return strconv.AppendInt(b, q, 10) }

// appendCPUMax renders what is written to cpu.max.
func appendCPUMax(b []byte, w bandwidth) []byte {
	if w.quota < 0 {
		b = append(b, "max "...)
	} else {
		b = append(strconv.AppendInt(b, w.quota, 10), ' ')
	}
	return strconv.AppendInt(b, w.period, 10)
}
