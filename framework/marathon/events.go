package marathon

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"qosctl/framework"
)

// EventReconnected is no event of Marathon's: it comes each time the stream stands (the first time too). Marathon replays
// nothing, so whoever gets it reads again what it must know.
const EventReconnected = "qosctl_reconnected"

// The events of Marathon that concern us. There are more.
const (
	EventStatusUpdate      = "status_update_event"
	EventDeploymentSuccess = "deployment_success"
	EventDeploymentFailed  = "deployment_failed"
	EventDeploymentInfo    = "deployment_info"
	EventAppTerminated     = "app_terminated_event"
	EventAPIPost           = "api_post_event"
)

// Event is one event of Marathon's stream. Fields that its type doesn't have are empty; Raw has the rest.
type Event struct {
	Type       string
	At         time.Time
	App        string
	Task       string
	TaskStatus string // TASK_…
	Agent      string // id of the Mesos agent
	Host       string
	Message    string
	Version    string   // of the app
	Deployment string   // id
	Apps       []string // that the deployment touches
	Raw        json.RawMessage
}

const maxEventBackoff = 30 * time.Second

// Events streams Marathon's events until ctx ends; then the channel is closed. A stream that breaks, or says nothing for
// Options.Idle, is made anew, with back-off; EventReconnected tells each time. The events are hints: read the state.
func (m *Client) Events(ctx context.Context) <-chan Event {
	out := make(chan Event, 64)
	m.wg.Go(func() {
		defer close(out)
		backoff := framework.Backoff{Base: m.base, Max: maxEventBackoff}
		for ctx.Err() == nil {
			err := m.follow(ctx, out, backoff.Reset)
			if ctx.Err() != nil {
				return
			}
			m.c.Log().Warn("marathon's event stream broke, making it anew", "framework", m.c.Name(), "err", err)
			if backoff.Wait(ctx) != nil {
				return
			}
		}
	})
	return out
}

var errSilent = errors.New("event stream is silent")

// follow reads one stream to its end.
func (m *Client) follow(ctx context.Context, out chan<- Event, stands func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, err := m.c.Stream(ctx, framework.Request{Method: http.MethodGet, Path: "/v2/events", Accept: "text/event-stream"})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // a stream has no end to be read
	if kind := resp.Header.Get("Content-Type"); !isEventStream(kind) {
		return framework.Odd(m.c, http.MethodGet, "/v2/events", "content type "+kind)
	}
	watch := newWatchdog(m.idle, func() { cancel(errSilent) })
	defer watch.stop()
	if !send(ctx, out, Event{Type: EventReconnected, At: time.Now()}) {
		return context.Cause(ctx)
	}
	sse := framework.NewSSE(watch.reader(resp.Body))
	for {
		kind, data, err := sse.Next()
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
		stands() // not before: a stream that is cut off at once must not be hammered
		event, err := parseEvent(kind, data)
		if err != nil {
			m.c.Log().Warn("marathon sent an event that can't be read", "framework", m.c.Name(), "event", kind, "err", err)
			continue
		}
		watch.pause()
		if !send(ctx, out, event) {
			return context.Cause(ctx)
		}
		watch.resume()
	}
}

func send(ctx context.Context, out chan<- Event, e Event) bool {
	select {
	case out <- e:
		return true
	case <-ctx.Done():
		return false
	}
}

func isEventStream(contentType string) bool {
	const want = "text/event-stream"
	return len(contentType) >= len(want) && contentType[:len(want)] == want
}

// parseEvent reads an event's JSON. The type in it counts before the frame's.
func parseEvent(kind string, data []byte) (Event, error) {
	var in struct {
		EventType  string `json:"eventType"`
		Timestamp  string `json:"timestamp"`
		AppID      string `json:"appId"`
		TaskID     string `json:"taskId"`
		TaskStatus string `json:"taskStatus"`
		AgentID    string `json:"slaveId"`
		Host       string `json:"host"`
		Message    string `json:"message"`
		Version    string `json:"version"`
		RunSpecID  string `json:"runSpecId"`
		ID         string `json:"id"`
		Plan       *struct {
			ID    string `json:"id"`
			Steps []struct {
				Actions []Action `json:"actions"`
			} `json:"steps"`
		} `json:"plan"`
		AppDefinition *struct {
			ID string `json:"id"`
		} `json:"appDefinition"`
		Reason string `json:"reason"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return Event{}, err
	}
	e := Event{
		Type: kind, App: in.AppID, Task: in.TaskID, TaskStatus: in.TaskStatus, Agent: in.AgentID, Host: in.Host,
		Message: in.Message, Version: in.Version, Deployment: in.ID, Raw: data,
	}
	if in.EventType != "" {
		e.Type = in.EventType
	}
	if at, err := time.Parse(time.RFC3339Nano, in.Timestamp); err == nil {
		e.At = at
	}
	if e.App == "" {
		e.App = in.RunSpecID
	}
	if e.Message == "" {
		e.Message = in.Reason
	}
	if in.Plan != nil {
		for _, step := range in.Plan.Steps {
			for _, a := range step.Actions {
				if a.App != "" && !slices.Contains(e.Apps, a.App) {
					e.Apps = append(e.Apps, a.App)
				}
			}
		}
		if e.Deployment == "" {
			e.Deployment = in.Plan.ID
		}
	}
	if in.AppDefinition != nil && e.App == "" {
		e.App = in.AppDefinition.ID
	}
	return e, nil
}

// watchdog calls back when nothing was read for too long. Time that the receiver of events takes doesn't count.
type watchdog struct {
	timer  *time.Timer
	idle   time.Duration
	paused atomic.Bool
}

func newWatchdog(idle time.Duration, bark func()) *watchdog {
	w := &watchdog{idle: idle}
	w.timer = time.AfterFunc(idle, func() {
		if !w.paused.Load() {
			bark()
		}
	})
	return w
}

func (w *watchdog) stop() { w.timer.Stop() }

func (w *watchdog) pause() {
	w.paused.Store(true)
	w.timer.Stop()
}

func (w *watchdog) resume() {
	w.paused.Store(false)
	w.timer.Reset(w.idle)
}

func (w *watchdog) reader(r io.Reader) io.Reader { return &watchedReader{r, w} }

type watchedReader struct {
	io.Reader
	watch *watchdog
}

func (r *watchedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if n > 0 {
		r.watch.timer.Reset(r.watch.idle)
	}
	return n, err
}
