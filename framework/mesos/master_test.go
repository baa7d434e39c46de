package mesos

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/framework"
	"qosctl/framework/contracttest"
)

func masterAt(t testing.TB, urls ...string) *Master {
	t.Helper()
	m, err := NewMaster(framework.Endpoint{URLs: urls}, Options{Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func serveMaster(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestAgents(t *testing.T) {
	t.Parallel()
	m := masterAt(t, serveMaster(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"slaves":[{"id":"S1","hostname":"h1","pid":"slave(1)@192.0.2.1:5051","version":"1.11.0","attributes":{"rack":7,"qosctl":"yes"},
			"resources":{"cpus":8,"mem":100},"used_resources":{"cpus":1.5,"mem":10},"active":false,"deactivated":true,
			"drain_info":{"state":"DRAINING","config":{"max_grace_period":{"nanoseconds":5000000000},"mark_gone":true}}}],
			"recovered_slaves":[{"id":"S2","hostname":"h2"}]}`))
	}))
	got, err := m.Agents(t.Context())
	want := []Registered{
		{
			ID: "S1", Hostname: "h1", Address: "192.0.2.1:5051", Version: "1.11.0", Attributes: map[string]string{"rack": "7", "qosctl": "yes"}, CPUs: 8, MemMiB: 100,
			UsedCPUs: 1.5, UsedMemMiB: 10, Deactivated: true, Drain: &Drain{MaxGrace: 5 * time.Second, MarkGone: true},
		},
		{ID: "S2", Hostname: "h2", Recovered: true},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
	if got := want[0].Machine(); got != (Machine{"h1", "192.0.2.1"}) {
		t.Errorf("machine %v", got)
	}
}

// TestTheLeaderIsFound redirects as a stand-by does, whose host may be one that is known by its URL alone.
func TestTheLeaderIsFound(t *testing.T) {
	t.Parallel()
	var posted string
	leader := serveMaster(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			var c struct{ Type string }
			_ = json.NewDecoder(r.Body).Decode(&c) // seen by what is compared
			posted = c.Type
			return
		}
		_, _ = w.Write([]byte(`{"slaves":[]}`))
	})
	standby := serveMaster(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "//"+strings.TrimPrefix(leader, "http://")+r.URL.RequestURI())
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	none := serveMaster(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "No leader elected", http.StatusServiceUnavailable)
	})
	dead := httptest.NewServer(nil)
	dead.Close()
	m := masterAt(t, dead.URL, none, standby, leader)
	if list, err := m.Agents(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	if err := m.DrainAgent(t.Context(), "S1", time.Second); err != nil || posted != "DRAIN_AGENT" {
		t.Errorf("%v, posted %q", err, posted)
	}
	if _, err := masterAt(t, none).Agents(t.Context()); !errors.Is(err, framework.ErrUnavailable) {
		t.Error(err)
	}
}

func TestRefusalsAreToldApart(t *testing.T) {
	t.Parallel()
	for status, test := range map[int]struct {
		want      error
		forbidden bool
	}{
		401: {framework.ErrUnauthorized, false}, 403: {framework.ErrUnauthorized, true}, 400: {framework.ErrInvalid, false}, 404: {framework.ErrUnavailable, false},
	} {
		m := masterAt(t, serveMaster(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		_, listed := m.Agents(t.Context())
		_, read := m.Schedule(t.Context())
		for name, err := range map[string]error{
			"agents": listed, "schedule": read, "drain": m.DrainAgent(t.Context(), "S", 0), "set": m.SetSchedule(t.Context(), nil), "down": m.MachinesDown(t.Context(), nil),
		} {
			if !errors.Is(err, test.want) || errors.Is(err, ErrNotPermitted) != test.forbidden {
				t.Errorf("%d, %s: %v", status, name, err)
			}
		}
	}
	for _, body := range []string{"{}", "[]", "<html>", `{"slaves":1}`} {
		m := masterAt(t, serveMaster(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }))
		if _, err := m.Agents(t.Context()); !errors.Is(err, framework.ErrUnavailable) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestScheduleGoesThereAndBack(t *testing.T) {
	t.Parallel()
	var kept json.RawMessage
	m := masterAt(t, serveMaster(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_ = json.NewDecoder(r.Body).Decode(&kept) // seen by what comes back
			return
		}
		_, _ = w.Write(kept)
	}))
	want := []Window{
		{Machines: []Machine{{Hostname: "h1", IP: "192.0.2.1"}, {IP: "192.0.2.2"}}, Start: time.Unix(1700000000, 5), Duration: time.Hour},
		{Machines: []Machine{{Hostname: "h3"}}, Start: time.Unix(1800000000, 0)},
	}
	if err := m.SetSchedule(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	got, err := m.Schedule(t.Context())
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
}

// TestMasterAgainstTheContract sends what the page's rows have as requests, and reads what they have as answers.
func TestMasterAgainstTheContract(t *testing.T) {
	t.Parallel()
	tested := map[string]int{}
	for _, row := range contracttest.Rows(t) {
		if row.Server != contracttest.Master || row.Request.Server != contracttest.Master || strings.HasPrefix(row.Request.Path, "/master/") {
			continue
		}
		tested[row.Request.Path]++
		t.Run(row.ID, func(t *testing.T) {
			t.Parallel()
			request := row.Request.Expand(contracttest.Vars())
			var sent string
			m := masterAt(t, serveMaster(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method != request.Method || r.URL.Path != request.Path {
					w.WriteHeader(http.StatusNotFound)
					return
				}
				var v any
				if json.NewDecoder(r.Body).Decode(&v) == nil {
					b, _ := json.Marshal(v) // it was JSON
					sent = string(b)
				}
				status, header, body := row.Example()
				for name := range header {
					w.Header().Set(name, header.Get(name))
				}
				w.WriteHeader(status)
				_, _ = w.Write(body)
			}))
			checkRow(t, row, request, m, &sent)
		})
	}
	for _, path := range []string{"/slaves", "/api/v1", "/maintenance/schedule", "/machine/down", "/machine/up"} {
		if tested[path] == 0 {
			t.Errorf("no row for %s", path)
		}
	}
}

func checkRow(t *testing.T, row contracttest.Row, request contracttest.Request, m *Master, sent *string) {
	err := perform(t, request, m)
	var wants error
	switch status := row.Statuses[0]; {
	case status == 400:
		wants = framework.ErrInvalid
	case status == 403:
		wants = ErrNotPermitted
	case status > 300:
		wants = framework.ErrUnavailable
	}
	if !errors.Is(err, wants) {
		t.Errorf("error %v, want %v", err, wants)
	}
	if request.Body == "" {
		return
	}
	var want, got any
	if err := errors.Join(json.Unmarshal([]byte(request.Body), &want), json.Unmarshal([]byte(*sent), &got)); err != nil {
		t.Fatalf("%q: %v", *sent, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sent (-row +client):\n%s", diff)
	}
}

// perform makes the client send a row's request.
func perform(t *testing.T, request contracttest.Request, m *Master) error {
	ctx, vars := t.Context(), contracttest.Vars()
	machines := []Machine{{Hostname: vars["host"], IP: vars["ip"]}}
	var body struct {
		Type  string
		Drain struct {
			Agent struct{ Value string } `json:"agent_id"`
		} `json:"drain_agent"`
		Windows []struct {
			Machines []Machine                                   `json:"machine_ids"`
			When     struct{ Start struct{ Nanoseconds int64 } } `json:"unavailability"`
		}
	}
	_ = json.Unmarshal([]byte(request.Body), &body) // a list of machines is none
	switch request.Method + " " + request.Path {
	case "GET /slaves":
		list, err := m.Agents(ctx)
		for _, a := range list {
			if a.ID != vars["agent"] || a.Drain != nil && a.Active {
				t.Errorf("agent %+v", a)
			}
		}
		return err
	case "GET /maintenance/schedule":
		list, err := m.Schedule(ctx)
		for _, w := range list {
			if diff := cmp.Diff(Window{machines, time.Unix(7258118400, 0), time.Hour}, w); diff != "" {
				t.Errorf("window (-want +got):\n%s", diff)
			}
		}
		return err
	case "POST /maintenance/schedule":
		var windows []Window
		for _, w := range body.Windows {
			windows = append(windows, Window{Machines: w.Machines, Start: time.Unix(0, w.When.Start.Nanoseconds)})
		}
		return m.SetSchedule(ctx, windows)
	case "POST /machine/down":
		return m.MachinesDown(ctx, machines)
	case "POST /machine/up":
		return m.MachinesUp(ctx, machines)
	case "POST /api/v1":
		switch body.Type {
		case "DRAIN_AGENT":
			return m.DrainAgent(ctx, body.Drain.Agent.Value, 0)
		case "DEACTIVATE_AGENT":
			return m.DeactivateAgent(ctx, vars["agent"])
		case "REACTIVATE_AGENT":
			return m.ReactivateAgent(ctx, vars["agent"])
		}
	}
	t.Fatalf("the client has nothing for %s %s", request.Method, request.Path)
	return nil
}

func FuzzSlaves(f *testing.F) {
	f.Add([]byte(`{"slaves":[{"id":"S","pid":"x","attributes":{"a":[1]},"drain_info":{"state":"x","config":null}}],"recovered_slaves":null}`))
	f.Add([]byte(`{"slaves":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var in slavesJSON
		if json.Unmarshal(data, &in) != nil || in.Slaves == nil {
			return
		}
		for _, s := range *in.Slaves {
			_ = s.registered().Machine()
		}
	})
}
