package marathon

import (
	"maps"
	"slices"
	"time"

	"qosctl/devmesos/node"
)

// deployment takes a set of apps from one definition to another, step by step.
type deployment struct {
	ID, Version string
	original    map[string]*App // nil: there was none
	target      map[string]*App // nil: deleted
	steps       [][]*action
	step        int
	announced   bool // of the current step
}

// The actions of a step.
const (
	startApp   = "StartApplication"
	scaleApp   = "ScaleApplication"
	restartApp = "RestartApplication"
	stopApp    = "StopApplication"
)

type action struct {
	Type, App string
	replace   *replacement
}

func (d *deployment) affects(id string) bool { _, ok := d.target[id]; return ok }

// lockedBy lists the running deployments of an app.
func (c *Core) lockedBy(id string) []string {
	var ids []string
	for _, d := range c.deployments {
		if d.affects(id) {
			ids = append(ids, d.ID)
		}
	}
	return ids
}

// deploy starts a deployment that gives the apps new definitions (nil deletes one). Restart forces a restart even if nothing is
// different. With force, running deployments of these apps are cancelled, without a rollback.
func (c *Core) deploy(now time.Time, changes map[string]*App, force, restart bool) (*deployment, error) {
	var conflicts []string
	for id := range changes {
		for _, d := range c.lockedBy(id) {
			if !slices.Contains(conflicts, d) {
				conflicts = append(conflicts, d)
			}
		}
	}
	if len(conflicts) > 0 && !force {
		return nil, errLocked(conflicts)
	}
	for _, id := range conflicts {
		c.cancel(id, now)
	}
	d := &deployment{ID: node.NewUUID(), Version: c.newVersion(now), original: map[string]*App{}, target: changes}
	for id, a := range changes {
		if s := c.apps[id]; s != nil && !s.deleted {
			d.original[id] = s.spec
		} else {
			d.original[id] = nil
		}
		if a != nil {
			c.stampVersions(a, d.original[id], d.Version, restart)
		}
	}
	d.plan(restart)
	for id, a := range changes {
		c.commit(id, a)
	}
	c.deployments = append(c.deployments, d)
	c.emit("group_change_success", now, map[string]any{"groupId": "/", "version": d.Version})
	return d, nil
}

// stampVersions notes in a new definition when it was made, scaled, and really changed.
func (c *Core) stampVersions(a, before *App, version string, restart bool) {
	a.Version = new(version)
	info := VersionInfo{LastScalingAt: version, LastConfigChangeAt: version}
	if before != nil && !restart && sameConfig(a, before) {
		info.LastConfigChangeAt = before.VersionInfo.LastConfigChangeAt
		if *a.Instances == *before.Instances {
			info = *before.VersionInfo
			a.Version = before.Version
		}
	}
	a.VersionInfo = &info
}

func (c *Core) commit(id string, a *App) {
	s := c.apps[id]
	if a == nil {
		if s != nil {
			s.deleted = true
		}
		return
	}
	if s == nil {
		s = &appState{versions: map[string]*App{}}
		c.apps[id] = s
	}
	if s.spec != nil && configVersion(s.spec) != configVersion(a) {
		s.delay = launchDelay{} // it is kept by app and configuration
	}
	s.spec, s.deleted = a, false
	s.versions[*a.Version] = a
}

// plan finds the steps that lead from the original to the target definitions.
func (d *deployment) plan(restart bool) {
	var starts, others []*action
	for _, id := range slices.Sorted(maps.Keys(d.target)) {
		from, to := d.original[id], d.target[id]
		switch {
		case to == nil && from != nil:
			others = append(others, &action{Type: stopApp, App: id})
		case to == nil:
		case from == nil:
			starts = append(starts, &action{Type: startApp, App: id})
			others = append(others, &action{Type: scaleApp, App: id})
		case configVersion(from) != configVersion(to) && *to.Instances == 0:
			others = append(others, &action{Type: scaleApp, App: id})
		case configVersion(from) != configVersion(to) || restart:
			others = append(others, &action{Type: restartApp, App: id})
		case *from.Instances != *to.Instances:
			others = append(others, &action{Type: scaleApp, App: id})
		}
	}
	for _, step := range [][]*action{starts, others} {
		if len(step) > 0 {
			d.steps = append(d.steps, step)
		}
	}
}

// cancel ends a deployment as it stands.
func (c *Core) cancel(id string, now time.Time) {
	c.deployments = slices.DeleteFunc(c.deployments, func(d *deployment) bool {
		if d.ID == id {
			c.emit("deployment_failed", now, map[string]any{"id": d.ID, "plan": c.planJSON(d), "reason": "The upgrade has been cancelled"})
			return true
		}
		return false
	})
}

// advance drives all deployments a step; true if one of them came further.
func (c *Core) advance(now time.Time) bool {
	moved := false
	for _, d := range slices.Clone(c.deployments) {
		if d.step >= len(d.steps) {
			c.deployments = slices.DeleteFunc(c.deployments, func(x *deployment) bool { return x == d })
			c.emit("deployment_success", now, map[string]any{"id": d.ID, "plan": c.planJSON(d)})
			moved = true
			continue
		}
		if !d.announced {
			d.announced = true
			c.emit("deployment_info", now, map[string]any{"plan": c.planJSON(d), "currentStep": stepJSON(d.steps[d.step])})
		}
		done := true
		for _, a := range d.steps[d.step] {
			if !c.perform(d, a, now) {
				done = false
			}
		}
		if done {
			c.emit("deployment_step_success", now, map[string]any{"plan": c.planJSON(d), "currentStep": stepJSON(d.steps[d.step])})
			d.step, d.announced, moved = d.step+1, false, true
		}
	}
	return moved
}

// perform does what an action can do now, and says whether it is done.
func (c *Core) perform(d *deployment, a *action, now time.Time) bool {
	s := c.apps[a.App]
	if s == nil {
		return true
	}
	switch a.Type {
	case scaleApp:
		return c.scale(s, d.target[a.App], now)
	case restartApp:
		if a.replace == nil {
			a.replace = c.beginReplace(s, d.target[a.App], now)
		}
		return a.replace.advance(c, s, now)
	case stopApp:
		return c.stopAll(s, now)
	}
	return true // StartApplication does nothing: the scaling that follows it does
}

// stopAll ends all instances of a deleted app, and forgets it with the last of them.
func (c *Core) stopAll(s *appState, now time.Time) bool {
	for _, i := range slices.Clone(s.instances) {
		c.kill(s, i, true, now)
	}
	if len(s.instances) > 0 {
		return false
	}
	if s.deleted {
		delete(c.apps, s.spec.ID)
		c.emit("app_terminated_event", now, map[string]any{"appId": s.spec.ID})
	}
	return true
}

// maxScheduled bounds the instances of an app that wait to be launched: others are thought of when these have been.
const maxScheduled = 100

// scale adds or ends instances until there are as many as the definition says; true when they run and the surplus has ended.
func (c *Core) scale(s *appState, a *App, now time.Time) bool {
	var keep []*instance
	running, leaving, scheduled, counted := 0, 0, 0, 0
	for _, i := range s.instances {
		switch {
		case i.doomed && now.Before(i.countsUntil):
			counted++
		case i.doomed:
			if i.State != node.Unreachable { // that one may stay for ever
				leaving++
			}
		case !i.inactive:
			keep = append(keep, i)
			switch {
			case i.State == node.Running:
				running++
			case i.TaskID == "":
				scheduled++
			}
		}
	}
	for n := len(keep) + counted; n < *a.Instances && scheduled < maxScheduled; n, scheduled = n+1, scheduled+1 {
		s.instances = append(s.instances, newInstance(a))
	}
	if extra := len(keep) - *a.Instances; extra > 0 {
		bySelection(keep, *a.KillSelection)
		for _, i := range keep[:extra] {
			c.kill(s, i, true, now)
		}
		return false
	}
	return running >= *a.Instances && leaving == 0
}

// bySelection puts first what is killed first: what does not run yet, then by age.
func bySelection(list []*instance, selection string) {
	rank := func(i *instance) int {
		switch {
		case i.TaskID == "":
			return 0
		case i.State == node.Unreachable:
			return 1
		case i.State != node.Running:
			return 2
		}
		return 3
	}
	slices.SortStableFunc(list, func(a, b *instance) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		if selection == "OLDEST_FIRST" {
			return a.Staged.Compare(b.Staged)
		}
		return b.Staged.Compare(a.Staged)
	})
}
