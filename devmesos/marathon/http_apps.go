package marathon

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// apps routes /v2/apps…: IDs hold slashes, so the last segments decide.
func (s *Scheduler) apps(w http.ResponseWriter, r *http.Request) {
	path := strings.Trim(strings.TrimPrefix(r.URL.Path, "/v2/apps"), "/")
	if path == "" {
		switch r.Method {
		case http.MethodGet:
			s.list(w, r)
		case http.MethodPost:
			s.create(w, r)
		case http.MethodPut, http.MethodPatch:
			s.updateAll(w, r)
		default:
			methodNotAllowed(w)
		}
		return
	}
	segments := strings.Split(path, "/")
	last := len(segments) - 1
	join := func(n int) string { return canonical(strings.Join(segments[:n], "/")) }
	switch {
	case last > 0 && segments[last] == "restart" && r.Method == http.MethodPost:
		s.restart(w, r, join(last))
	case last > 0 && segments[last] == "tasks":
		s.tasks(w, r, join(last), "")
	case last > 1 && segments[last-1] == "tasks":
		s.tasks(w, r, join(last-1), segments[last])
	case last > 0 && segments[last] == "versions" && r.Method == http.MethodGet:
		s.versions(w, join(last))
	case last > 1 && segments[last-1] == "versions" && r.Method == http.MethodGet:
		s.version(w, join(last-1), segments[last])
	case segments[last] == "*" && r.Method == http.MethodGet:
		s.group(w, r, join(last))
	default:
		s.one(w, r, join(last+1))
	}
}

func methodNotAllowed(w http.ResponseWriter) {
	reply(w, http.StatusMethodNotAllowed, map[string]string{"message": "HTTP 405 Method Not Allowed"})
}

// one serves a single app.
func (s *Scheduler) one(w http.ResponseWriter, r *http.Request, id string) {
	switch r.Method {
	case http.MethodGet:
		var out map[string]any
		err := s.do(func(c *Core, _ time.Time) error {
			a, err := c.app(id)
			if err == nil {
				out = c.appJSON(a, embed{counts: true, deployments: true, tasks: true, failure: true})
			}
			return err
		})
		if err != nil {
			fail(w, err)
			return
		}
		reply(w, http.StatusOK, map[string]any{"app": out})
	case http.MethodPut, http.MethodPatch:
		s.update(w, r, id)
	case http.MethodDelete:
		var d *deployment
		err := s.do(func(c *Core, now time.Time) (err error) {
			d, err = c.Delete(now, id, flag(r, "force", true))
			return err
		})
		s.answer(w, http.StatusOK, d, err)
	default:
		methodNotAllowed(w)
	}
}

func (s *Scheduler) answer(w http.ResponseWriter, status int, d *deployment, err error) {
	if err != nil {
		fail(w, err)
		return
	}
	deployed(w, status, d)
}

// list serves GET /v2/apps with its filters.
func (s *Scheduler) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	selector, err := parseSelector(q.Get("label"))
	if err != nil {
		fail(w, err)
		return
	}
	e := embedding(q["embed"])
	out := []map[string]any{}
	_ = s.do(func(c *Core, _ time.Time) error {
		for _, id := range c.ids() {
			a := c.apps[id]
			if strings.Contains(id, q.Get("id")) && strings.Contains(orElse(a.spec.Cmd, ""), q.Get("cmd")) && selector(a.spec.Labels) {
				out = append(out, c.appJSON(a, e))
			}
		}
		return nil
	})
	reply(w, http.StatusOK, map[string]any{"apps": out})
}

func (s *Scheduler) group(w http.ResponseWriter, r *http.Request, group string) {
	e := embedding(r.URL.Query()["embed"])
	out := []map[string]any{}
	prefix := strings.TrimSuffix(group, "/") + "/"
	_ = s.do(func(c *Core, _ time.Time) error {
		for _, id := range c.ids() {
			if strings.HasPrefix(id, prefix) {
				out = append(out, c.appJSON(c.apps[id], e))
			}
		}
		return nil
	})
	reply(w, http.StatusOK, map[string]any{"*": out})
}

// embedding reads the embed parameters; counts and deployments are always there.
func embedding(names []string) embed {
	e := embed{counts: true, deployments: true}
	for _, n := range names {
		switch strings.TrimPrefix(strings.TrimPrefix(n, "apps."), "app.") {
		case "tasks":
			e.tasks = true
		case "lastTaskFailure", "failures":
			e.failure = true
		}
	}
	return e
}

func (s *Scheduler) create(w http.ResponseWriter, r *http.Request) {
	b, err := body(w, r)
	if err != nil {
		fail(w, err)
		return
	}
	var info map[string]any
	var d *deployment
	err = s.do(func(c *Core, now time.Time) (err error) {
		info, d, err = c.Create(now, b, flag(r, "force", false))
		if err == nil {
			c.emit("api_post_event", now, map[string]any{"clientIp": r.RemoteAddr, "uri": r.URL.Path, "appDefinition": info})
		}
		return err
	})
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Location", fmt.Sprintf("/v2/apps%s", info["id"]))
	w.Header().Set("Marathon-Deployment-Id", d.ID)
	reply(w, http.StatusCreated, info)
}

func (s *Scheduler) update(w http.ResponseWriter, r *http.Request, id string) {
	b, err := body(w, r)
	if err != nil {
		fail(w, err)
		return
	}
	put := r.Method == http.MethodPut
	var d *deployment
	existed := false
	err = s.do(func(c *Core, now time.Time) (err error) {
		d, existed, err = c.Update(now, id, b, flag(r, "force", false), !put || flag(r, "partialUpdate", true), put)
		return err
	})
	status := http.StatusOK
	if err == nil && !existed {
		status = http.StatusCreated
		w.Header().Set("Location", "/v2/apps"+id)
	}
	s.answer(w, status, d, err)
}

func (s *Scheduler) updateAll(w http.ResponseWriter, r *http.Request) {
	b, err := body(w, r)
	if err != nil {
		fail(w, err)
		return
	}
	put := r.Method == http.MethodPut
	var d *deployment
	err = s.do(func(c *Core, now time.Time) (err error) {
		d, err = c.UpdateAll(now, b, flag(r, "force", false), !put || flag(r, "partialUpdate", true), put)
		return err
	})
	s.answer(w, http.StatusOK, d, err)
}

func (s *Scheduler) restart(w http.ResponseWriter, r *http.Request, id string) {
	var d *deployment
	err := s.do(func(c *Core, now time.Time) (err error) {
		d, err = c.Restart(now, id, flag(r, "force", false))
		return err
	})
	s.answer(w, http.StatusOK, d, err)
}

func (s *Scheduler) versions(w http.ResponseWriter, id string) {
	list := []string{}
	err := s.do(func(c *Core, _ time.Time) error {
		a, err := c.app(id)
		if err == nil {
			list = slices.Sorted(maps.Keys(a.versions))
			slices.Reverse(list)
		}
		return err
	})
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, http.StatusOK, map[string]any{"versions": list})
}

func (s *Scheduler) version(w http.ResponseWriter, id, version string) {
	var out json.RawMessage
	err := s.do(func(c *Core, _ time.Time) error {
		a, err := c.app(id)
		if err != nil {
			return err
		}
		v := a.versions[version]
		if v == nil {
			return failure(http.StatusNotFound, "App '%s' does not exist in version %s", id, version)
		}
		out, err = json.Marshal(c.answer(v))
		return err
	})
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, http.StatusOK, out)
}

// tasks serves an app's tasks: list and kill.
func (s *Scheduler) tasks(w http.ResponseWriter, r *http.Request, id, task string) {
	switch {
	case r.Method == http.MethodGet && task == "":
		var list []map[string]any
		err := s.do(func(c *Core, _ time.Time) error {
			a, err := c.app(id)
			if err == nil {
				list = c.tasksJSON(a)
			}
			return err
		})
		if err != nil {
			fail(w, err)
			return
		}
		reply(w, http.StatusOK, map[string]any{"tasks": list})
	case r.Method == http.MethodDelete:
		s.killTasks(w, r, id, task)
	default:
		methodNotAllowed(w)
	}
}

func (s *Scheduler) killTasks(w http.ResponseWriter, r *http.Request, id, task string) {
	req := killRequest{
		task: task, host: r.URL.Query().Get("host"), scale: flag(r, "scale", false), force: flag(r, "force", false), wipe: flag(r, "wipe", false),
	}
	var d *deployment
	var killed []map[string]any
	err := s.do(func(c *Core, now time.Time) (err error) {
		d, killed, err = c.KillTasks(now, id, req)
		return err
	})
	switch {
	case err != nil:
		fail(w, err)
	case d != nil:
		deployed(w, http.StatusOK, d)
	case task != "":
		reply(w, http.StatusOK, map[string]any{"task": killed[0]})
	default:
		reply(w, http.StatusOK, map[string]any{"tasks": killed})
	}
}

// isLegacy says whether a version answers in the shapes before 1.5.
func isLegacy(version string) (bool, error) {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	if err1 != nil || err2 != nil {
		return false, fmt.Errorf("marathon version: want MAJOR.MINOR.PATCH (got %q)", version)
	}
	return a < 1 || a == 1 && b < 5, nil
}
