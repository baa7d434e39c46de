// Package marathon is a client for Marathon's REST API and event stream (1.4 and later), and turns a job file into the app that
// Marathon gets. Requests, answers and their sources: docs/contract.md.
package marathon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"qosctl/framework"
)

// Options set a Client up. The zero value is good.
type Options struct {
	Logger    *slog.Logger
	Transport http.RoundTripper // nil: one of its own
	Backoff   time.Duration     // of retries; 0: the framework package's
	// Idle is after how much silence the event stream is given up and made anew; 0: 60 s (Marathon's server sends a
	// heartbeat every 10 s).
	Idle time.Duration
}

// Client talks to one Marathon, of one or several instances. It is safe for use by several goroutines.
type Client struct {
	c    *framework.Client
	idle time.Duration
	base time.Duration // of the event stream's back-off
	wg   sync.WaitGroup
}

// New makes a client. It sends nothing.
func New(e framework.Endpoint, o Options) (*Client, error) {
	if e.Name == "" {
		e.Name = "marathon"
	}
	if o.Idle < 0 {
		return nil, fmt.Errorf("endpoint %q: idle time %s is negative", e.Name, o.Idle)
	}
	c, err := framework.NewClient(framework.ClientOptions{
		Endpoint: e, Logger: o.Logger, Transport: o.Transport, Backoff: o.Backoff, Classify: classify,
	})
	if err != nil {
		return nil, err
	}
	m := &Client{c: c, idle: o.Idle, base: o.Backoff}
	if m.idle == 0 {
		m.idle = 60 * time.Second
	}
	if m.base == 0 {
		m.base = 500 * time.Millisecond
	}
	return m, nil
}

// Close waits until all event streams have ended (their contexts must have), and closes idle connections.
func (m *Client) Close() {
	m.wg.Wait()
	m.c.Close()
}

// classify corrects the sentinel by what Marathon says. Its 404 for an unknown route is not one for an unknown app, and its
// 403 for too many deployments has nothing to do with rights.
func classify(e *framework.Error) {
	switch {
	case e.Status == http.StatusNotFound && !strings.Contains(e.Message, "does not exist"):
		e.Kind = framework.ErrUnavailable
	case e.Status == http.StatusForbidden && strings.Contains(e.Message, "of running deployments"):
		e.Kind = framework.ErrUnavailable
	}
}

// Ping asks whether Marathon answers.
func (m *Client) Ping(ctx context.Context) error {
	_, err := m.c.Do(ctx, framework.Request{Method: http.MethodGet, Path: "/ping", Accept: "text/plain, application/json;q=0.5"})
	return err
}

// Info asks which Marathon this is.
func (m *Client) Info(ctx context.Context) (Info, error) {
	var info Info
	if err := m.get(ctx, "/v2/info", nil, &info); err != nil {
		return Info{}, err
	}
	if info.Version == "" {
		return Info{}, m.odd(http.MethodGet, "/v2/info", "no version in it")
	}
	info.V = ParseVersion(info.Version)
	return info, nil
}

// CreateApp creates an app. A lost answer is looked up: the app counts as created if it is there with the same labels and
// command. ErrExists if there is another by that id, ErrLocked if a deployment holds it, ErrInvalid with Details if Marathon
// refuses it.
func (m *Client) CreateApp(ctx context.Context, app json.RawMessage) (App, error) {
	var want App
	if err := json.Unmarshal(app, &want); err != nil {
		return App{}, fmt.Errorf("create app: %w", err)
	}
	const tries = 3
	for try := 1; ; try++ {
		resp, err := m.c.Do(ctx, framework.Request{Method: http.MethodPost, Path: "/v2/apps", Body: app, Secrets: secrets(want)})
		if err == nil {
			return m.created(resp.Body, want)
		}
		conflict := errors.Is(err, framework.ErrExists) || errors.Is(err, framework.ErrLocked)
		if !framework.Uncertain(err) && (try == 1 || !conflict) {
			return App{}, err
		}
		got, lookErr := m.App(ctx, want.ID)
		switch {
		case lookErr == nil && same(want, got):
			return got, nil
		case lookErr == nil && conflict:
			return App{}, err
		case lookErr == nil:
			return App{}, m.foreign(err, want.ID)
		case !errors.Is(lookErr, framework.ErrNotFound):
			return App{}, fmt.Errorf("%w (nor could be found out whether it was created: %w)", err, lookErr)
		case try == tries || statusOf(err) == http.StatusInternalServerError:
			return App{}, notCreated(err) // it is not there, and Marathon said what was wrong
		}
	}
}

// secrets are what errors about an app must not show.
func secrets(a App) []string { return []string{a.Env[framework.EnvSecret], a.Env[framework.EnvSpec]} }

// created reads the answer to a POST. The app is bare in it, not wrapped in "app".
func (m *Client) created(body []byte, want App) (App, error) {
	var got App
	if err := json.Unmarshal(body, &got); err != nil || got.ID == "" {
		return App{}, m.odd(http.MethodPost, "/v2/apps", "no app in it")
	}
	if got.ID != absolute(want.ID) {
		return App{}, m.odd(http.MethodPost, "/v2/apps", fmt.Sprintf("app %s in it, not %s", got.ID, want.ID))
	}
	return got, nil
}

// same says whether an app that was found is the one that was sent.
func same(want, got App) bool {
	for k, v := range want.Labels {
		if got.Labels[k] != v {
			return false
		}
	}
	return absolute(want.ID) == got.ID && want.Cmd == got.Cmd
}

func (m *Client) foreign(err error, id string) error {
	return &framework.Error{
		Framework: m.c.Name(), Method: http.MethodPost, Path: "/v2/apps", Status: http.StatusConflict,
		Message: fmt.Sprintf("An app with id [%s] already exists.", absolute(id)), Kind: framework.ErrExists, Cause: err,
	}
}

// notCreated takes the doubt off an error once a look has shown that nothing was created.
func notCreated(err error) error {
	if e, ok := errors.AsType[*framework.Error](err); ok {
		sure := *e
		sure.Uncertain = false
		return &sure
	}
	return err
}

func statusOf(err error) int {
	if e, ok := errors.AsType[*framework.Error](err); ok {
		return e.Status
	}
	return 0
}

// App describes one app, with its tasks. ErrNotFound if there is none.
func (m *Client) App(ctx context.Context, id string) (App, error) {
	var answer struct {
		App *App `json:"app"`
	}
	path := appPath(id)
	if err := m.get(ctx, path, nil, &answer); err != nil {
		return App{}, err
	}
	if answer.App == nil || answer.App.ID == "" {
		return App{}, m.odd(http.MethodGet, path, "no app in it")
	}
	return *answer.App, nil
}

// Apps lists the apps that a label selector picks, such as "qosctl.job" or "qosctl.job==UUID"; "": all. They come without tasks.
func (m *Client) Apps(ctx context.Context, label string) ([]App, error) {
	query := url.Values{}
	if label != "" {
		query.Set("label", label)
	}
	var answer struct {
		Apps *[]App `json:"apps"`
	}
	if err := m.get(ctx, "/v2/apps", query, &answer); err != nil {
		return nil, err
	}
	if answer.Apps == nil {
		return nil, m.odd(http.MethodGet, "/v2/apps", "no apps in it")
	}
	return *answer.Apps, nil
}

// Patch is a change of an app. Fields left nil stay as they are.
type Patch struct {
	CPUs        *float64    `json:"cpus,omitempty"`
	Instances   *int        `json:"instances,omitempty"`
	Constraints *[][]string `json:"constraints,omitempty"` // all of them
	Force       bool        `json:"-"`                     // cancels deployments that hold the app, without rolling them back
}

// SetCPUs changes an app's cpus, and its constraints if any are given (they replace those it has). Marathon restarts the task.
func (m *Client) SetCPUs(ctx context.Context, id string, cpus float64, constraints ...[]string) (Change, error) {
	p := Patch{CPUs: &cpus}
	if len(constraints) > 0 {
		p.Constraints = &constraints
	}
	return m.Patch(ctx, id, p)
}

// Scale changes the number of an app's instances.
func (m *Client) Scale(ctx context.Context, id string, instances int) (Change, error) {
	return m.Patch(ctx, id, Patch{Instances: &instances})
}

// Patch changes an app and never creates one. ErrLocked while a deployment holds it. A lost answer is looked up: if the app
// is as wanted, the change is done.
func (m *Client) Patch(ctx context.Context, id string, p Patch) (Change, error) {
	if p.CPUs != nil {
		rounded := RoundCPUs(*p.CPUs)
		p.CPUs = &rounded
	}
	body, err := json.Marshal(p)
	if err != nil {
		return Change{}, fmt.Errorf("change app %s: %w", id, err)
	}
	query := url.Values{}
	if p.Force {
		query.Set("force", "true")
	}
	change, err := m.change(ctx, framework.Request{Method: http.MethodPatch, Path: appPath(id), Query: query, Body: body})
	if err == nil || !framework.Uncertain(err) {
		return change, err
	}
	got, lookErr := m.App(ctx, id)
	if lookErr != nil {
		return Change{}, fmt.Errorf("%w (nor could be found out whether it was changed: %w)", err, lookErr)
	}
	if !p.done(got) {
		return Change{}, err
	}
	change = Change{Version: got.Version}
	if len(got.Deployments) > 0 {
		change.Deployment = got.Deployments[0]
	}
	return change, nil
}

// done says whether an app already is as the patch wants it.
func (p Patch) done(a App) bool {
	if p.CPUs != nil && RoundCPUs(a.CPUs) != *p.CPUs || p.Instances != nil && a.Instances != *p.Instances {
		return false
	}
	if p.Constraints == nil {
		return true
	}
	got, errGot := json.Marshal(a.Constraints)
	want, errWant := json.Marshal(*p.Constraints)
	return errGot == nil && errWant == nil && string(got) == string(want)
}

// DeleteApp deletes an app and kills its tasks, whatever deployment holds it. ErrNotFound if there is none.
func (m *Client) DeleteApp(ctx context.Context, id string) (Change, error) {
	return m.remove(ctx, framework.Request{Method: http.MethodDelete, Path: appPath(id), Safe: true})
}

// Tasks lists an app's tasks.
func (m *Client) Tasks(ctx context.Context, id string) ([]Task, error) {
	var answer struct {
		Tasks *[]Task `json:"tasks"`
	}
	path := appPath(id) + "/tasks"
	if err := m.get(ctx, path, nil, &answer); err != nil {
		return nil, err
	}
	if answer.Tasks == nil {
		return nil, m.odd(http.MethodGet, path, "no tasks in it")
	}
	return *answer.Tasks, nil
}

// KillTask kills a task; Marathon launches another. With wipe it also forgets a task that it can't reach. ErrNotFound if
// there is no such app or task.
func (m *Client) KillTask(ctx context.Context, app, task string, wipe bool) error {
	query := url.Values{}
	if wipe {
		query.Set("wipe", "true")
	}
	_, err := m.remove(ctx, framework.Request{
		Method: http.MethodDelete, Path: appPath(app) + "/tasks/" + url.PathEscape(task), Query: query, Safe: true,
	})
	return err
}

// Deployments lists the deployments that run.
func (m *Client) Deployments(ctx context.Context) ([]Deployment, error) {
	var list []Deployment
	err := m.get(ctx, "/v2/deployments", nil, &list)
	return list, err
}

// DeleteDeployment cancels a deployment. Without force a new deployment brings the old state back, and is returned; with it
// everything stays as it is now. ErrNotFound if there is none.
func (m *Client) DeleteDeployment(ctx context.Context, id string, force bool) (Change, error) {
	query := url.Values{}
	if force {
		query.Set("force", "true")
	}
	return m.remove(ctx, framework.Request{
		Method: http.MethodDelete, Path: "/v2/deployments/" + url.PathEscape(id), Query: query, Safe: true,
	})
}

// remove sends a DELETE. When it had to be sent again, "not found" says that the first one did it.
func (m *Client) remove(ctx context.Context, r framework.Request) (Change, error) {
	change, err := m.change(ctx, r)
	if e, ok := errors.AsType[*framework.Error](err); ok && e.Repeated && errors.Is(e, framework.ErrNotFound) {
		return Change{}, nil
	}
	return change, err
}

// change sends a request that a Change answers. An empty answer (202) is the zero Change.
func (m *Client) change(ctx context.Context, r framework.Request) (Change, error) {
	resp, err := m.c.Do(ctx, r)
	if err != nil {
		return Change{}, err
	}
	var change Change
	if len(resp.Body) == 0 {
		return change, nil
	}
	if err := json.Unmarshal(resp.Body, &change); err != nil {
		return Change{}, m.odd(r.Method, r.Path, "not the JSON of a change")
	}
	return change, nil
}

// get reads a JSON answer.
func (m *Client) get(ctx context.Context, path string, query url.Values, into any) error {
	return framework.GetJSON(ctx, m.c, path, query, into)
}

// odd is the error of an answer that succeeded and makes no sense.
func (m *Client) odd(method, path, what string) error {
	return framework.Odd(m.c, method, path, what)
}

// absolute is an app id with its leading slash.
func absolute(id string) string { return "/" + strings.Trim(id, "/") }

// appPath is the path of an app, each segment escaped and no slash doubled.
func appPath(id string) string {
	segments := strings.Split(strings.Trim(id, "/"), "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return "/v2/apps/" + strings.Join(segments, "/")
}
