package mesos

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/framework"
	"qosctl/framework/contracttest"
)

const state = `{"id":"S1","hostname":"node1","version":"1.4.1","start_time":1500000000.5,"resources":{"cpus":2,"mem":4096,"ports":"[31000-32000]"},
"attributes":{"qosctl":"yes","rack":7.5,"pi":3},"frameworks":[
 {"id":"F1","name":"marathon","executors":[
  {"id":"a.1","container":"C1","tasks":[{"id":"a.1","name":"a","state":"TASK_RUNNING","role":"*","resources":{"cpus":0.5,"mem":64},
    "labels":[{"key":"qosctl.job","value":"J"}],"statuses":[{"state":"TASK_STARTING","timestamp":1500000001.25},{"state":"TASK_RUNNING","timestamp":1500000002}]}],
   "queued_tasks":[],"completed_tasks":[]},
  {"id":"b.1","container":"C2","queued_tasks":[{"id":"b.1","name":"b","state":"TASK_STAGING"}],"completed_tasks":[{"id":"b.0","state":"TASK_KILLED"}]}],
  "completed_executors":[{"id":"a.0","container":"C0","completed_tasks":[{"id":"a.0","state":"TASK_FINISHED"}]}]}],
"completed_frameworks":[{"id":"F0","name":"chronos","completed_executors":[{"id":"ct:1:0:j:","container":"C9","completed_tasks":[{"id":"ct:1:0:j:","state":"TASK_FAILED"}]}]}]}`

func client(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	m, err := New(framework.Endpoint{URLs: []string{s.URL}}, Options{Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func TestState(t *testing.T) {
	t.Parallel()
	m := client(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(state)) })
	s, err := m.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := time.UnixMilli
	task := func(id, framework, frameworkID, container, state string, completed bool) Task {
		return Task{ID: id, FrameworkName: framework, FrameworkID: frameworkID, ExecutorID: id, ContainerID: container, State: state, Completed: completed}
	}
	a := task("a.1", "marathon", "F1", "C1", "TASK_RUNNING", false)
	a.Name, a.Role, a.CPUs, a.MemMiB, a.Labels = "a", "*", 0.5, 64, map[string]string{"qosctl.job": "J"}
	a.Statuses = []Status{{"TASK_STARTING", at(1500000001250)}, {"TASK_RUNNING", at(1500000002000)}}
	b := task("b.1", "marathon", "F1", "C2", "TASK_STAGING", false)
	b.Name = "b"
	b0 := task("b.0", "marathon", "F1", "C2", "TASK_KILLED", true)
	b0.ExecutorID = "b.1"
	want := State{
		Agent: Agent{
			ID: "S1", Hostname: "node1", Version: "1.4.1", CPUs: 2, MemMiB: 4096, Started: at(1500000000500),
			Attributes: map[string]string{"qosctl": "yes", "rack": "7.5", "pi": "3"},
		},
		Tasks: []Task{a, b, b0, task("a.0", "marathon", "F1", "C0", "TASK_FINISHED", true), task("ct:1:0:j:", "chronos", "F0", "C9", "TASK_FAILED", true)},
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	live, err := m.Tasks(t.Context())
	if diff := cmp.Diff([]Task{a, b}, live); err != nil || diff != "" {
		t.Errorf("live tasks, error %v (-want +got):\n%s", err, diff)
	}
}

func TestBothPathsAreProbedOnce(t *testing.T) {
	t.Parallel()
	for _, served := range []string{"/slave(1)", ""} {
		var asked []string
		m := client(t, func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.URL.Path)
			if r.URL.Path != served+"/state" {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			_, _ = w.Write([]byte(state))
		})
		for range 2 {
			if _, err := m.State(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		want := []string{"/slave(1)/state", "/slave(1)/state"}
		if served == "" {
			want = []string{"/slave(1)/state", "/state", "/state"}
		}
		if diff := cmp.Diff(want, asked); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
	}
}

func TestWhatIsNoAgent(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status int
		body   string
		kind   error
	}{
		"a page":    {200, "<html>nginx</html>", framework.ErrUnavailable},
		"an object": {200, "{}", framework.ErrUnavailable},
		"a list":    {200, "[]", framework.ErrUnavailable},
		"cut off":   {200, state[:400], framework.ErrUnavailable},
		"404":       {404, "", framework.ErrUnavailable},
		"401":       {401, "", framework.ErrUnauthorized},
		"403":       {403, "", framework.ErrUnauthorized},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := client(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			})
			if _, err := m.Tasks(t.Context()); !errors.Is(err, tt.kind) {
				t.Errorf("error %v, want %v", err, tt.kind)
			}
		})
	}
}

func TestClientAgainstTheContract(t *testing.T) {
	t.Parallel()
	tested := 0
	for _, row := range contracttest.Rows(t) {
		if row.Server != contracttest.Agent {
			continue
		}
		tested++
		t.Run(row.ID, func(t *testing.T) {
			t.Parallel()
			m := client(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != row.Request.Path {
					w.WriteHeader(http.StatusNotFound)
					return
				}
				status, header, body := row.Example()
				for name := range header {
					w.Header().Set(name, header.Get(name))
				}
				w.WriteHeader(status)
				_, _ = w.Write(body)
			})
			if row.Request.Path == "/slave(1)/containers" {
				list, err := m.Containers(t.Context())
				if err != nil || len(list) != len(row.Answer.Value.([]any)) {
					t.Errorf("containers %v, error %v", list, err)
				}
				return
			}
			s, err := m.State(t.Context())
			if row.Statuses[0] == http.StatusUnauthorized {
				if !errors.Is(err, framework.ErrUnauthorized) {
					t.Errorf("error %v", err)
				}
				return
			}
			full := row.Answer.Value.(map[string]any)["hostname"] != nil
			if full && err != nil {
				t.Error(err)
			}
			_, _, body := row.Example()
			if err := json.Unmarshal(body, &s); err != nil {
				t.Fatal(err)
			}
			for _, task := range s.Tasks {
				if task.ContainerID == "" && !task.Completed || task.FrameworkName == "" || task.State == "" {
					t.Errorf("task %+v", task)
				}
			}
		})
	}
	if tested == 0 {
		t.Error("no rows for the agent")
	}
}

func FuzzState(f *testing.F) {
	f.Add([]byte(state))
	f.Add([]byte(`{"start_time":1e300,"attributes":{"a":null,"b":[1],"c":{"d":1}},"frameworks":[{"executors":[{"tasks":[{}]}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s State
		if s.UnmarshalJSON(data) != nil {
			return
		}
		for _, task := range s.Tasks {
			for _, st := range task.Statuses {
				if _, err := st.At.MarshalJSON(); err != nil {
					t.Errorf("time %v: %v", st.At, err)
				}
			}
		}
	})
}
