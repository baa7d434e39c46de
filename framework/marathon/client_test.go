package marathon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"qosctl/framework"
)

const submitted = `{"id":"/a","cmd":"exec qosctl run","cpus":0.5,"labels":{"qosctl.job":"J"},"env":{"QOSCTL_SECRET":"hush"}}`

// lossy is a Marathon with one app at most, whose answers to writes can be lost.
type lossy struct {
	app    atomic.Pointer[string] // JSON
	writes atomic.Int64
	lose   func(n int64) (carriedOut, lost bool) // of the n-th write
}

func (l *lossy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if r.Method == http.MethodGet {
		if app := l.app.Load(); app != nil {
			_, _ = fmt.Fprintf(w, `{"app":%s}`, *app)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"message":"App '/a' does not exist"}`)
		return
	}
	carriedOut, lost := l.lose(l.writes.Add(1))
	if !carriedOut {
		panic(http.ErrAbortHandler)
	}
	answer, status := `{"version":"v","deploymentId":"d"}`, http.StatusOK
	switch r.Method {
	case http.MethodPost:
		if l.app.Load() != nil {
			answer, status = `{"message":"An app with id [/a] already exists."}`, http.StatusConflict
			break
		}
		text := string(body)
		l.app.Store(&text)
		answer, status = text, http.StatusCreated
	case http.MethodPatch:
		var change map[string]any
		app := map[string]any{}
		_ = json.Unmarshal(body, &change)
		_ = json.Unmarshal([]byte(*l.app.Load()), &app)
		maps.Copy(app, change)
		app["deployments"] = []any{map[string]any{"id": "dep"}}
		data, _ := json.Marshal(app)
		text := string(data)
		l.app.Store(&text)
	case http.MethodDelete:
		if l.app.Swap(nil) == nil {
			answer, status = `{"message":"App '/a' does not exist"}`, http.StatusNotFound
		}
	}
	if lost {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, answer)
}

func lossyClient(t *testing.T, lose func(n int64) (bool, bool)) (*lossy, *Client) {
	t.Helper()
	l := &lossy{lose: lose}
	s := httptest.NewServer(l)
	t.Cleanup(s.Close)
	return l, client(t, s)
}

func TestCreateAppLooksBeforeItSendsAgain(t *testing.T) {
	t.Parallel()
	other := strings.Replace(submitted, `"J"`, `"other"`, 1)
	tests := []struct {
		name   string
		there  string // app that is there before
		lose   func(n int64) (bool, bool)
		err    error
		writes int64
	}{
		{"nothing is lost", "", func(int64) (bool, bool) { return true, false }, nil, 1},
		{"the answer is lost", "", func(int64) (bool, bool) { return true, true }, nil, 1},
		{"the request is lost", "", func(n int64) (bool, bool) { return n > 1, false }, nil, 2},
		{"request, then answer", "", func(n int64) (bool, bool) { return n > 1, n == 2 }, nil, 2},
		{"every request is lost", "", func(int64) (bool, bool) { return false, true }, framework.ErrUnavailable, 3},
		{"another app is there", other, func(int64) (bool, bool) { return true, false }, framework.ErrExists, 1},
		{"another app is there, and the answer lost", other, func(int64) (bool, bool) { return true, true }, framework.ErrExists, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l, m := lossyClient(t, tt.lose)
			if tt.there != "" {
				l.app.Store(&tt.there)
			}
			app, err := m.CreateApp(t.Context(), json.RawMessage(submitted))
			if !errors.Is(err, tt.err) || (tt.err == nil) != (err == nil) || framework.Uncertain(err) {
				t.Fatalf("error %v (uncertain %v), want %v", err, framework.Uncertain(err), tt.err)
			}
			if err == nil && app.Labels["qosctl.job"] != "J" {
				t.Errorf("app %+v", app)
			}
			if l.writes.Load() != tt.writes {
				t.Errorf("%d POSTs, want %d", l.writes.Load(), tt.writes)
			}
		})
	}
}

func TestA500IsLookedUpAndGivenWordForWord(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, `{"message":"Docker network NONE is not supported, hush"}`)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"message":"App '/a' does not exist"}`)
	}))
	t.Cleanup(s.Close)
	_, err := client(t, s).CreateApp(t.Context(), json.RawMessage(submitted))
	if err == nil || framework.Uncertain(err) || !strings.Contains(err.Error(), "Docker network NONE is not supported, <secret>") {
		t.Fatalf("error %v (uncertain %v)", err, framework.Uncertain(err))
	}
}

func TestSetCPUsLooksInsteadOfSendingAgain(t *testing.T) {
	t.Parallel()
	app := submitted
	l, m := lossyClient(t, func(int64) (bool, bool) { return true, true })
	l.app.Store(&app)
	change, err := m.SetCPUs(t.Context(), "/a", 0.75049, []string{"hostname", "LIKE", "h1"})
	if err != nil || change.Deployment != "dep" || l.writes.Load() != 1 {
		t.Fatalf("change %+v, error %v, %d writes", change, err, l.writes.Load())
	}
	if got, err := m.App(t.Context(), "a"); err != nil || got.CPUs != 0.75 || len(got.Constraints) != 1 {
		t.Fatalf("app %+v, error %v", got, err)
	}
	l, m = lossyClient(t, func(int64) (bool, bool) { return false, true })
	l.app.Store(&app)
	if _, err := m.SetCPUs(t.Context(), "/a", 0.75); !errors.Is(err, framework.ErrUnavailable) || l.writes.Load() != 1 {
		t.Fatalf("error %v, %d writes: a change that didn't take effect is the caller's to repeat", err, l.writes.Load())
	}
}

func TestDeleteIsRepeatedAndNotFoundThenIsDone(t *testing.T) {
	t.Parallel()
	app := submitted
	l, m := lossyClient(t, func(n int64) (bool, bool) { return true, n == 1 })
	l.app.Store(&app)
	if _, err := m.DeleteApp(t.Context(), "/a"); err != nil || l.writes.Load() != 2 {
		t.Fatalf("error %v, %d writes", err, l.writes.Load())
	}
	if _, err := m.DeleteApp(t.Context(), "/a"); !errors.Is(err, framework.ErrNotFound) {
		t.Fatalf("error %v for an app that was not there", err)
	}
}

func TestAnswersThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for _, body := range []string{``, `null`, `{}`, `[]`, `{"app":{}}`, `{"app":null}`, `{"app":{"id":"/a","env":{"QOSCTL_SECRET":"hush"`, `"pong"`, `{"app":{"id":7}}`} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
		t.Cleanup(s.Close)
		_, err := client(t, s).App(t.Context(), "/a")
		if !errors.Is(err, framework.ErrUnavailable) || errors.Is(err, framework.ErrNotFound) {
			t.Errorf("%s: error %v", body, err)
		}
		if err != nil && (strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), "is this really Marathon?")) {
			t.Errorf("%s: error %v", body, err)
		}
	}
}

func TestOldAndNewShapesOfAnApp(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ json, image, network string }{
		"1.4 host":   {`{"id":"/a","container":{"docker":{"image":"i","network":"HOST"}}}`, "i", "host"},
		"1.4 bridge": {`{"id":"/a","container":{"docker":{"image":"i","network":"BRIDGE"}}}`, "i", "bridge"},
		"1.5 host":   {`{"id":"/a","container":{"docker":{"image":"i"}},"networks":[{"mode":"host"}]}`, "i", "host"},
		"1.5 bridge": {`{"id":"/a","container":{"docker":{"image":"i"}},"networks":[{"mode":"container/bridge"}]}`, "i", "bridge"},
		"1.5 user":   {`{"id":"/a","container":{"docker":{"image":"i"}},"networks":[{"mode":"container","name":"net"}]}`, "i", "net"},
		"none":       {`{"id":"/a","env":{"A":"b","S":{"secret":"x"}}}`, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var a App
			if err := json.Unmarshal([]byte(tt.json), &a); err != nil || a.Image != tt.image || a.Network != tt.network {
				t.Errorf("app %+v, error %v", a, err)
			}
		})
	}
}

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Version{
		"1.11.24": {1, 11}, "1.5.0-SNAPSHOT-abc": {1, 5}, "1.4": {1, 4}, "v1.4.9": {1, 4}, "1.6-dev": {1, 6}, "": {}, "x.y": {}, "-1.2": {},
	} {
		if got := ParseVersion(text); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
}
