package marathon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/framework"
	"qosctl/framework/contracttest"
)

// call is what the client makes of a row's answer: the value, or the sentinel of the error.
type call struct {
	do   func(ctx context.Context, m *Client) (any, error)
	want any
	err  error
}

func TestClientAgainstTheContract(t *testing.T) {
	t.Parallel()
	calls := contractCalls()
	seen := map[string]bool{}
	for _, row := range contracttest.Rows(t) {
		if row.Server != contracttest.Marathon || row.During != nil {
			continue
		}
		c, ok := calls[row.ID]
		if !ok {
			continue
		}
		seen[row.ID] = true
		t.Run(row.ID, func(t *testing.T) {
			t.Parallel()
			m := client(t, serve(t, row))
			got, err := c.do(t.Context(), m)
			if !errors.Is(err, c.err) || (c.err == nil) != (err == nil) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err == nil {
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("result (-want +got):\n%s", diff)
				}
			}
			if e, is := errors.AsType[*framework.Error](err); is && e.Status != row.Statuses[0] {
				t.Errorf("error has status %d, not %d", e.Status, row.Statuses[0])
			}
		})
	}
	for id := range calls {
		if !seen[id] {
			t.Errorf("%s is not in the contract any more", id)
		}
	}
}

// TestEveryAnswerOfTheContractIsUnderstood sends each row's request through the shared client: a success must come through, and
// an error must carry a sentinel, Marathon's own words and no doubt about what a refusal did.
func TestEveryAnswerOfTheContractIsUnderstood(t *testing.T) {
	t.Parallel()
	for _, row := range contracttest.Rows(t) {
		if row.Server != contracttest.Marathon || row.During != nil || row.Statuses[0] == http.StatusFound {
			continue
		}
		t.Run(row.ID, func(t *testing.T) {
			t.Parallel()
			m := client(t, serve(t, row))
			r := row.Request.Expand(contracttest.Vars())
			path, _, _ := strings.Cut(r.Path, "?")
			request := framework.Request{Method: r.Method, Path: path, Body: []byte(r.Body)}
			if _, query, ok := strings.Cut(r.Path, "?"); ok {
				request.Path += "?" + query
			}
			resp, err := m.c.Do(t.Context(), request)
			if row.Statuses[0] < 300 {
				if err != nil || resp.Status != row.Statuses[0] {
					t.Fatalf("answer %v, error %v", resp, err)
				}
				return
			}
			e, ok := errors.AsType[*framework.Error](err)
			if !ok || e.Kind == nil {
				t.Fatalf("error %v is not one of ours, or has no sentinel", err)
			}
			if want, isObject := row.Answer.Value.(map[string]any); isObject {
				if message, _ := want["message"].(string); !strings.HasPrefix(e.Message, strings.TrimSuffix(message, "*")) {
					t.Errorf("message %q is not Marathon's %q", e.Message, message)
				}
				if details, isList := want["details"].([]any); isList && len(details) != len(e.Details) {
					t.Errorf("details %v, want %v", e.Details, details)
				}
			}
			if e.Status < 500 && e.Uncertain {
				t.Error("a refusal is called uncertain")
			}
		})
	}
}

// serve answers a row's request with the row's example, and anything else with an error that the client can't like.
func serve(t *testing.T, row contracttest.Row) *httptest.Server {
	t.Helper()
	want := row.Request.Expand(contracttest.Vars())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != want.Method || r.URL.RequestURI() != want.Path {
			w.WriteHeader(http.StatusTeapot)
			_, _ = fmt.Fprintf(w, "asked %s %s, the contract says %s %s", r.Method, r.URL.RequestURI(), want.Method, want.Path)
			return
		}
		status, header, body := row.Example()
		for name := range header {
			w.Header().Set(name, header.Get(name))
		}
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}))
	t.Cleanup(server.Close)
	return server
}

func client(t *testing.T, servers ...*httptest.Server) *Client {
	t.Helper()
	e := framework.Endpoint{Timeout: 10 * time.Second}
	for _, s := range servers {
		e.URLs = append(e.URLs, s.URL)
	}
	m, err := New(e, Options{Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

const exampleTime = "2026-01-02T03:04:05.678Z"

func contractCalls() map[string]call {
	const deployment = "0f1e2d3c-4b5a-4678-9abc-def012345678"
	vars := contracttest.Vars()
	change := Change{Version: exampleTime, Deployment: deployment}
	at, _ := time.Parse(time.RFC3339Nano, exampleTime)
	task := Task{
		ID: vars["task"], App: "/a", Host: "x", Agent: "x", State: "TASK_RUNNING", Staged: at, Started: at, Version: exampleTime,
	}
	ids := func(apps []App, err error) (any, error) {
		var out []string
		for _, a := range apps {
			out = append(out, a.ID)
		}
		return out, err
	}
	create := func(body string) func(context.Context, *Client) (any, error) {
		return func(ctx context.Context, m *Client) (any, error) {
			a, err := m.CreateApp(ctx, []byte(body))
			return a.ID, err
		}
	}
	app := func(id string, pick func(App) any) func(context.Context, *Client) (any, error) {
		return func(ctx context.Context, m *Client) (any, error) {
			a, err := m.App(ctx, id)
			return pick(a), err
		}
	}
	return map[string]call{
		"marathon-ping": {func(ctx context.Context, m *Client) (any, error) { return nil, m.Ping(ctx) }, nil, nil},
		"marathon-info": {func(ctx context.Context, m *Client) (any, error) {
			i, err := m.Info(ctx)
			return []any{i.Version, i.Elected, i.V.Networks()}, err
		}, []any{"1.x", true, true}, nil},
		"marathon-info-1.4": {func(ctx context.Context, m *Client) (any, error) {
			i, err := m.Info(ctx)
			return []any{i.V, i.V.Networks()}, err
		}, []any{Version{1, 4}, false}, nil},
		"marathon-no-leader":      {func(ctx context.Context, m *Client) (any, error) { return ids(m.Apps(ctx, "")) }, nil, framework.ErrUnavailable},
		"marathon-timeout":        {func(ctx context.Context, m *Client) (any, error) { return ids(m.Apps(ctx, "")) }, nil, framework.ErrUnavailable},
		"marathon-auth":           {func(ctx context.Context, m *Client) (any, error) { return ids(m.Apps(ctx, "")) }, nil, framework.ErrUnauthorized},
		"marathon-auth-ping":      {func(ctx context.Context, m *Client) (any, error) { return nil, m.Ping(ctx) }, nil, framework.ErrUnauthorized},
		"marathon-apps-none":      {func(ctx context.Context, m *Client) (any, error) { return ids(m.Apps(ctx, "")) }, []string(nil), nil},
		"marathon-apps":           {func(ctx context.Context, m *Client) (any, error) { return ids(m.Apps(ctx, "")) }, []string{"/a"}, nil},
		"marathon-apps-label-any": {func(ctx context.Context, m *Client) (any, error) { return ids(m.Apps(ctx, "team")) }, []string{"/a"}, nil},
		"marathon-app": {
			app("/a", func(a App) any { return []any{a.ID, a.CPUs, a.Running, a.Tasks, len(a.Deployments)} }),
			[]any{"/a", 0.1, 1, []Task{task}, 0},
			nil,
		},
		"marathon-app-unknown":                     {app("none", func(App) any { return nil }), nil, framework.ErrNotFound},
		"marathon-create":                          {create(`{"id":"/new"}`), "/new", nil},
		"marathon-create-unknown-fields":           {create(`{"id":"new"}`), "/new", nil},
		"marathon-create-exists":                   {create(`{"id":"/a"}`), "", framework.ErrExists},
		"marathon-create-cpus-text":                {create(`{"id":"/new"}`), "", framework.ErrInvalid},
		"marathon-create-cpus-text-1.4":            {create(`{"id":"/new"}`), "", framework.ErrInvalid},
		"marathon-create-bad-id":                   {create(`{"id":"/Not_Good"}`), "", framework.ErrInvalid},
		"marathon-create-single-label-alone":       {create(`{"id":"/new"}`), "", framework.ErrInvalid},
		"marathon-create-unreachable-disabled-1.4": {create(`{"id":"/new"}`), "", framework.ErrInvalid},
		"marathon-patch":                           {func(ctx context.Context, m *Client) (any, error) { return m.SetCPUs(ctx, "/a", 0.2) }, change, nil},
		"marathon-patch-unknown":                   {func(ctx context.Context, m *Client) (any, error) { return m.SetCPUs(ctx, "/none", 0.2) }, nil, framework.ErrNotFound},
		"marathon-patch-nothing":                   {func(ctx context.Context, m *Client) (any, error) { return m.SetCPUs(ctx, "a", 0.10000001) }, change, nil},
		"marathon-patch-locked":                    {func(ctx context.Context, m *Client) (any, error) { return m.SetCPUs(ctx, "/a", 0.1) }, nil, framework.ErrLocked},
		"marathon-scale-to-none":                   {app("/a", func(a App) any { return []any{a.Instances, a.Running, len(a.Tasks)} }), []any{0, 0, 0}, nil},
		"marathon-delete":                          {func(ctx context.Context, m *Client) (any, error) { return m.DeleteApp(ctx, "/a") }, change, nil},
		"marathon-delete-then-gone":                {app("/a", func(App) any { return nil }), nil, framework.ErrNotFound},
		"marathon-delete-unknown":                  {func(ctx context.Context, m *Client) (any, error) { return m.DeleteApp(ctx, "/none") }, nil, framework.ErrNotFound},
		"marathon-tasks":                           {func(ctx context.Context, m *Client) (any, error) { return m.Tasks(ctx, "/a") }, []Task{task}, nil},
		"marathon-tasks-unknown":                   {func(ctx context.Context, m *Client) (any, error) { return m.Tasks(ctx, "/none") }, nil, framework.ErrNotFound},
		"marathon-kill-task": {func(ctx context.Context, m *Client) (any, error) {
			return nil, m.KillTask(ctx, "/a", vars["task"], false)
		}, nil, nil},
		"marathon-kill-task-wipe": {func(ctx context.Context, m *Client) (any, error) {
			return nil, m.KillTask(ctx, "/a", vars["task"], true)
		}, nil, nil},
		"marathon-kill-task-unknown": {func(ctx context.Context, m *Client) (any, error) { return nil, m.KillTask(ctx, "/a", "none", false) }, nil, framework.ErrNotFound},
		"marathon-deployments-none":  {func(ctx context.Context, m *Client) (any, error) { d, err := m.Deployments(ctx); return len(d), err }, 0, nil},
		"marathon-deployments": {func(ctx context.Context, m *Client) (any, error) { return m.Deployments(ctx) }, []Deployment{{
			ID: vars["deployment"], Version: exampleTime, Apps: []string{"/a"}, Step: 1, Steps: 1,
			Actions: []Action{{Action: "RestartApplication", App: "/a"}},
		}}, nil},
		"marathon-deployment-revert": {func(ctx context.Context, m *Client) (any, error) {
			return m.DeleteDeployment(ctx, vars["deployment"], false)
		}, Change{Version: exampleTime, Deployment: "other"}, nil},
		"marathon-deployment-cancel": {func(ctx context.Context, m *Client) (any, error) {
			return m.DeleteDeployment(ctx, vars["deployment"], true)
		}, Change{}, nil},
		"marathon-deployment-unknown": {func(ctx context.Context, m *Client) (any, error) { return m.DeleteDeployment(ctx, "none", false) }, nil, framework.ErrNotFound},
	}
}
