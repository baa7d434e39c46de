package chronos

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qosctl/framework"
)

// fake is a Chronos 3 or 2 that keeps what it is sent. Writes can be lost, and jobs appear late.
type fake struct {
	mu     sync.Mutex
	v2     bool
	jobs   map[string]string
	late   int                                 // a job is shown after so many looks
	lose   func(n int) (carriedOut, lost bool) // of the n-th write; nil: nothing
	writes []string                            // method, path and body
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	prefix := prefixV3
	if f.v2 {
		prefix = prefixV2
	}
	path, ok := strings.CutPrefix(r.URL.Path, prefix)
	if !ok {
		http.NotFound(w, r)
		return
	}
	lost := false
	if r.Method != http.MethodGet {
		body, _ := io.ReadAll(r.Body)
		f.writes = append(f.writes, strings.TrimSpace(r.Method+" "+path+" "+string(body)))
		carriedOut := true
		if f.lose != nil {
			carriedOut, lost = f.lose(len(f.writes))
		}
		if !carriedOut {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
	}
	status, answer := f.answer(r, path)
	if lost {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, answer)
}

// sent is what was written so far.
func (f *fake) sent() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.writes)
}

func (f *fake) answer(r *http.Request, path string) (int, string) {
	name, isJob := strings.CutPrefix(path, "/job/")
	_, known := f.jobs[name]
	if known && f.late > 0 {
		f.late--
		known = false
	}
	switch {
	case r.Method == http.MethodPost && (path == "/iso8601" || path == "/dependency"):
		var job Job
		body, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(body, &job)
		f.jobs[job.Name] = string(body)
		return http.StatusNoContent, ""
	case path == "/jobs" || path == "/jobs/search":
		var list []string
		for n, j := range f.jobs {
			if strings.Contains(n, r.URL.Query().Get("name")) {
				list = append(list, j)
			}
		}
		return http.StatusOK, "[" + strings.Join(list, ",") + "]"
	case isJob && !known && f.v2:
		return http.StatusBadRequest, "" // as bare as 2.x can be
	case isJob && !known:
		return http.StatusBadRequest, `{"message":"java.lang.IllegalArgumentException: requirement failed: Job '` + name + `' not found\n\tat scala.Predef$.require(Predef.scala:224)","status":"Bad Request"}`
	case isJob && r.Method == http.MethodDelete:
		delete(f.jobs, name)
		return http.StatusNoContent, ""
	case isJob && r.Method == http.MethodPut:
		return http.StatusNoContent, ""
	case isJob:
		return http.StatusOK, f.jobs[name]
	}
	return http.StatusNotFound, ""
}

func fakeClient(t *testing.T, f *fake) *Client {
	t.Helper()
	if f.jobs == nil {
		f.jobs = map[string]string{}
	}
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return client(t, s)
}

const submitted = `{"name":"j","command":"exec qosctl run","cpus":0.5,"environmentVariables":[{"name":"QOSCTL_JOB","value":"J"}]}`

func TestSubmitLooksBeforeItSendsAgain(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		f      fake
		err    error
		writes int
	}{
		{"nothing is lost", fake{}, nil, 1},
		{"Chronos 2", fake{v2: true}, nil, 1},
		{"shown late", fake{late: 5}, nil, 1},
		{"the answer is lost", fake{lose: func(int) (bool, bool) { return true, true }}, nil, 1},
		{"the request is lost", fake{lose: func(n int) (bool, bool) { return n > 1, false }}, nil, 2},
		{"ours is there already", fake{jobs: map[string]string{"j": submitted}}, nil, 0},
		{"another is there", fake{jobs: map[string]string{"j": `{"name":"j"}`}}, framework.ErrExists, 0},
		{"another is there, on Chronos 2", fake{v2: true, jobs: map[string]string{"j": `{"name":"j"}`, "j10": `{"name":"j10"}`}}, framework.ErrExists, 0},
		{"one with a longer name is there", fake{v2: true, jobs: map[string]string{"j10": `{"name":"j10"}`}}, nil, 1},
	}
	for i := range tests {
		tt := &tests[i]
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			job, err := fakeClient(t, &tt.f).Submit(t.Context(), json.RawMessage(submitted))
			if !errors.Is(err, tt.err) || (tt.err == nil) != (err == nil) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err == nil && job.JobID != "J" {
				t.Errorf("job %+v", job)
			}
			if len(tt.f.sent()) != tt.writes {
				t.Errorf("writes %q, want %d", tt.f.sent(), tt.writes)
			}
		})
	}
}

func TestAJobThatIsNeverShownIsUncertain(t *testing.T) {
	t.Parallel()
	_, err := fakeClient(t, &fake{late: 1 << 30}).Submit(t.Context(), json.RawMessage(submitted))
	if !errors.Is(err, framework.ErrUnavailable) || !framework.Uncertain(err) {
		t.Fatalf("error %v, uncertain %v", err, framework.Uncertain(err))
	}
}

func TestSetCPUsSendsBackWhatChronosHas(t *testing.T) {
	t.Parallel()
	f := &fake{jobs: map[string]string{
		"j":     `{"name":"j","command":"c","cpus":0.1,"schedule":"R3/2026-01-01T00:00:00.000Z/PT1H","successCount":7,"lastSuccess":"2026-01-02T03:04:05.678Z","owner":null,"new":{"a":[1]}}`,
		"child": `{"name":"child","command":"c","cpus":0.1,"parents":["j"]}`,
	}}
	k := fakeClient(t, f)
	for _, name := range []string{"j", "child"} {
		if job, err := k.SetCPUs(t.Context(), name, 0.7); err != nil || job.CPUs != 0.7 {
			t.Fatalf("job %+v, error %v", job, err)
		}
	}
	want := []string{
		`POST /iso8601 {"command":"c","cpus":0.7,"lastSuccess":"2026-01-02T03:04:05.678Z","name":"j","new":{"a":[1]},"schedule":"R3/2026-01-01T00:00:00.000Z/PT1H","successCount":7}`,
		`POST /dependency {"command":"c","cpus":0.7,"name":"child","parents":["j"]}`,
	}
	if diff := cmp.Diff(want, f.sent()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if job, err := k.SetDisabled(t.Context(), "j", true); err != nil || !job.Disabled || job.CPUs != 0.7 {
		t.Errorf("job %+v, error %v", job, err)
	}
	if _, err := k.SetCPUs(t.Context(), "none", 1); !errors.Is(err, framework.ErrNotFound) {
		t.Errorf("error %v for a job that is not there", err)
	}
}

func TestStartWaitsForAJobThatWasJustMade(t *testing.T) {
	t.Parallel()
	f := &fake{jobs: map[string]string{"j": submitted}, late: 4}
	if err := fakeClient(t, f).Start(t.Context(), "j"); err != nil || len(f.sent()) != 5 {
		t.Fatalf("error %v after %q", err, f.sent())
	}
	f = &fake{jobs: map[string]string{"j": submitted}, lose: func(int) (bool, bool) { return true, true }}
	if err := fakeClient(t, f).Start(t.Context(), "j"); !framework.Uncertain(err) || len(f.sent()) != 1 {
		t.Fatalf("error %v after %q: a start whose answer was lost must not be sent twice", err, f.sent())
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	for _, v2 := range []bool{false, true} {
		f := &fake{v2: v2, jobs: map[string]string{"j": submitted}, lose: func(n int) (bool, bool) { return true, n == 1 }}
		k := fakeClient(t, f)
		if err := k.Delete(t.Context(), "j"); err != nil || len(f.sent()) != 2 {
			t.Errorf("v2 %v: error %v", v2, err)
		}
		if err := k.Delete(t.Context(), "j"); !errors.Is(err, framework.ErrNotFound) {
			t.Errorf("v2 %v: error %v for a job that is not there", v2, err)
		}
	}
}
