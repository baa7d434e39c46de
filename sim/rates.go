package sim

import "fmt"

func nodeName(i int) string { return fmt.Sprintf("node%d", i+1) }

// limit is the most CPUs that a job may use at once, and its weight against its neighbours.
func (k *cluster) limit(j *job) (most, weight float64) {
	if k.Enforcement == Shares {
		return j.threads, j.alloc
	}
	return j.alloc, j.request
}

// rates works out what each job of a node gets. Where they want more than there is, each gets in proportion to its weight, and what
// one does not use goes to the others.
func (k *cluster) rates(n *node) {
	var active []*job
	for _, j := range n.jobs {
		j.speed, j.usage = 0, 0
		if j.phase == running && !j.frozen {
			active = append(active, j)
		}
	}
	if len(active) == 0 {
		return
	}
	used := func(scale float64) float64 {
		sum := min(n.others, scale*max(n.others, 0.01))
		for _, j := range active {
			most, weight := k.limit(j)
			sum += j.work(j.run) / j.time(j.run, max(min(most, scale*max(weight, 0.01)), 1e-6))
		}
		return sum
	}
	low, high := 0.0, 1e6
	if used(high) <= n.cpus+1e-9 {
		low = high
	}
	for i := 0; i < 50 && high-low > 1e-9*high; i++ {
		if mid := (low + high) / 2; used(mid) <= n.cpus {
			low = mid
		} else {
			high = mid
		}
	}
	for _, j := range active {
		most, weight := k.limit(j)
		c := max(min(most, low*max(weight, 0.01)), 1e-6)
		j.speed = 1 / j.time(j.run, c)
		j.usage = j.work(j.run) * j.speed
	}
}

// throttled is the share of its periods in which a job is throttled: all of them below one CPU, above it those of its parallel part.
// One that is slowed by its neighbours does not use up its quota.
func (k *cluster) throttled(j *job) float64 {
	if k.Enforcement == Shares || j.phase != running || j.frozen || j.alloc >= j.threads {
		return 0
	}
	whole := j.time(j.run, j.alloc)
	if j.speed < 0.99/whole {
		return 0
	}
	if j.alloc <= 1 {
		return 1
	}
	return j.factors[j.run] * j.parallel / j.alloc / whole
}
