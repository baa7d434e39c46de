package marathon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxBody bounds a request (Marathon's own bound is that of its ZooKeeper nodes, about 1 MB).
const maxBody = 4 << 20

// Handler is Marathon's HTTP API.
func (s *Scheduler) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/v2/apps", s.apps)
	mux.HandleFunc("/v2/apps/", s.apps)
	mux.HandleFunc("GET /v2/deployments", s.listDeployments)
	mux.HandleFunc("DELETE /v2/deployments/{id}", s.endDeployment)
	mux.HandleFunc("GET /v2/events", s.events)
	mux.HandleFunc("GET /v2/info", s.info)
	mux.HandleFunc("GET /v2/leader", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]string{"leader": s.o.Leader})
	})
	mux.HandleFunc("DELETE /v2/leader", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]string{"message": "Leadership abdicated"})
	})
	mux.HandleFunc("GET /ping", ping)
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("GET /metrics/prometheus", s.metricsText)
	mux.HandleFunc("/", s.unknown)
	return mux
}

func (s *Scheduler) legacy() bool { return s.core.o.Legacy }

// unknown answers a route that there is none for: 500 from 1.5 on, which makes 404 on a bogus route no good probe.
func (s *Scheduler) unknown(w http.ResponseWriter, r *http.Request) {
	if s.legacy() {
		reply(w, http.StatusNotFound, map[string]string{"message": "URI not found: " + r.URL.Path})
		return
	}
	reply(w, http.StatusInternalServerError, map[string]string{"message": "URI not found"})
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that went away is no concern of ours
}

// fail answers with an error.
func fail(w http.ResponseWriter, err error) {
	if e, ok := errors.AsType[*apiError](err); ok {
		reply(w, e.Status, e.Body)
		return
	}
	reply(w, http.StatusInternalServerError, map[string]string{"message": err.Error()})
}

// body reads a request's JSON text; Marathon insists on the content type.
func body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return nil, failure(http.StatusUnsupportedMediaType, "HTTP 415 Unsupported Media Type")
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, failure(http.StatusRequestEntityTooLarge, "read body: %s", err)
	}
	return b, nil
}

// flag reads a boolean of the query.
func flag(r *http.Request, name string, def bool) bool {
	text := r.URL.Query().Get(name)
	if text == "" {
		return def
	}
	v, err := strconv.ParseBool(text)
	return err == nil && v
}

// deployed answers with a deployment's result.
func deployed(w http.ResponseWriter, status int, d *deployment) {
	w.Header().Set("Marathon-Deployment-Id", d.ID)
	reply(w, status, map[string]string{"version": d.Version, "deploymentId": d.ID})
}

func (s *Scheduler) listDeployments(w http.ResponseWriter, _ *http.Request) {
	list := []any{}
	_ = s.do(func(c *Core, _ time.Time) error {
		for _, d := range c.deployments {
			list = append(list, c.planJSON(d))
		}
		return nil
	})
	reply(w, http.StatusOK, list)
}

func (s *Scheduler) endDeployment(w http.ResponseWriter, r *http.Request) {
	var d *deployment
	err := s.do(func(c *Core, now time.Time) (err error) {
		d, err = c.EndDeployment(now, r.PathValue("id"), flag(r, "force", false))
		return err
	})
	switch {
	case err != nil:
		fail(w, err)
	case d == nil:
		w.WriteHeader(http.StatusAccepted)
	default:
		deployed(w, http.StatusOK, d)
	}
}

// events streams events until the client or the scheduler goes.
func (s *Scheduler) events(w http.ResponseWriter, r *http.Request) {
	events, cancel := s.hub.subscribe()
	defer cancel()
	only := map[string]bool{}
	for _, t := range r.URL.Query()["event_type"] {
		only[t] = true
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	flush := http.NewResponseController(w)
	send := func(f frame) bool {
		if len(only) > 0 && !only[f.kind] {
			return true
		}
		_, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", f.kind, f.data)
		return err == nil && flush.Flush() == nil
	}
	hello, _ := json.Marshal(map[string]string{ // plain text
		"eventType": "event_stream_attached", "remoteAddress": r.RemoteAddr, "timestamp": timestamp(time.Now()),
	})
	w.WriteHeader(http.StatusOK)
	_ = flush.Flush()
	if !send(frame{"event_stream_attached", hello}) {
		return
	}
	heartbeat := time.NewTicker(10 * time.Second) // Jetty's
	defer heartbeat.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-heartbeat.C:
			if _, err := io.WriteString(w, "\n"); err != nil || flush.Flush() != nil {
				return
			}
		case f, ok := <-events:
			if !ok || !send(f) {
				return
			}
		}
	}
}

func (s *Scheduler) info(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]any{
		"name": "marathon", "version": s.o.Version, "buildref": "unknown", "elected": true, "leader": s.o.Leader, "frameworkId": s.o.FrameworkID,
		"marathon_config": map[string]any{
			"master": "127.0.0.1:5050", "hostname": strings.Split(s.o.Leader, ":")[0], "checkpoint": true, "ha": false, "framework_name": "marathon",
			"mesos_role": "*", "task_launch_timeout": 300000, "failover_timeout": 604800, "features": []string{},
		},
		"zookeeper_config": map[string]any{},
		"http_config":      map[string]any{"http_port": port(s.o.Leader), "https_port": 8443},
	})
}

func port(address string) int {
	_, p, _ := strings.Cut(address, ":")
	n, _ := strconv.Atoi(p)
	return n
}

// ping answers text, JSON or nothing, as the client accepts.
func ping(w http.ResponseWriter, r *http.Request) {
	accept := r.Header.Get("Accept")
	switch {
	case accept == "" || strings.Contains(accept, "text/plain") || strings.Contains(accept, "*/*") || strings.Contains(accept, "text/*"):
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "pong")
	case strings.Contains(accept, "application/json"):
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `"pong"`)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// gauges are the few numbers of /metrics.
func (s *Scheduler) gauges() (apps, instances, deployments int) {
	_ = s.do(func(c *Core, _ time.Time) error {
		apps, deployments = len(c.ids()), len(c.deployments)
		for _, a := range c.apps {
			instances += len(a.instances)
		}
		return nil
	})
	return apps, instances, deployments
}

func (s *Scheduler) metrics(w http.ResponseWriter, _ *http.Request) {
	apps, instances, deployments := s.gauges()
	value := func(n int) map[string]int { return map[string]int{"value": n} }
	reply(w, http.StatusOK, map[string]any{
		"version": "4.0.0", "counters": map[string]any{}, "histograms": map[string]any{}, "meters": map[string]any{}, "timers": map[string]any{},
		"gauges": map[string]any{
			"marathon.apps.active.gauge": value(apps), "marathon.instances.active.gauge": value(instances), "marathon.deployments.active.gauge": value(deployments),
		},
	})
}

func (s *Scheduler) metricsText(w http.ResponseWriter, _ *http.Request) {
	apps, instances, deployments := s.gauges()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	fmt.Fprintf(w, "# TYPE marathon_apps_active gauge\nmarathon_apps_active %d\n# TYPE marathon_instances_active gauge\nmarathon_instances_active %d\n"+
		"# TYPE marathon_deployments_active gauge\nmarathon_deployments_active %d\n", apps, instances, deployments)
}
