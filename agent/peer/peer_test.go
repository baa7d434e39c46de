package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// key is a cluster key for tests.
func key(n byte) []byte { return bytes.Repeat([]byte{n}, KeySize) }

func identity(t *testing.T, node string, keys ...[]byte) *Identity {
	t.Helper()
	i, err := NewIdentity(IdentityOptions{Node: node, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// lines collects what is logged at info and above.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.FieldsFunc(l.buf.String(), func(r rune) bool { return r == '\n' })
}

// served is a server under test.
type served struct {
	*Server
	log  *lines
	seen *calls
}

// calls are the requests that got as far as the handler.
type calls struct {
	mu   sync.Mutex
	from []string
}

func (c *calls) note(r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.from = append(c.from, Caller(r.Context())+" "+r.URL.Path)
}

func (c *calls) list() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.from...)
}

// serve runs a server until the test ends, and sees to it that Run returns.
func serve(t *testing.T, o Options) *served {
	t.Helper()
	s := &served{log: &lines{}, seen: &calls{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) {
		s.seen.note(r)
		Answer(w, http.StatusOK, map[string]string{"you": Caller(r.Context())})
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		s.seen.note(r)
		var in any
		if err := Read(r, &in); err != nil {
			e, _ := errors.AsType[*StatusError](err)
			Fail(w, e.Status, e.Code, e.Text)
			return
		}
		Answer(w, http.StatusOK, in)
	})
	if o.Handler != nil {
		mux.Handle("/", o.Handler)
	}
	o.Handler, o.Logger, o.Listen = mux, slog.New(slog.NewTextHandler(s.log, nil)), "127.0.0.1:0"
	server, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Server = server
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("run does not return")
		}
	})
	return s
}

func (s *served) to(node string) Target { return Target{Node: node, Addr: s.Addr().String()} }

func client(t *testing.T, i *Identity) *Client {
	t.Helper()
	c, err := NewClient(ClientOptions{Identity: i})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func hello(t *testing.T, c *Client, to Target) (string, error) {
	t.Helper()
	out, err := Call[map[string]string](t.Context(), c, to, http.MethodGet, "/hello", nil)
	return out["you"], err
}

// until waits for something that is to happen.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(20 * time.Second); !f(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited too long: %s", what)
		}
	}
}

func TestPeersKnowEachOther(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Identity: identity(t, "node b/ü", key(1))})
	c := client(t, identity(t, "node-a", key(1)))
	for range 3 {
		you, err := hello(t, c, s.to("node b/ü"))
		if err != nil || you != "node-a" {
			t.Fatalf("%q, %v", you, err)
		}
	}
	if st := s.Stats(); st.Handshake != 1 || st.Conns != 1 {
		t.Errorf("three requests in a row took %+v", st)
	}
	out, err := Call[[]int](t.Context(), c, s.to("node b/ü"), http.MethodPost, "/echo", []int{1, 2})
	if err != nil || fmt.Sprint(out) != "[1 2]" {
		t.Errorf("%v, %v", out, err)
	}
	if len(s.log.all()) > 0 {
		t.Errorf("logged: %v", s.log.all())
	}
}

func TestOneAddressIsNotTwoNodes(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Identity: identity(t, "b", key(1))})
	c := client(t, identity(t, "a", key(1)))
	if _, err := hello(t, c, s.to("b")); err != nil {
		t.Fatal(err)
	}
	_, err := hello(t, c, s.to("c")) // with a connection to b in the pool
	if !errors.Is(err, ErrRefused) || errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "it is node b, not c") {
		t.Errorf("asked b for c: %v", err)
	}
	if got := s.seen.list(); len(got) != 1 {
		t.Errorf("the handler saw %v", got)
	}
}

func TestKeysAreRotatedWithoutACut(t *testing.T) {
	t.Parallel()
	a, b := identity(t, "a", key(1)), identity(t, "b", key(1))
	s := serve(t, Options{Identity: b})
	c := client(t, a)
	say := func(when string, want error) {
		t.Helper()
		if _, err := hello(t, c, s.to("b")); !errors.Is(err, want) {
			t.Fatalf("%s: %v, want %v", when, err, want)
		}
	}
	set := func(i *Identity, keys ...[]byte) {
		t.Helper()
		if err := i.SetKeys(keys); err != nil {
			t.Fatal(err)
		}
	}
	say("at first", nil)
	set(a, key(1), key(2))
	say("added at a", nil)
	set(b, key(1), key(2))
	set(a, key(2), key(1))
	say("primary at a", nil)
	set(b, key(2), key(1))
	set(a, key(2))
	say("removed at a", nil)
	set(b, key(2))
	say("removed at b", nil)
	set(a, key(1))
	say("the old key comes back", ErrRefused)
}

func TestRemovedKeyEndsConnections(t *testing.T) {
	t.Parallel()
	b := identity(t, "b", key(1))
	s := serve(t, Options{Identity: b})
	c := client(t, identity(t, "a", key(1)))
	if _, err := hello(t, c, s.to("b")); err != nil {
		t.Fatal(err)
	}
	if err := b.SetKeys([][]byte{key(2)}); err != nil {
		t.Fatal(err)
	}
	_, err := hello(t, c, s.to("b")) // on the connection that is there
	if e, ok := errors.AsType[*StatusError](err); !ok || e.Status != http.StatusUnauthorized {
		t.Errorf("on the old connection: %v", err)
	}
	if _, err = hello(t, c, s.to("b")); !errors.Is(err, ErrRefused) {
		t.Errorf("on a new connection: %v", err)
	}
	if got := s.seen.list(); len(got) != 1 {
		t.Errorf("the handler saw %v", got)
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err = l.Close(); err != nil {
		t.Fatal(err)
	}
	c := client(t, identity(t, "a", key(1)))
	_, err = hello(t, c, Target{Node: "b", Addr: addr})
	e, ok := errors.AsType[*UnreachableError](err)
	if !ok || e.Sent || errors.Is(err, ErrRefused) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = c.Do(ctx, Target{Node: "b", Addr: addr}, http.MethodGet, "/", nil); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnreachable) { //nolint:bodyclose // there is none beside an error
		t.Errorf("after the end of the context: %v", err)
	}
	for _, bad := range []Target{{"", addr}, {"b", "nowhere"}, {"b\n", addr}} {
		if _, err := c.Do(t.Context(), bad, http.MethodGet, "/", nil); err == nil || errors.Is(err, ErrUnreachable) { //nolint:bodyclose // there is none beside an error
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestServerThatGoesAwayOrIsSilent(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Identity: identity(t, "b", key(1)), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/half":
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("[1,"))
			panic(http.ErrAbortHandler)
		case "/silent":
			<-r.Context().Done()
		case "/long":
			_, _ = io.CopyN(w, zeros{}, 1<<20)
		case "/move":
			http.Redirect(w, r, "/hello", http.StatusFound)
		}
	})})
	i := identity(t, "a", key(1))
	c, err := NewClient(ClientOptions{Identity: i, Timeout: 2 * time.Second, FirstByte: 300 * time.Millisecond, MaxAnswer: 1 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for path, check := range map[string]func(error) bool{
		"/half":   func(err error) bool { e, ok := errors.AsType[*UnreachableError](err); return ok && e.Sent },
		"/silent": func(err error) bool { return errors.Is(err, ErrUnreachable) },
		"/long":   func(err error) bool { return strings.Contains(err.Error(), "longer than 1024 bytes") },
		"/move":   func(err error) bool { e, ok := errors.AsType[*StatusError](err); return ok && e.Status == 302 },
	} {
		if _, err := Call[any](t.Context(), c, s.to("b"), http.MethodGet, path, nil); err == nil || !check(err) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestAnswersMayTakeLongerThanRequests(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Identity: identity(t, "b", key(1)), BodyTime: 300 * time.Millisecond, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			t.Error(err)
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
		case <-time.After(700 * time.Millisecond):
			_, _ = io.WriteString(w, `"done"`)
		}
	})})
	c := client(t, identity(t, "a", key(1)))
	for _, body := range []any{nil, "text"} {
		if out, err := Call[string](t.Context(), c, s.to("b"), http.MethodPost, "/slow", body); err != nil || out != "done" {
			t.Errorf("with body %v: %q, %v", body, out, err)
		}
	}
}

func TestSilentServerInTheHandshake(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := NewClient(ClientOptions{Identity: identity(t, "a", key(1)), DialTime: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = hello(t, c, Target{Node: "b", Addr: l.Addr().String()}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("%v", err)
	}
}

func TestServerOfNoPeer(t *testing.T) {
	t.Parallel()
	other := identity(t, "b", key(9)).current()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*other.leaf}, MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 1)
	srv := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { heard <- r.URL.Path }), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	_, err = hello(t, client(t, identity(t, "a", key(1))), Target{Node: "b", Addr: l.Addr().String()})
	if !errors.Is(err, ErrRefused) {
		t.Errorf("%v", err)
	}
	if len(heard) > 0 {
		t.Errorf("it heard %s", <-heard)
	}
}

// A connection that was busy when the trust changed is not used for the next question.
func TestNoConnectionOfAFormerTrustIsUsedAgain(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan struct{}), make(chan struct{})
	s := serve(t, Options{Identity: identity(t, "b", key(1), key(2)), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/late" {
			close(begun)
			<-goOn
		}
		Answer(w, http.StatusOK, r.RemoteAddr)
	})})
	a := identity(t, "a", key(1))
	c := client(t, a)
	where := func(path string) string {
		from, err := Call[string](t.Context(), c, s.to("b"), http.MethodGet, path, nil)
		if err != nil {
			t.Error(err)
		}
		return from
	}
	late := make(chan string, 1)
	go func() { late <- where("/late") }()
	<-begun
	if err := a.SetKeys([][]byte{key(2), key(1)}); err != nil {
		t.Fatal(err)
	}
	fresh := where("/where")
	close(goOn)
	former := <-late
	if next := where("/where"); next != fresh || next == former {
		t.Errorf("asked by %s; the connection of before is %s, the new one %s", next, former, fresh)
	}
}
