package framework

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// serve starts a server that counts its requests.
func serve(t *testing.T, h func(n int, w http.ResponseWriter, r *http.Request)) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // a server sees that its client is gone only once it has read the body
		r.Body = io.NopCloser(bytes.NewReader(body))
		h(int(n.Add(1)), w, r)
	}))
	t.Cleanup(s.Close)
	return s, &n
}

// dead is the URL of a port that nobody listens on.
func dead(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return "http://" + l.Addr().String()
}

func newClient(t *testing.T, e Endpoint) *Client {
	t.Helper()
	if e.Name == "" {
		e.Name = "marathon"
	}
	c, err := NewClient(ClientOptions{Endpoint: e, Backoff: time.Millisecond, Rounds: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func get(path string) Request { return Request{Method: http.MethodGet, Path: path} }
func post() Request           { return Request{Method: http.MethodPost, Path: "/v2/apps", Body: []byte(`{}`)} }

// fault is an answer, and what becomes of a GET and of a POST that get it.
type fault struct {
	name      string
	answer    func(w http.ResponseWriter, r *http.Request)
	kind      error
	says      string // in the error's text
	gets      int64  // how often a GET is sent
	posts     int64  // how often a POST is sent
	uncertain bool   // of the POST
}

func faults() []fault {
	text := func(status int, kind, body string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	const page = "<!DOCTYPE html><html><body><h1>Welcome to nginx</h1></body></html>"
	const js = "application/json"
	return []fault{
		{"html 200", text(200, "text/html", page), ErrUnavailable, "answered HTML, is this really Marathon?", 1, 1, false},
		{"html 404", text(404, "text/html", page), ErrUnavailable, "answered HTML", 1, 1, false},
		{"html 500", text(500, "text/html", page), ErrUnavailable, "answered HTML", 1, 1, true},
		{"html 401 of Jetty", text(401, "text/html", "<html><title>Error 401 Unauthorized</title></html>"), ErrUnauthorized, "Error 401", 1, 1, false},
		{"empty 401", text(401, "", ""), ErrUnauthorized, "401 Unauthorized", 1, 1, false},
		{"403", text(403, js, `{"message":"Not Authorized to perform this action!"}`), ErrUnauthorized, "Not Authorized to", 1, 1, false},
		{"404 in its own words", text(404, js, `{"message":"App '/a' does not exist"}`), ErrNotFound, "does not exist", 1, 1, false},
		{"404 without words", text(404, "", ""), ErrUnavailable, "404", 1, 1, false},
		{"409 locked", text(409, js, `{"message":"App is locked by one or more deployments.","deployments":[{"id":"d1"},{"id":"d2"}]}`), ErrLocked, "(deployments d1, d2)", 1, 1, false},
		{"409 exists", text(409, js, `{"message":"An app with id [/a] already exists."}`), ErrExists, "already exists", 1, 1, false},
		{
			"422 with details", text(422, js, `{"message":"Object is not valid","details":[{"path":"/cpus","errors":["too small","odd"]},{"path":"/id","errors":["bad"]}]}`),
			ErrInvalid, "Object is not valid; /cpus: too small, odd; /id: bad", 1, 1, false,
		},
		{"400 with a text as details", text(400, js, `{"message":"Invalid JSON","details":"Unexpected end"}`), ErrInvalid, "Invalid JSON; Unexpected end", 1, 1, false},
		{"422 of 1.3", text(422, js, `{"message":"Bean is not valid","errors":[{"attribute":"id","error":"may not be empty"}]}`), ErrInvalid, "id: may not be empty", 1, 1, false},
		{"500", text(500, js, `{"message":"java.lang.X: boom\n\tat a.b.C(D.scala:1)"}`), ErrUnavailable, "boom", 1, 1, true},
		{"503", text(503, js, `{"message":"timeout"}`), ErrUnavailable, "timeout", 3, 1, true},
		{"429", text(429, "", ""), ErrUnavailable, "429", 3, 1, false},
		{"control characters", text(400, "text/plain", "a\x00b\r\nc\x1b[31m"), ErrInvalid, "a b c [31m", 1, 1, false},
		{"connection cut", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, ErrUnavailable, "EOF", 3, 1, true},
		{"body cut", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte(`{"a":`))
		}, ErrUnavailable, "could not be read to its end", 3, 1, true},
		{"huge body", func(w http.ResponseWriter, _ *http.Request) {
			chunk := make([]byte, 1<<20)
			for range MaxBody>>20 + 2 {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, ErrUnavailable, "larger than 16 MiB", 1, 1, true},
		{"endless redirects", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		}, ErrUnavailable, "redirected more than", 5, 5, false},
		{"redirect without address", text(302, "", ""), ErrUnavailable, "302", 1, 1, false},
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, f := range faults() {
		for _, r := range []Request{get("/v2/apps/a"), post()} {
			t.Run(f.name+" "+r.Method, func(t *testing.T) {
				t.Parallel()
				s, n := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) { f.answer(w, r) })
				_, err := newClient(t, Endpoint{URLs: []string{s.URL}}).Do(t.Context(), r)
				if !errors.Is(err, f.kind) || !strings.Contains(fmt.Sprint(err), f.says) {
					t.Fatalf("error %v, want %v that says %q", err, f.kind, f.says)
				}
				if errors.Is(f.kind, ErrUnavailable) && Remedy(err) == "" {
					t.Errorf("error %v without a remedy", err)
				}
				want := f.gets
				if r.Method == http.MethodPost {
					want = f.posts
					if Uncertain(err) != f.uncertain {
						t.Errorf("uncertain %v, want %v", Uncertain(err), f.uncertain)
					}
				}
				if n.Load() != want {
					t.Errorf("sent %d times, want %d", n.Load(), want)
				}
				if strings.ContainsAny(err.Error(), "\n\x00\x1b") {
					t.Errorf("error %q has control characters", err)
				}
			})
		}
	}
}

func TestSlowAnswersEndWithTheTimeout(t *testing.T) {
	t.Parallel()
	tests := map[string]func(w http.ResponseWriter, r *http.Request){
		"silence": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"slow loris": func(w http.ResponseWriter, r *http.Request) {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for r.Context().Err() == nil {
				_, _ = w.Write([]byte(" "))
				_ = http.NewResponseController(w).Flush()
				<-tick.C
			}
		},
	}
	for name, answer := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, n := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) { answer(w, r) })
			_, err := newClient(t, Endpoint{URLs: []string{s.URL}, Timeout: 50 * time.Millisecond}).Do(t.Context(), post())
			if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) || !Uncertain(err) || n.Load() != 1 {
				t.Fatalf("error %v (uncertain %v) after %d requests", err, Uncertain(err), n.Load())
			}
		})
	}
}

func TestTheCallersContextEndsEverything(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("agent stops")
	s, n := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		cancel(why)
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	c, err := NewClient(ClientOptions{Endpoint: Endpoint{Name: "x", URLs: []string{s.URL}}, Backoff: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(ctx, get("/")); !errors.Is(err, ErrUnavailable) || n.Load() != 1 {
		t.Fatalf("error %v after %d requests", err, n.Load())
	}
}

func TestFailOver(t *testing.T) {
	t.Parallel()
	good, n := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{}`)) })
	bad, _ := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	wrong, _ := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>hello</html>")) })
	c := newClient(t, Endpoint{URLs: []string{dead(t), bad.URL, wrong.URL, good.URL}})
	resp, err := c.Do(t.Context(), get("/"))
	if err != nil || n.Load() != 1 {
		t.Fatalf("error %v, %d requests at the good one", err, n.Load())
	}
	if !resp.Repeated {
		t.Error("a request that a bad gateway had is not called repeated")
	}
	if _, err := c.Do(t.Context(), post()); err != nil || n.Load() != 2 {
		t.Fatalf("the one that answered is not asked first: error %v", err)
	}
	// A POST may go on to the next URL as long as it was never sent.
	c = newClient(t, Endpoint{URLs: []string{dead(t), good.URL}})
	if resp, err := c.Do(t.Context(), post()); err != nil || resp.Repeated {
		t.Fatalf("error %v", err)
	}
	c = newClient(t, Endpoint{URLs: []string{bad.URL, good.URL}})
	if _, err := c.Do(t.Context(), post()); !Uncertain(err) {
		t.Fatalf("a POST that a bad gateway had was sent again (error %v)", err)
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	_, err := newClient(t, Endpoint{URLs: []string{dead(t)}}).Do(t.Context(), post())
	if !errors.Is(err, ErrUnavailable) || Uncertain(err) || !strings.Contains(err.Error(), "connection refused") {
		t.Fatalf("error %v, uncertain %v", err, Uncertain(err))
	}
	if got := Remedy(err); !strings.Contains(got, "runs") {
		t.Errorf("remedy %q", got)
	}
}

func TestTheLeaderIsFollowed(t *testing.T) {
	t.Parallel()
	var leader *httptest.Server
	leader, n := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.ContentLength != 2 {
			w.WriteHeader(http.StatusTeapot)
		}
		w.Header().Set("X-Marathon-Leader", leader.URL)
	})
	standby, proxied := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/events" {
			http.Redirect(w, r, leader.URL+r.URL.Path, http.StatusFound)
			return
		}
		w.Header().Set("X-Marathon-Leader", leader.URL+"/v2/apps") // proxied
	})
	c := newClient(t, Endpoint{URLs: []string{standby.URL, leader.URL}})
	for range 3 {
		if _, err := c.Do(t.Context(), post()); err != nil {
			t.Fatal(err)
		}
	}
	if proxied.Load() != 1 || n.Load() != 2 {
		t.Errorf("%d requests at the stand-by, %d at the leader, want 1 and 2", proxied.Load(), n.Load())
	}
	c = newClient(t, Endpoint{URLs: []string{standby.URL}})
	resp, err := c.Stream(t.Context(), get("/v2/events"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if n.Load() != 3 {
		t.Error("the redirect to the leader is not followed")
	}
}

func TestARedirectKeepsMethodAndBodyAndTheCredentialsAtHome(t *testing.T) {
	t.Parallel()
	var auth, method, body string
	other, _ := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		data := make([]byte, 10)
		n, _ := r.Body.Read(data)
		auth, method, body = r.Header.Get("Authorization"), r.Method, string(data[:n])
		_, _ = w.Write([]byte(`{}`))
	})
	elsewhere := strings.Replace(other.URL, "127.0.0.1", "localhost", 1)
	s, _ := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere+"/x", http.StatusFound)
	})
	c := newClient(t, Endpoint{URLs: []string{s.URL}, Username: "u", Password: "pass"})
	if _, err := c.Do(t.Context(), post()); err != nil {
		t.Fatal(err)
	}
	if auth != "" || method != http.MethodPost || body != "{}" {
		t.Errorf("a host that is not configured got %q, %s %s", auth, method, body)
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secretFile := filepath.Join(dir, "secret")
	write := func(text string) {
		if err := os.WriteFile(secretFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var got string
	s, _ := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization")
		if r.URL.Path == "/echo" {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = fmt.Fprintf(w, `{"message":"bad header %s","details":"password was hunter2 or hunter3"}`, got)
		}
	})
	write("hunter2\n")
	c := newClient(t, Endpoint{URLs: []string{s.URL}, Username: "u", PasswordFile: secretFile})
	if _, err := c.Do(t.Context(), get("/")); err != nil || got != "Basic dTpodW50ZXIy" {
		t.Fatalf("error %v, header %q", err, got)
	}
	_, err := c.Do(t.Context(), get("/echo"))
	if err == nil || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), "hunter2") || strings.Contains(err.Error(), "dTpodW50ZXIy") {
		t.Errorf("error shows the password: %v", err)
	}
	c = newClient(t, Endpoint{URLs: []string{s.URL}, TokenFile: secretFile})
	for _, token := range []string{"one", "two"} {
		write(token + "\n")
		if _, err := c.Do(t.Context(), get("/")); err != nil || got != "Bearer "+token {
			t.Fatalf("error %v, header %q, want token %s", err, got, token)
		}
	}
	if err := os.Remove(secretFile); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(t.Context(), get("/")); !errors.Is(err, os.ErrNotExist) || Uncertain(err) {
		t.Errorf("error %v for a token file that is not there", err)
	}
}

func TestCAFile(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	t.Cleanup(s.Close)
	_, err := newClient(t, Endpoint{URLs: []string{s.URL}}).Do(t.Context(), post())
	if !errors.Is(err, ErrUnavailable) || Uncertain(err) || !strings.Contains(err.Error(), "certificate") {
		t.Fatalf("error %v, uncertain %v", err, Uncertain(err))
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newClient(t, Endpoint{URLs: []string{s.URL}, CAFile: ca}).Do(t.Context(), post()); err != nil {
		t.Fatal(err)
	}
}
