package marathon

import "math"

// RoundCPUs rounds cpus to what Marathon and Mesos tell apart: thousandths, and at least one of them.
func RoundCPUs(cpus float64) float64 {
	return max(math.Round(cpus*1000)/1000, 0.001)
}
