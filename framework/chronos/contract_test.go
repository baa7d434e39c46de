package chronos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/framework"
	"qosctl/framework/contracttest"
)

// call is what the client makes of a row's answer: the value, or the sentinel of the error.
type call struct {
	do   func(ctx context.Context, k *Client) (any, error)
	want any
	err  error
}

func TestClientAgainstTheContract(t *testing.T) {
	t.Parallel()
	calls := contractCalls()
	seen := map[string]bool{}
	for _, row := range contracttest.Rows(t) {
		c, ok := calls[row.ID]
		if !ok {
			continue
		}
		seen[row.ID] = true
		t.Run(row.ID, func(t *testing.T) {
			t.Parallel()
			got, err := c.do(t.Context(), client(t, serve(t, row)))
			if !errors.Is(err, c.err) || (c.err == nil) != (err == nil) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err == nil {
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("result (-want +got):\n%s", diff)
				}
			}
		})
	}
	for id := range calls {
		if !seen[id] {
			t.Errorf("%s is not in the contract any more", id)
		}
	}
}

// TestEveryRefusalOfTheContractIsUnderstood sends each row's request, and looks at the error's sentinel and words.
func TestEveryRefusalOfTheContractIsUnderstood(t *testing.T) {
	t.Parallel()
	for _, row := range contracttest.Rows(t) {
		if row.Server != contracttest.Chronos || row.Statuses[0] < 300 {
			continue
		}
		t.Run(row.ID, func(t *testing.T) {
			t.Parallel()
			k := client(t, serve(t, row))
			_, err := k.c.Do(t.Context(), framework.Request{Method: row.Request.Method, Path: row.Request.Path, Body: []byte(row.Request.Body)})
			e, ok := errors.AsType[*framework.Error](err)
			if !ok || e.Kind == nil || e.Status != row.Statuses[0] {
				t.Fatalf("error %v is not one of ours, or has no sentinel", err)
			}
			if strings.Contains(fmt.Sprint(row.Answer), "not found") != errors.Is(err, framework.ErrNotFound) {
				t.Errorf("error %v: is it one of a job that is not there?", err)
			}
		})
	}
}

// serve answers a row's request with its example, and the probes for the prefix as the row's Chronos would.
func serve(t *testing.T, row contracttest.Row) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		prefix := prefixV3
		if slices.Contains(row.Given, "chronos 2.4") {
			prefix = prefixV2
		}
		switch {
		case r.Method == row.Request.Method && sameURL(r.URL, row.Request.Path):
			status, header, body := row.Example()
			for name := range header {
				w.Header().Set(name, header.Get(name))
			}
			w.WriteHeader(status)
			_, _ = w.Write(body)
		case r.URL.Path == prefix+"/jobs":
			_, _ = w.Write([]byte("[]"))
		case r.URL.Path == "/v1/scheduler/jobs":
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte("<html><title>Error 404 Not Found</title></html>"))
		default:
			w.WriteHeader(http.StatusTeapot)
			_, _ = fmt.Fprintf(w, "asked %s %s, the contract says %s %s", r.Method, r.URL.RequestURI(), row.Request.Method, row.Request.Path)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

// sameURL compares with a path of the contract, whatever the order of the query.
func sameURL(u *url.URL, want string) bool {
	path, query, _ := strings.Cut(want, "?")
	values, err := url.ParseQuery(query)
	return err == nil && u.Path == path && u.RawQuery == values.Encode()
}

func client(t *testing.T, s *httptest.Server) *Client {
	t.Helper()
	k, err := New(framework.Endpoint{URLs: []string{s.URL}, Timeout: 10 * time.Second}, Options{
		Backoff: time.Millisecond, Settle: 300 * time.Millisecond, Poll: 5 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

func contractCalls() map[string]call {
	type do = func(ctx context.Context, k *Client) (any, error)
	job := func(name string, pick func(Job) any) do {
		return func(ctx context.Context, k *Client) (any, error) {
			j, err := k.Job(ctx, name)
			return pick(j), err
		}
	}
	running := func(name string) do {
		return func(ctx context.Context, k *Client) (any, error) { return k.Running(ctx, name) }
	}
	nothing := func(f func(ctx context.Context, k *Client) error) do {
		return func(ctx context.Context, k *Client) (any, error) { return nil, f(ctx, k) }
	}
	start := func(name string) do {
		return nothing(func(ctx context.Context, k *Client) error { return k.Start(ctx, name) })
	}
	remove := func(name string) do {
		return nothing(func(ctx context.Context, k *Client) error { return k.Delete(ctx, name) })
	}
	return map[string]call{
		"chronos-ping":                {nothing(func(ctx context.Context, k *Client) error { return k.Ping(ctx) }), nil, nil},
		"chronos-auth":                {func(ctx context.Context, k *Client) (any, error) { return k.V3(ctx) }, nil, framework.ErrUnauthorized},
		"chronos-prefix-2":            {func(ctx context.Context, k *Client) (any, error) { return k.V3(ctx) }, false, nil},
		"chronos-jobs-none":           {func(ctx context.Context, k *Client) (any, error) { j, err := k.Jobs(ctx); return len(j), err }, 0, nil},
		"chronos-jobs":                {func(ctx context.Context, k *Client) (any, error) { j, err := k.Jobs(ctx); return j[0].Name, err }, "j", nil},
		"chronos-2-search":            {job("j", func(j Job) any { return j.Name }), "j", nil},
		"chronos-job":                 {job("j", func(j Job) any { return []any{j.Name, j.CPUs} }), []any{"j", 0.1}, nil},
		"chronos-job-unknown":         {job("none", func(Job) any { return nil }), nil, framework.ErrNotFound},
		"chronos-summary":             {running("j"), Activity{Last: "fresh"}, nil},
		"chronos-start":               {start("j"), nil, nil},
		"chronos-start-while-running": {start("j"), nil, nil},
		"chronos-start-unknown":       {start("none"), nil, framework.ErrNotFound},
		"chronos-delete":              {remove("j"), nil, nil},
		"chronos-delete-unknown":      {remove("none"), nil, framework.ErrNotFound},
		"chronos-kill-idle":           {nothing(func(ctx context.Context, k *Client) error { return k.KillTask(ctx, "j") }), nil, nil},
		"chronos-succeeded": {func(ctx context.Context, k *Client) (any, error) {
			var j Job
			err := framework.GetJSON(ctx, k.c, "/v1/scheduler/job/j", nil, &j)
			return []any{j.SuccessCount, j.LastSuccess.IsZero(), j.LastError.IsZero()}, err
		}, []any{int64(1), false, true}, nil},
	}
}

func TestActivity(t *testing.T) {
	t.Parallel()
	const csv = "link,a,b\nnode,a,fresh,idle\nnode,b,success,queued\nnode,c,failure,2 running\nnode,a10,fresh,1 running\n"
	for name, want := range map[string]Activity{
		"a": {Last: "fresh"}, "b": {Last: "success", Queued: true}, "c": {Last: "failure", Running: 2}, "a10": {Last: "fresh", Running: 1},
	} {
		if got, ok := activityFromCSV([]byte(csv), name); !ok || got != want {
			t.Errorf("%s is %+v, want %+v", name, got, want)
		}
	}
	if _, ok := activityFromCSV([]byte(csv), "a1"); ok {
		t.Error("a part of a name is taken for it")
	}
}

func FuzzActivityFromCSV(f *testing.F) {
	f.Add([]byte("node,j,fresh,1 running\n"), "j")
	f.Fuzz(func(t *testing.T, csv []byte, name string) {
		if a, ok := activityFromCSV(csv, name); ok && a.Running < 0 {
			t.Errorf("%+v", a)
		}
	})
}

func FuzzJob(f *testing.F) {
	f.Add([]byte(`{"name":"j","cpus":0.1,"lastSuccess":"2026-01-02T03:04:05.678Z","environmentVariables":[{"name":"QOSCTL_JOB","value":"x"}]}`))
	f.Add([]byte(`{"container":{"image":"i","parameters":[{"key":"label","value":"qosctl.job=x"}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var j Job
		if j.UnmarshalJSON(data) != nil {
			return
		}
		if merged, err := merge(j.Raw, map[string]any{"cpus": 1}); err == nil {
			var again Job
			if err := again.UnmarshalJSON(merged); err != nil {
				t.Errorf("what is sent back can't be read: %v", err)
			}
		}
	})
}
