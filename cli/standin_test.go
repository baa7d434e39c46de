package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"qosctl/agent/api"
)

// standinAgent is the agent's side of the stand-ins' protocol, which a test can break at will.
type standinAgent struct {
	socket string
	mu     sync.Mutex
	server *httptest.Server
	calls  []string
	handle func(verb string, w http.ResponseWriter, r *http.Request)
	seen   chan string // each call's verb
}

func newStandinAgent(t testing.TB, handle func(verb string, w http.ResponseWriter, r *http.Request)) *standinAgent {
	t.Helper()
	dir, err := os.MkdirTemp("", "standin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	a := &standinAgent{socket: filepath.Join(dir, "s"), handle: handle, seen: make(chan string, 1000)}
	t.Cleanup(a.stop)
	return a
}

func (a *standinAgent) start(t testing.TB) {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "unix", a.socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		verb := filepath.Base(r.URL.Path)
		body, _ := io.ReadAll(r.Body) // a server sees that a client has gone only when it has read its request
		r.Body = io.NopCloser(bytes.NewReader(body))
		a.mu.Lock()
		a.calls = append(a.calls, verb)
		a.mu.Unlock()
		select {
		case a.seen <- verb:
		default: // nobody waits for that many
		}
		a.handle(verb, w, r)
	})}}
	s.Start()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.server = s
}

func (a *standinAgent) stop() {
	a.mu.Lock()
	s := a.server
	a.server = nil
	a.mu.Unlock()
	if s != nil {
		s.CloseClientConnections()
		s.Close()
	}
}

func (a *standinAgent) count(verb string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.calls {
		if c == verb {
			n++
		}
	}
	return n
}

// wait waits until a verb was called.
func (a *standinAgent) wait(t testing.TB, verb string) {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		select {
		case v := <-a.seen:
			if v == verb {
				return
			}
		case <-late:
			t.Fatalf("no %s came", verb)
		}
	}
}

// result is how a stand-in ended.
type result struct {
	code     int
	err      error
	out, log string
}

// begin runs a stand-in until it ends.
func (a *standinAgent) begin(t testing.TB, signals <-chan os.Signal) <-chan result {
	t.Helper()
	client, err := api.NewStandin("job", api.Options{Address: a.socket, Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	var out, log bytes.Buffer
	s := newStandin(client, runOpts{job: "job", task: "t", claim: api.Claim{Task: "t"}}, &out, &log)
	s.pause = func() *backoff { return newBackoff(time.Millisecond, 5*time.Millisecond) }
	ended := make(chan result, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		code, err := s.run(t.Context(), signals)
		client.Close()
		ended <- result{code, err, out.String(), log.String()}
	})
	t.Cleanup(wg.Wait)
	return ended
}

func ended(t testing.TB, r <-chan result) result {
	t.Helper()
	select {
	case got := <-r:
		return got
	case <-time.After(20 * time.Second):
		t.Fatal("the stand-in doesn't end")
	}
	return result{}
}

func sendJSON(w http.ResponseWriter, v any) {
	_ = json.NewEncoder(w).Encode(v)
	_ = http.NewResponseController(w).Flush()
}

func exitLine(code int) api.Output { return api.Output{Exit: &code} }

// TestOutputIsWrittenOnceHoweverOftenTheAgentDies has an agent that cuts the stream anywhere, in the middle of lines too.
func TestOutputIsWrittenOnceHoweverOftenTheAgentDies(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.StringOfN(rapid.RuneFrom([]rune("ab\n")), 1, 60, -1).Draw(rt, "text")
		step := rapid.IntRange(1, 9).Draw(rt, "step")
		cuts := rapid.SliceOfN(rapid.IntRange(0, 200), 0, 8).Draw(rt, "cuts")
		var mu sync.Mutex
		a := newStandinAgent(t, func(verb string, w http.ResponseWriter, r *http.Request) {
			if verb == "claim" {
				sendJSON(w, api.ClaimResponse{Verdict: "run"})
				return
			}
			from, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
			var stream bytes.Buffer
			for at := from; at < len(text); at += step {
				to := min(at+step, len(text))
				_ = json.NewEncoder(&stream).Encode(api.Output{Stream: "stdout", Data: []byte(text[at:to]), Cursor: strconv.Itoa(to)})
			}
			_ = json.NewEncoder(&stream).Encode(exitLine(42))
			mu.Lock()
			defer mu.Unlock()
			if len(cuts) > 0 {
				n := min(cuts[0], stream.Len())
				cuts = cuts[1:]
				_, _ = w.Write(stream.Bytes()[:n])
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}
			_, _ = w.Write(stream.Bytes())
		})
		a.start(t)
		defer a.stop()
		got := ended(t, a.begin(t, nil))
		if got.code != 42 || got.err != nil || got.out != text {
			rt.Fatalf("wrote %q, want %q; code %d, %v\n%s", got.out, text, got.code, got.err, got.log)
		}
	})
}

func TestStandinWaitsForItsAgent(t *testing.T) {
	t.Parallel()
	a := newStandinAgent(t, func(verb string, w http.ResponseWriter, _ *http.Request) {
		if verb == "claim" {
			sendJSON(w, api.ClaimResponse{Verdict: "run"})
			return
		}
		sendJSON(w, exitLine(0))
	})
	r := a.begin(t, nil)
	a.start(t)
	if got := ended(t, r); got.code != 0 || got.err != nil {
		t.Errorf("%+v", got)
	}
}

func TestSIGTERMIsToldOnceAndTheExitCodeStillComes(t *testing.T) {
	t.Parallel()
	stopped := make(chan struct{})
	var once sync.Once
	refusals := 3 // the agent is away, starting, and busy with the job's container
	var mu sync.Mutex
	a := newStandinAgent(t, func(verb string, w http.ResponseWriter, r *http.Request) {
		switch verb {
		case "claim":
			sendJSON(w, api.ClaimResponse{Verdict: "run"})
		case "output":
			sendJSON(w, api.Output{Stream: "stdout", Data: []byte("x"), Cursor: "1"})
			select {
			case <-stopped:
				sendJSON(w, exitLine(143))
			case <-r.Context().Done():
			}
		case "stop":
			var s api.Stop
			if body, _ := io.ReadAll(r.Body); json.Unmarshal(body, &s) != nil || s.Task != "t" || s.Signal != 15 {
				t.Errorf("stop: %s", body)
			}
			mu.Lock()
			defer mu.Unlock()
			refusals--
			switch refusals {
			case 2:
				panic(http.ErrAbortHandler)
			case 1:
				w.WriteHeader(http.StatusServiceUnavailable)
			case 0:
				w.WriteHeader(http.StatusConflict)
			default:
				once.Do(func() { close(stopped) })
			}
		}
	})
	a.start(t)
	signals := make(chan os.Signal, 8)
	r := a.begin(t, signals)
	a.wait(t, "output")
	for range 5 {
		signals <- syscall.SIGTERM
	}
	if got := ended(t, r); got.code != 143 || got.err != nil || got.out != "x" {
		t.Errorf("%+v", got)
	}
	if n := a.count("stop"); n != 4 {
		t.Errorf("stop was told %d times, want 4: until it was understood, and not again", n)
	}
}

func TestSIGTERMWhileTheAgentIsAway(t *testing.T) {
	t.Parallel()
	// Nothing ever reached an agent: nothing runs for this task.
	a := newStandinAgent(t, nil)
	signals := make(chan os.Signal, 1)
	r := a.begin(t, signals)
	signals <- syscall.SIGTERM
	if got := ended(t, r); got.code != 143 || got.err != nil {
		t.Errorf("%+v", got)
	}
}

func TestSIGTERMWhileTheClaimIsUnanswered(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprintf("the agent knows it %v", known), func(t *testing.T) {
			t.Parallel()
			a := newStandinAgent(t, func(verb string, w http.ResponseWriter, r *http.Request) {
				switch {
				case verb == "claim":
					<-r.Context().Done()
				case verb == "stop" && !known:
					w.WriteHeader(http.StatusNotFound)
				case verb == "output":
					sendJSON(w, exitLine(5))
				}
			})
			a.start(t)
			signals := make(chan os.Signal, 1)
			r := a.begin(t, signals)
			a.wait(t, "claim")
			signals <- syscall.SIGTERM
			want := 143
			if known {
				want = 5
			}
			if got := ended(t, r); got.code != want || got.err != nil {
				t.Errorf("%+v, want code %d", got, want)
			}
		})
	}
}

// lineWriter hands on what is written to it.
type lineWriter chan string

func (w lineWriter) Write(data []byte) (int, error) {
	w <- string(data)
	return len(data), nil
}

func TestIdleWaitsToBeStopped(t *testing.T) {
	t.Parallel()
	a := newStandinAgent(t, func(_ string, w http.ResponseWriter, _ *http.Request) {
		sendJSON(w, api.ClaimResponse{Verdict: "idle"})
	})
	a.start(t)
	client, err := api.NewStandin("job", api.Options{Address: a.socket})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	log := make(lineWriter, 10)
	signals := make(chan os.Signal, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if line := <-log; !strings.Contains(line, "waiting to be stopped") {
			t.Errorf("said %q", line)
		}
		signals <- syscall.SIGTERM
	})
	code, err := newStandin(client, runOpts{task: "t"}, io.Discard, log).run(t.Context(), signals)
	if code != 0 || err != nil || a.count("stop") != 0 {
		t.Errorf("code %d, %v, %d stops", code, err, a.count("stop"))
	}
}

func TestAnOutputThatCannotBeWrittenDoesNotLoseTheExitCode(t *testing.T) {
	t.Parallel()
	a := newStandinAgent(t, func(verb string, w http.ResponseWriter, _ *http.Request) {
		if verb == "claim" {
			sendJSON(w, api.ClaimResponse{Verdict: "run"})
			return
		}
		sendJSON(w, api.Output{Stream: "stdout", Data: []byte("x"), Cursor: "1"})
		sendJSON(w, api.Output{Stream: "stdout", Data: []byte("y"), Cursor: "2"})
		sendJSON(w, exitLine(3))
	})
	a.start(t)
	client, err := api.NewStandin("job", api.Options{Address: a.socket})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full here: ", err)
	}
	defer full.Close()
	var log bytes.Buffer
	code, err := newStandin(client, runOpts{task: "t"}, full, &log).run(t.Context(), nil)
	if code != 3 || err != nil || strings.Count(log.String(), "can't be written") != 1 {
		t.Errorf("code %d, %v\n%s", code, err, log.String())
	}
}

func TestSpecOfTheEnvironment(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"%", "aGVsbG8=", ""} {
		if _, err := decodeSpec(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
