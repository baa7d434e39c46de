package marathon

import (
	"maps"
	"slices"
	"time"

	"qosctl/devmesos/node"
)

// Cluster is where tasks run.
type Cluster interface {
	// Offers are what the agents have to give.
	Offers() []node.Offer
	// Launch books resources on an agent and starts a task; node.ErrNoResources when they are gone meanwhile.
	Launch(agentID string, t node.Task) error
	// Kill asks for a task's end.
	Kill(framework, taskID string)
}

// CoreOptions set a core up.
type CoreOptions struct {
	Cluster Cluster
	Emit    func(eventType string, payload map[string]any) // may be nil
	Legacy  bool                                           // answers as 1.4 does
}

// Core is Marathon's state. It is not safe for concurrent use, keeps no clock (every method takes now), and does nothing by
// itself: after each change, and when Next's moment has come, its owner calls Tick.
type Core struct {
	o           CoreOptions
	apps        map[string]*appState
	deployments []*deployment
	lastVersion time.Time
	changedTask bool // one that outlives the scheduler's process, since the last snapshot
}

// appState is an app and its instances. One that is being deleted stays until its last task has ended.
type appState struct {
	spec      *App
	deleted   bool
	versions  map[string]*App
	instances []*instance
	delay     launchDelay
	failure   map[string]any // lastTaskFailure
}

// NewCore makes an empty state.
func NewCore(o CoreOptions) *Core {
	if o.Emit == nil {
		o.Emit = func(string, map[string]any) {}
	}
	return &Core{o: o, apps: map[string]*appState{}}
}

// app finds an app that is not being deleted.
func (c *Core) app(id string) (*appState, error) {
	if s := c.apps[id]; s != nil && !s.deleted {
		return s, nil
	}
	return nil, errNoApp(id)
}

// ids lists the apps that are not being deleted, in order.
func (c *Core) ids() []string {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(c.apps)) {
		if !c.apps[id].deleted {
			ids = append(ids, id)
		}
	}
	return ids
}

const stamp = "2006-01-02T15:04:05.000Z"

func timestamp(t time.Time) string { return t.UTC().Format(stamp) }

// newVersion makes a timestamp that no other version has.
func (c *Core) newVersion(now time.Time) string {
	now = now.UTC().Truncate(time.Millisecond)
	if !now.After(c.lastVersion) {
		now = c.lastVersion.Add(time.Millisecond)
	}
	c.lastVersion = now
	return now.Format(stamp)
}

// Tick does all that is due: steps of deployments, scaling, launches, repeated kills, delays of unreachable instances.
func (c *Core) Tick(now time.Time) {
	for c.advance(now) { // a finished step may make the next one, or a launch, possible
	}
	for _, id := range slices.Sorted(maps.Keys(c.apps)) {
		s := c.apps[id]
		c.expire(s, now)
		if !s.deleted && c.lockedBy(id) == nil {
			c.scale(s, s.spec, now)
		}
		if s.deleted { // also one whose deployment was cancelled: nothing may be left of it
			c.stopAll(s, now)
		} else {
			c.launchAll(s, now)
		}
		c.repeatKills(s, now)
	}
}

// Next is when Tick has something to do even if nothing happens; zero: never.
func (c *Core) Next(now time.Time) time.Time {
	var next time.Time
	at := func(t time.Time) {
		if !t.IsZero() && t.After(now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, s := range c.apps {
		for _, i := range s.instances {
			at(i.nextKill)
			at(i.countsUntil)
			if i.TaskID == "" {
				at(s.delay.until)
			}
			if i.State == node.Unreachable && !i.spec.UnreachableStrategy.Disabled {
				at(i.since.Add(time.Duration(i.spec.UnreachableStrategy.InactiveAfterSeconds) * time.Second))
				at(i.since.Add(time.Duration(i.spec.UnreachableStrategy.ExpungeAfterSeconds) * time.Second))
			}
		}
	}
	return next
}

// launchDelay is an app's back-off.
type launchDelay struct {
	current time.Duration
	until   time.Time
}

// failed lengthens the delay after a task that ended by itself.
func (d *launchDelay) failed(a *App, now time.Time) {
	most := time.Duration(*a.MaxLaunchDelaySeconds) * time.Second
	if !d.until.IsZero() && now.Sub(d.until) > most {
		*d = launchDelay{} // so long ago that it does not count
	}
	if d.current == 0 {
		d.current = time.Duration(*a.BackoffSeconds) * time.Second
	} else {
		d.current = time.Duration(float64(d.current) * *a.BackoffFactor)
	}
	d.current = min(d.current, most)
	d.until = now.Add(d.current)
}

// rebase counts the delay from now: an instance has come a step further.
func (d *launchDelay) rebase(now time.Time) {
	if d.current > 0 {
		d.until = now.Add(d.current)
	}
}
