package marathon

import (
	"math"
	"slices"
	"time"

	"qosctl/devmesos/node"
)

// replacement is a restart: instances of a new configuration take the place of old ones, as the upgrade strategy allows
// (TaskReplaceActor).
type replacement struct {
	target   *App
	old      int // healthy ones at the start
	killNow  int
	capacity int // instances that may exist at once
	ready    int // most new ones that were ready at once
}

// beginReplace computes what may be killed and started, and ends what never ran.
func (c *Core) beginReplace(s *appState, target *App, now time.Time) *replacement {
	r := &replacement{target: target}
	for _, i := range slices.Clone(s.instances) {
		switch {
		case i.config == configVersion(target) || i.doomed:
		case i.State == node.Running:
			r.old++
		default:
			c.kill(s, i, true, now)
		}
	}
	r.killNow, r.capacity = capacities(*target.Instances, r.old, *target.UpgradeStrategy)
	s.delay = launchDelay{} // a restart does not wait
	return r
}

// capacities is the arithmetic of TaskReplaceActor: how many old instances are killed at once, and how many may exist together.
func capacities(n, healthyOld int, u UpgradeStrategy) (killNow, capacity int) {
	least := int(math.Ceil(float64(n) * u.MinimumHealthCapacity))
	capacity = int(math.Floor(float64(n) * (1 + u.MaximumOverCapacity)))
	if least == capacity && capacity <= healthyOld {
		capacity++
	}
	return max(0, healthyOld-least), capacity
}

// advance kills old instances and adds new ones as far as allowed; true when all that is left is new and ready.
func (r *replacement) advance(c *Core, s *appState, now time.Time) bool {
	for _, i := range slices.Clone(s.instances) {
		if i.TaskID == "" && i.config != configVersion(r.target) {
			s.remove(i) // it ended by itself meanwhile: its successor is one of the new ones
		}
	}
	var old []*instance
	present, started, ready := 0, 0, 0
	count := func() {
		old, present, started, ready = nil, 0, 0, 0
		for _, i := range s.instances {
			switch {
			case i.config == configVersion(r.target) && !i.doomed:
				if i.inactive {
					continue
				}
				started++
				if i.State == node.Running {
					ready++
				}
			default:
				present++
				if !i.doomed {
					old = append(old, i)
				}
			}
		}
	}
	count()
	r.ready = max(r.ready, ready)
	for keep := max(0, r.old-r.killNow-r.ready); len(old) > keep; old = old[1:] {
		c.kill(s, old[0], true, now)
	}
	count()
	n := *r.target.Instances
	room := maxScheduled
	for _, i := range s.instances {
		if i.TaskID == "" {
			room--
		}
	}
	for left := min(n-started, r.capacity-present-started, room); left > 0; left-- {
		s.instances = append(s.instances, newInstance(r.target))
	}
	return ready >= n && present == 0
}
