package chronos

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const maxBody = 4 << 20

// Handler is Chronos' HTTP API.
func (s *Scheduler) Handler() http.Handler {
	mux := http.NewServeMux()
	p := s.o.Prefix
	mux.HandleFunc("GET /ping", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "pong\n") })
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]any{"gauges": map[string]any{}})
	})
	mux.HandleFunc("POST "+p+"/iso8601", s.post)
	mux.HandleFunc("POST "+p+"/dependency", s.dependency)
	mux.HandleFunc("GET "+p+"/jobs", s.jobs)
	mux.HandleFunc("GET "+p+"/jobs/search", s.search)
	mux.HandleFunc("PUT "+p+"/job/{name}", s.start)
	mux.HandleFunc("DELETE "+p+"/job/{name}", s.delete)
	mux.HandleFunc("PUT "+p+"/job/success/{name}", s.success)
	mux.HandleFunc("GET "+p+"/job/stat/{name}", s.stat)
	mux.HandleFunc("DELETE "+p+"/task/kill/{name}", s.kill)
	mux.HandleFunc("GET "+p+"/graph/csv", s.csv)
	mux.HandleFunc("GET "+p+"/graph/dot", s.dot)
	mux.HandleFunc("GET "+p+"/leader", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]string{"leader": s.o.Leader})
	})
	mux.HandleFunc("GET "+p+"/stats/{percentile}", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, []any{}) })
	if s.core.old {
		mux.HandleFunc("PUT "+p+"/iso8601", s.post)
	} else {
		mux.HandleFunc("GET "+p+"/job/{name}", s.job)
		mux.HandleFunc("GET "+p+"/jobs/summary", s.summary)
	}
	return mux
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that went away is no concern of ours
}

// fail answers with an error: 400 or 500 with a message, never 404. 2.x has plain text.
func (s *Scheduler) fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	if e, ok := errors.AsType[*apiError](err); ok {
		status = e.status
	}
	if s.core.old {
		http.Error(w, err.Error(), status)
		return
	}
	reply(w, status, map[string]string{"message": err.Error(), "status": http.StatusText(status)})
}

// finish answers 204, or the error.
func (s *Scheduler) finish(w http.ResponseWriter, err error) {
	if err != nil {
		s.fail(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// read takes a job from a request.
func (s *Scheduler) read(w http.ResponseWriter, r *http.Request) (*Job, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, badRequest("read body: %s", err)
	}
	j, err := readJob(b, s.core.old)
	switch {
	case err == nil:
		return j, nil
	case errors.Is(err, errNoName):
		return nil, err
	}
	if e, ok := errors.AsType[errNetwork](err); ok {
		return nil, e
	}
	return nil, badRequest("%s", err)
}

func (s *Scheduler) post(w http.ResponseWriter, r *http.Request) {
	j, err := s.read(w, r)
	if err == nil {
		err = s.do(func(c *Core, now time.Time) error { return c.Post(j, now) })
	}
	s.finish(w, err)
}

func (s *Scheduler) dependency(w http.ResponseWriter, r *http.Request) {
	j, err := s.read(w, r)
	if err == nil && len(j.Parents) == 0 {
		err = errors.New("Error, parent does not exist") //nolint:staticcheck // their words
	}
	if err == nil {
		err = s.do(func(c *Core, now time.Time) error { return c.Post(j, now) })
	}
	s.finish(w, err)
}

// shown is a job's answer; only GET /jobs mirrors uris and fetch into each other.
func (j *Job) shown(mirror bool) any {
	c := *j
	if mirror {
		switch {
		case len(c.Fetch) == 0:
			c.Fetch = []Fetch{}
			for _, u := range c.URIs {
				c.Fetch = append(c.Fetch, Fetch{URI: u, Extract: true})
			}
		case len(c.URIs) == 0:
			c.URIs = []string{}
			for _, f := range c.Fetch {
				c.URIs = append(c.URIs, f.URI)
			}
		}
	}
	if j.Old == nil {
		return c
	}
	return struct {
		Job
		OldMembers
	}{c, *j.Old}
}

// each visits the jobs in the graph, in order of their creation.
func (s *Scheduler) each(visit func(c *Core, j *Job)) error {
	return s.do(func(c *Core, _ time.Time) error {
		for _, name := range c.order {
			if c.graph[name] {
				visit(c, c.store[name])
			}
		}
		return nil
	})
}

func (s *Scheduler) list(w http.ResponseWriter, keep func(*Job) bool, page func([]any) []any, mirror bool) {
	all := []any{}
	err := s.each(func(_ *Core, j *Job) {
		if keep(j) {
			all = append(all, j.shown(mirror))
		}
	})
	if err != nil {
		s.fail(w, err)
		return
	}
	reply(w, http.StatusOK, page(all))
}

func (s *Scheduler) jobs(w http.ResponseWriter, _ *http.Request) {
	s.list(w, func(*Job) bool { return true }, func(l []any) []any { return l }, true)
}

// search finds by parts of name or command, whatever their case; ten answers unless more are asked for.
func (s *Scheduler) search(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	number := func(name string, def int) int {
		if n, err := strconv.Atoi(q.Get(name)); err == nil && n >= 0 {
			return n
		}
		return def
	}
	contains := func(text, part string) bool { return strings.Contains(strings.ToLower(text), strings.ToLower(part)) }
	keep := func(j *Job) bool {
		if part := q.Get("any"); part != "" {
			return contains(j.Name, part) || contains(j.Command, part)
		}
		return contains(j.Name, q.Get("name")) && contains(j.Command, q.Get("command"))
	}
	from, most := number("offset", 0), number("limit", 10)
	s.list(w, keep, func(l []any) []any {
		l = l[min(from, len(l)):]
		return l[:min(most, len(l))]
	}, false)
}

func (s *Scheduler) job(w http.ResponseWriter, r *http.Request) {
	var out any
	err := s.do(func(c *Core, _ time.Time) error {
		j, err := c.find(r.PathValue("name"))
		if err == nil {
			out = j.shown(false)
		}
		return err
	})
	if err != nil {
		s.fail(w, err)
		return
	}
	reply(w, http.StatusOK, out)
}

func (s *Scheduler) summary(w http.ResponseWriter, _ *http.Request) {
	list := []any{}
	err := s.each(func(c *Core, j *Job) {
		parents := j.Parents
		if parents == nil {
			parents = []string{}
		}
		list = append(list, map[string]any{
			"name": j.Name, "status": j.status(), "state": c.state(j.Name), "schedule": j.Schedule, "parents": parents, "disabled": j.Disabled,
		})
	})
	if err != nil {
		s.fail(w, err)
		return
	}
	reply(w, http.StatusOK, map[string]any{"jobs": list})
}

func (s *Scheduler) start(w http.ResponseWriter, r *http.Request) {
	s.finish(w, s.do(func(c *Core, now time.Time) error { return c.Start(r.PathValue("name"), now) }))
}

func (s *Scheduler) delete(w http.ResponseWriter, r *http.Request) {
	s.finish(w, s.do(func(c *Core, _ time.Time) error { return c.Delete(r.PathValue("name")) }))
}

func (s *Scheduler) kill(w http.ResponseWriter, r *http.Request) {
	s.finish(w, s.do(func(c *Core, _ time.Time) error { return c.Kill(r.PathValue("name")) }))
}

// success marks a job's last run as successful, for its children.
func (s *Scheduler) success(w http.ResponseWriter, r *http.Request) {
	name, ok := r.PathValue("name"), false
	err := s.do(func(c *Core, now time.Time) error {
		if _, err := c.find(name); err == nil {
			ok = true
			c.fireChildren(name, now)
		}
		return nil
	})
	if err != nil {
		s.fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	fmt.Fprintf(w, "marked job %s as successful: %v", name, ok)
}

// stat would need Cassandra for more.
func (s *Scheduler) stat(w http.ResponseWriter, r *http.Request) {
	err := s.do(func(c *Core, _ time.Time) error {
		_, err := c.find(r.PathValue("name"))
		return err
	})
	if err != nil {
		s.fail(w, err)
		return
	}
	reply(w, http.StatusOK, map[string]any{"histogram": map[string]any{}, "taskStatHistory": []any{}})
}

func (s *Scheduler) graph(w http.ResponseWriter, write func(b *strings.Builder, c *Core, j *Job)) {
	var b strings.Builder
	if err := s.each(func(c *Core, j *Job) { write(&b, c, j) }); err != nil {
		s.fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, b.String())
}

func (s *Scheduler) csv(w http.ResponseWriter, _ *http.Request) {
	s.graph(w, func(b *strings.Builder, c *Core, j *Job) {
		fmt.Fprintf(b, "node,%s,%s,%s\n", j.Name, j.status(), c.state(j.Name))
		for _, p := range j.Parents {
			fmt.Fprintf(b, "link,%s,%s\n", p, j.Name)
		}
	})
}

func (s *Scheduler) dot(w http.ResponseWriter, _ *http.Request) {
	var inner strings.Builder
	err := s.each(func(_ *Core, j *Job) {
		fmt.Fprintf(&inner, "  %q\n", j.Name)
		for _, p := range j.Parents {
			fmt.Fprintf(&inner, "  %q -> %q\n", p, j.Name)
		}
	})
	if err != nil {
		s.fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, "digraph G {\n"+inner.String()+"}\n")
}
