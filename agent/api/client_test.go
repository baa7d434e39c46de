package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/agent/api"
	"qosctl/qos"
)

// serve answers on a unix socket of the test's own, and returns a client of it.
func serve(t *testing.T, h http.HandlerFunc) *api.Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	server.Start()
	t.Cleanup(server.Close)
	return client(t, api.Options{Address: socket, Token: "s3cret"})
}

func client(t *testing.T, o api.Options) *api.Client {
	t.Helper()
	c, err := api.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		call func(ctx context.Context, c *api.Client) error
		want string // method, escaped URI and body as sent
	}{
		"submit": {func(ctx context.Context, c *api.Client) error {
			_, err := c.Submit(ctx, api.SubmitRequest{ID: "u", File: json.RawMessage(`{"id":"/a"}`), Replace: true})
			return err
		}, `POST /v1/jobs {"id":"u","file":{"id":"/a"},"replace":true}`},
		"jobs":     {func(ctx context.Context, c *api.Client) error { _, err := c.Jobs(ctx, false); return err }, "GET /v1/jobs "},
		"all jobs": {func(ctx context.Context, c *api.Client) error { _, err := c.Jobs(ctx, true); return err }, "GET /v1/jobs?all=true "},
		"a job by a name with slashes": {func(ctx context.Context, c *api.Client) error {
			_, err := c.Job(ctx, "/a/b c")
			return err
		}, "GET /v1/jobs/%2Fa%2Fb%20c "},
		"watch": {func(ctx context.Context, c *api.Client) error {
			_, err := c.Watch(ctx, "u", 7, 30*time.Second)
			return err
		}, "GET /v1/jobs/u?since=7&wait=30s "},
		"cancel":  {func(ctx context.Context, c *api.Client) error { _, err := c.Cancel(ctx, "u"); return err }, "DELETE /v1/jobs/u "},
		"explain": {func(ctx context.Context, c *api.Client) error { _, err := c.Explain(ctx, "u"); return err }, "GET /v1/jobs/u/explain "},
		"logs": {func(ctx context.Context, c *api.Client) error {
			s, err := c.Logs(ctx, "u", api.LogsRequest{Stream: "stderr", Follow: true, Cursor: "3:1"})
			if err != nil {
				return err
			}
			return s.Close()
		}, "GET /v1/jobs/u/logs?cursor=3%3A1&follow=true&stream=stderr "},
		"attach": {func(ctx context.Context, c *api.Client) error {
			_, err := c.Attach(ctx, api.Attach{ID: "u", Framework: qos.Marathon, Name: "/a"})
			return err
		}, `POST /v1/attach {"id":"u","framework":"marathon","name":"/a"`},
		"detach":  {func(ctx context.Context, c *api.Client) error { return c.Detach(ctx, "/a") }, "DELETE /v1/attach/%2Fa "},
		"node":    {func(ctx context.Context, c *api.Client) error { _, err := c.Node(ctx); return err }, "GET /v1/node "},
		"health":  {func(ctx context.Context, c *api.Client) error { return c.Health(ctx) }, "GET /v1/health "},
		"ready":   {func(ctx context.Context, c *api.Client) error { return c.Ready(ctx) }, "GET /v1/ready "},
		"metrics": {func(ctx context.Context, c *api.Client) error { _, err := c.Metrics(ctx); return err }, "GET /metrics "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got string
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got = r.Method + " " + r.URL.RequestURI() + " " + string(body)
				if a := r.Header.Get("Authorization"); a != "Bearer s3cret" {
					t.Errorf("Authorization is %q", a)
				}
				_, _ = io.WriteString(w, "{}")
			})
			if err := tt.call(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("sent %q, want it to start with %q", got, tt.want)
			}
		})
	}
}

func TestErrorsOfTheAgent(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status int
		kind   string
		body   string
		want   api.Error
	}{
		"ours": {
			409, "application/json", `{"status":409,"code":"exists","message":"a job /a exists","hint":"use --replace"}`,
			api.Error{Status: 409, Code: "exists", Text: "a job /a exists", Hint: "use --replace"},
		},
		"a proxy's page":   {502, "text/html", "<html>bad gateway</html>", api.Error{Status: 502, Code: "framework"}},
		"half of ours":     {400, "application/json", `{"status":4`, api.Error{Status: 400, Code: "invalid"}},
		"nothing":          {403, "", "", api.Error{Status: 403, Code: "forbidden"}},
		"a redirect":       {302, "", "", api.Error{Status: 302, Code: "internal"}},
		"a lying status":   {404, "application/json", `{"status":200,"code":"not_found"}`, api.Error{Status: 404, Code: "not_found"}},
		"an internal one":  {500, "application/json", `{}`, api.Error{Status: 500, Code: "internal"}},
		"no code but text": {409, "application/json; charset=utf-8", `{"message":"no"}`, api.Error{Status: 409, Code: "conflict", Text: "no"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", tt.kind)
				w.Header().Set("Location", "http://127.0.0.1:1/")
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			})
			_, err := c.Job(t.Context(), "x")
			e, ok := errors.AsType[*api.StatusError](err)
			if !ok {
				t.Fatalf("got %v, want a StatusError", err)
			}
			if diff := cmp.Diff(tt.want, e.Body); diff != "" {
				t.Error(diff)
			}
			if e.Error() == "" {
				t.Error("the error has no text")
			}
		})
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for name, address := range map[string]string{"no socket": filepath.Join(dir, "none"), "a socket nobody listens on": "unix://" + stale} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := client(t, api.Options{Address: address}).Node(t.Context())
			u, ok := errors.AsType[*api.UnreachableError](err)
			if !ok || !errors.Is(err, api.ErrUnreachable) {
				t.Fatalf("got %v, want ErrUnreachable", err)
			}
			if u.Sent || !strings.Contains(u.Hint(), "qosctl dev") {
				t.Errorf("sent %v, hint %q", u.Sent, u.Hint())
			}
		})
	}
}

func TestHintForASocketWithoutRights(t *testing.T) {
	t.Parallel()
	e := &api.UnreachableError{Address: "/run/qosctl/qosctl.sock", Err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)}}
	if !strings.Contains(e.Hint(), "sudo") || strings.Contains(e.Error(), "no agent") || !strings.Contains(e.Error(), "permission denied") {
		t.Errorf("%v, hint %q", e, e.Hint())
	}
}

func TestTheAgentDiesWhileItAnswers(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, `{"id":`)
		panic(http.ErrAbortHandler)
	})
	_, err := c.Job(t.Context(), "x")
	u, ok := errors.AsType[*api.UnreachableError](err)
	if !ok || !u.Sent {
		t.Fatalf("got %v, want an UnreachableError that was sent", err)
	}
}

func TestNoAnswerInTime(t *testing.T) {
	t.Parallel()
	asked := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	c := client(t, api.Options{Address: asked.Address(), Timeout: 50 * time.Millisecond})
	if _, err := c.Job(t.Context(), "x"); !errors.Is(err, api.ErrUnreachable) || !strings.Contains(err.Error(), "within 50ms") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := asked.Job(ctx, "x"); !errors.Is(err, context.Canceled) || errors.Is(err, api.ErrUnreachable) {
		t.Errorf("got %v, want context.Canceled alone", err)
	}
}

func TestStreamDropsAHalfLineAndSaysHowItEnded(t *testing.T) {
	t.Parallel()
	code := 3
	tests := map[string]struct {
		body   string
		broken bool
		want   []api.Output
		err    error
	}{
		"ends in order": {
			body: `{"stream":"stdout","data":"YQ==","cursor":"1"}` + "\n\n" + `{"exit":3}` + "\n",
			want: []api.Output{{Stream: "stdout", Data: []byte("a"), Cursor: "1"}, {Exit: &code}}, err: io.EOF,
		},
		"half a line": {body: `{"cursor":"1"}` + "\n" + `{"exit":`, want: []api.Output{{Cursor: "1"}}, err: io.EOF},
		"broken":      {body: `{"cursor":"1"}` + "\n", broken: true, want: []api.Output{{Cursor: "1"}}, err: api.ErrUnreachable},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, tt.body)
				if tt.broken {
					_ = http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler)
				}
			})
			s, err := c.Logs(t.Context(), "j", api.LogsRequest{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			var got []api.Output
			for err == nil {
				var o api.Output
				if o, err = s.Next(t.Context()); err == nil {
					got = append(got, o)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if !errors.Is(err, tt.err) {
				t.Errorf("ended with %v, want %v", err, tt.err)
			}
		})
	}
}

func TestALineTooLong(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", api.MaxLine+1))
	})
	s, err := c.Logs(t.Context(), "j", api.LogsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Next(t.Context()); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("got %v", err)
	}
}

func TestStandin(t *testing.T) {
	t.Parallel()
	var got []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Method+" "+r.URL.RequestURI())
		_, _ = io.WriteString(w, `{"verdict":"done","code":4}`)
	})
	s, err := api.NewStandin("u", api.Options{Address: c.Address(), Token: "s3cret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	answer, err := s.Claim(t.Context(), api.Claim{Task: "t"})
	if err != nil || answer.Verdict != "done" || answer.Code != 4 {
		t.Errorf("claim: %+v, %v", answer, err)
	}
	if err := s.Stop(t.Context(), api.Stop{Task: "t", Signal: 15}); err != nil {
		t.Error(err)
	}
	o, err := s.Output(t.Context(), "t", "9")
	if err != nil {
		t.Fatal(err)
	}
	_ = o.Close()
	want := []string{"POST /v1/standin/u/claim", "POST /v1/standin/u/stop", "GET /v1/standin/u/output?cursor=9&task=t"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "ftp://x", "http://", "http://u:p@x", "http://x?y=z", "tcp://1.2.3.4:5"} {
		if _, err := api.New(api.Options{Address: bad}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	if _, err := api.New(api.Options{Address: "/x", Timeout: -1}); err == nil {
		t.Error("a negative timeout is accepted")
	}
}
