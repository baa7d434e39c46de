package marathon

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"qosctl/devmesos/node"
)

// decode reads JSON that must be the whole body.
func (c *Core) decode(body []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	if err := dec.Decode(v); err != nil {
		return c.invalidJSON(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return c.invalidJSON(fmt.Errorf("unexpected text after the JSON value"))
	}
	return nil
}

// parse reads a complete definition.
func (c *Core) parse(body []byte, id string) (*App, error) {
	a := &App{}
	if err := c.decode(body, a); err != nil {
		return nil, err
	}
	return a, c.whole(a, id)
}

// whole completes and checks a definition; id is that of the path, "" where the body must name it.
func (c *Core) whole(a *App, id string) error {
	if id != "" {
		a.ID = id
	}
	if a.ID == "" {
		return invalidObject([]problem{{"/id", []string{"error.path.missing"}}})
	}
	a.ID = canonical(a.ID)
	a.Version, a.VersionInfo = nil, nil
	if err := validID(a.ID); err != nil {
		return err
	}
	if err := normalize(a); err != nil {
		return err
	}
	c.complete(a)
	return c.validate(a)
}

// Create is POST /v2/apps.
func (c *Core) Create(now time.Time, body []byte, force bool) (map[string]any, *deployment, error) {
	a, err := c.parse(body, "")
	if err != nil {
		return nil, nil, err
	}
	if _, err := c.app(a.ID); err == nil {
		return nil, nil, errExists(a.ID)
	}
	d, err := c.deploy(now, map[string]*App{a.ID: a}, force, false)
	if err != nil {
		return nil, nil, err
	}
	info := c.appJSON(c.apps[a.ID], embed{})
	for _, k := range []string{"tasksStaged", "tasksRunning", "tasksHealthy", "tasksUnhealthy"} {
		info[k] = 0
	}
	info["deployments"] = []any{map[string]string{"id": d.ID}}
	return info, d, nil
}

// target is what an app is to become by an update: merged into what is there, replaced as a whole, or a former version.
func (c *Core) target(id string, body []byte, partial, create bool) (*App, error) {
	s, err := c.app(id)
	if err != nil {
		if !create {
			return nil, err
		}
		return c.parse(body, id)
	}
	if !partial {
		return c.parse(body, id)
	}
	u := &App{}
	if err := c.decode(body, u); err != nil {
		return nil, err
	}
	if u.Version != nil {
		return c.rollback(s, u)
	}
	if err := normalize(u); err != nil {
		return nil, err
	}
	a := s.spec.clone()
	u.VersionInfo = nil
	a.merge(u)
	return a, c.whole(a, id)
}

// rollback finds the version that an update names; nothing else may be in it.
func (c *Core) rollback(s *appState, u *App) (*App, error) {
	rest := *u
	rest.Version, rest.ID = nil, ""
	if b, _ := json.Marshal(rest); string(b) != "{}" {
		return nil, invalidObject([]problem{{"/version", []string{"The 'version' field may only be combined with the 'id' field."}}})
	}
	old := s.versions[*u.Version]
	if old == nil {
		return nil, failure(http.StatusUnprocessableEntity, "App '%s' has no version '%s'", s.spec.ID, *u.Version)
	}
	return old.clone(), nil
}

// Update is PUT (create true) or PATCH of an app.
func (c *Core) Update(now time.Time, id string, body []byte, force, partial, create bool) (d *deployment, existed bool, err error) {
	_, noApp := c.app(id)
	a, err := c.target(id, body, partial, create)
	if err != nil {
		return nil, false, err
	}
	d, err = c.deploy(now, map[string]*App{id: a}, force, false)
	return d, noApp == nil, err
}

// UpdateAll is PUT or PATCH of a list of apps.
func (c *Core) UpdateAll(now time.Time, body []byte, force, partial, create bool) (*deployment, error) {
	var list []json.RawMessage
	if err := c.decode(body, &list); err != nil {
		return nil, err
	}
	changes := map[string]*App{}
	for i, raw := range list {
		var named struct{ ID string }
		if err := c.decode(raw, &named); err != nil {
			return nil, err
		}
		if named.ID == "" {
			return nil, invalidObject([]problem{{fmt.Sprintf("/(%d)/id", i), []string{"error.path.missing"}}})
		}
		id := canonical(named.ID)
		a, err := c.target(id, raw, partial, create)
		if err != nil {
			return nil, err
		}
		changes[id] = a
	}
	return c.deploy(now, changes, force, false)
}

// Delete is DELETE of an app.
func (c *Core) Delete(now time.Time, id string, force bool) (*deployment, error) {
	if _, err := c.app(id); err != nil {
		return nil, err
	}
	return c.deploy(now, map[string]*App{id: nil}, force, false)
}

// Restart is POST …/restart.
func (c *Core) Restart(now time.Time, id string, force bool) (*deployment, error) {
	s, err := c.app(id)
	if err != nil {
		return nil, err
	}
	return c.deploy(now, map[string]*App{id: s.spec.clone()}, force, true)
}

// killRequest is what DELETE …/tasks asks for.
type killRequest struct {
	task, host         string // "": all
	scale, force, wipe bool
}

// KillTasks is DELETE …/tasks and …/tasks/{id}. With scale the app gets smaller, by a deployment; else it launches others once
// the tasks have ended; with wipe the instances are forgotten at once, reachable or not.
func (c *Core) KillTasks(now time.Time, id string, r killRequest) (*deployment, []map[string]any, error) {
	s, err := c.app(id)
	if err != nil {
		return nil, nil, err
	}
	if r.scale && r.wipe {
		return nil, nil, failure(http.StatusBadRequest, "You cannot use scale and wipe at the same time.")
	}
	var hit []*instance
	for _, i := range s.instances {
		if i.TaskID != "" && (r.task == "" || r.task == i.TaskID || r.task == i.ID) && (r.host == "" || r.host == "*" || r.host == i.Host) {
			hit = append(hit, i)
		}
	}
	if r.task != "" && len(hit) == 0 {
		return nil, nil, failure(http.StatusNotFound, "Task '%s' does not exist", r.task)
	}
	var d *deployment
	if r.scale {
		if d, err = c.scaleDown(now, s, hit, r.force); err != nil {
			return nil, nil, err
		}
	}
	tasks := []map[string]any{}
	for _, i := range hit {
		tasks = append(tasks, c.taskJSON(s, i))
	}
	for _, i := range hit {
		switch {
		case r.wipe:
			c.expunge(s, i)
		case i.State == node.Unreachable && !r.scale:
			c.decommission(s, i, now)
		default:
			c.kill(s, i, r.scale, now)
		}
	}
	return d, tasks, nil
}

func (c *Core) scaleDown(now time.Time, s *appState, hit []*instance, force bool) (*deployment, error) {
	a := s.spec.clone()
	a.Instances = new(max(0, *a.Instances-len(hit)))
	return c.deploy(now, map[string]*App{a.ID: a}, force, false)
}

// EndDeployment is DELETE /v2/deployments/{id}: with force it is dropped as it stands (no deployment is returned), else another
// one takes the apps back to where they were.
func (c *Core) EndDeployment(now time.Time, id string, force bool) (*deployment, error) {
	at := slices.IndexFunc(c.deployments, func(d *deployment) bool { return d.ID == id })
	if at < 0 {
		return nil, failure(http.StatusNotFound, "DeploymentPlan %s does not exist", id)
	}
	d := c.deployments[at]
	if force {
		c.cancel(id, now)
		return nil, nil
	}
	changes := map[string]*App{}
	for app, spec := range d.original {
		if spec != nil {
			spec = spec.clone()
		}
		changes[app] = spec
	}
	return c.deploy(now, changes, true, false)
}
