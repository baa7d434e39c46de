package marathon

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"qosctl/devmesos/node"
)

// instance is one place of an app. Without TaskID it is scheduled: it waits to be launched.
type instance struct {
	ID          string
	TaskID      string
	Incarnation int
	State       node.State
	Ports       []int
	Host, Agent string
	Attributes  map[string]string
	Lasting     bool // the task outlives the scheduler's process
	Staged      time.Time
	Started     time.Time

	spec     *App // it was, or will be, launched with
	config   string
	doomed   bool      // goal Decommissioned: it goes when its task has ended
	inactive bool      // unreachable for so long that another one is to take its place
	since    time.Time // unreachable
	nextKill time.Time // kills are repeated until the task has ended

	countsUntil time.Time // doomed, but not yet missed
}

// scaleInterval is Marathon's scale_apps_interval: how long it may take to notice that an instance is missing of which no event told.
const scaleInterval = 300 * time.Second

// killRetry is Marathon's kill_retry_timeout.
const killRetry = 30 * time.Second

func configVersion(a *App) string { return a.VersionInfo.LastConfigChangeAt }

func newInstance(a *App) *instance {
	id := strings.ReplaceAll(strings.TrimPrefix(a.ID, "/"), "/", "_") + ".instance-" + node.NewUUID()
	return &instance{ID: id, spec: a, config: configVersion(a)}
}

func (i *instance) active() bool { return i.TaskID != "" && !i.inactive }

// condition is the instance's state in events.
func (i *instance) condition() string {
	if i.TaskID == "" {
		return "Scheduled"
	}
	if i.inactive {
		return "UnreachableInactive"
	}
	word := strings.ToLower(strings.TrimPrefix(string(i.State), "TASK_"))
	return strings.ToUpper(word[:1]) + word[1:]
}

func (s *appState) remove(i *instance) {
	s.instances = slices.DeleteFunc(s.instances, func(x *instance) bool { return x == i })
}

// kill ends an instance's task. Doomed ones go for good, the others are launched again. One that is unreachable does not answer
// to a kill: it is forgotten.
func (c *Core) kill(s *appState, i *instance, doomed bool, now time.Time) {
	i.doomed = i.doomed || doomed
	if i.TaskID == "" {
		if i.doomed {
			s.remove(i)
		}
		return
	}
	if i.State == node.Unreachable {
		c.expunge(s, i)
		return
	}
	if i.nextKill.IsZero() {
		c.o.Cluster.Kill(frameworkName, i.TaskID)
		i.nextKill = now.Add(killRetry)
	}
}

// decommission gives up an unreachable instance that can't be killed: should it return, it is. Another one takes its place when Marathon next
// counts.
func (c *Core) decommission(s *appState, i *instance, now time.Time) {
	if !i.doomed {
		i.doomed, i.countsUntil = true, now.Add(scaleInterval)
		c.changedTask = c.changedTask || i.Lasting
		c.changed(s, i, now)
	}
}

// expunge forgets an instance, whatever has become of its task; should that be heard of again, it is killed.
func (c *Core) expunge(s *appState, i *instance) {
	if i.TaskID != "" {
		c.o.Cluster.Kill(frameworkName, i.TaskID)
	}
	c.changedTask = c.changedTask || i.Lasting
	s.remove(i)
}

func (c *Core) repeatKills(s *appState, now time.Time) {
	for _, i := range s.instances {
		if !i.nextKill.IsZero() && !now.Before(i.nextKill) {
			c.o.Cluster.Kill(frameworkName, i.TaskID)
			i.nextKill = now.Add(killRetry)
		}
	}
}

// expire replaces and forgets unreachable instances by their strategy.
func (c *Core) expire(s *appState, now time.Time) {
	for _, i := range slices.Clone(s.instances) {
		u := i.spec.UnreachableStrategy
		if i.State != node.Unreachable || u.Disabled {
			continue
		}
		if !now.Before(i.since.Add(time.Duration(u.ExpungeAfterSeconds) * time.Second)) {
			c.expunge(s, i)
		} else if !i.inactive && !now.Before(i.since.Add(time.Duration(u.InactiveAfterSeconds)*time.Second)) {
			i.inactive = true
			c.changed(s, i, now)
		}
	}
}

// Status takes a task's status update.
func (c *Core) Status(now time.Time, st node.Status) {
	s, i := c.find(st.TaskID)
	if i == nil {
		if st.State.Terminal() {
			app, inst := splitTaskID(st.TaskID)
			c.emit("unknown_instance_terminated_event", now, map[string]any{"instanceId": inst, "runSpecId": app, "condition": string(st.State)})
			return
		}
		c.o.Cluster.Kill(frameworkName, st.TaskID) // expunged, or of a former life
		return
	}
	if st.State == i.State && !st.State.Terminal() {
		return
	}
	c.statusEvent(s, i, st)
	was := i.State
	i.State = st.State
	c.changedTask = c.changedTask || i.Lasting
	switch {
	case st.State == node.Unreachable:
		i.since = now
	case st.State.Terminal():
		c.ended(s, i, st, now)
		return
	default:
		i.inactive = false
		if st.State == node.Running && i.Started.IsZero() {
			i.Started = now
		}
		if st.State != node.Killing {
			s.delay.rebase(now)
		}
	}
	c.changed(s, i, now)
	switch {
	case i.doomed && st.State == node.Unreachable:
		c.expunge(s, i)
	case i.doomed && was == node.Unreachable && i.nextKill.IsZero(): // given up meanwhile
		c.kill(s, i, true, now)
	}
}

// ended turns an instance whose task has ended into a scheduled one, or forgets it.
func (c *Core) ended(s *appState, i *instance, st node.Status, now time.Time) {
	if st.State != node.Killed { // whoever is killed has not failed
		s.delay.failed(s.spec, now)
	}
	if st.State != node.Killed && st.State != node.Finished {
		s.failure = map[string]any{
			"appId": s.spec.ID, "host": i.Host, "message": st.Message, "slaveId": i.Agent, "state": string(st.State), "taskId": i.TaskID,
			"timestamp": timestamp(now), "version": *i.spec.Version,
		}
	}
	c.changed(s, i, now)
	if i.doomed {
		s.remove(i)
		return
	}
	i.TaskID, i.State, i.nextKill, i.inactive = "", "", time.Time{}, false
	i.Staged, i.Started, i.Ports = time.Time{}, time.Time{}, nil
}

func (c *Core) find(taskID string) (*appState, *instance) {
	for _, s := range c.apps {
		for _, i := range s.instances {
			if i.TaskID == taskID {
				return s, i
			}
		}
	}
	return nil, nil
}

// taskID names the next task of an instance; 1.4 knew no instances.
func (c *Core) taskID(i *instance) string {
	if c.o.Legacy {
		return strings.Split(i.ID, ".instance-")[0] + "." + node.NewUUID()
	}
	return fmt.Sprintf("%s._app.%d", i.ID, i.Incarnation)
}

// splitTaskID finds app and instance in a task's name.
func splitTaskID(id string) (app, inst string) {
	inst, _, _ = strings.Cut(id, "._app.")
	if at := strings.LastIndex(inst, "."); at > 0 {
		app = inst[:at]
	}
	return "/" + strings.ReplaceAll(app, "_", "/"), inst
}
