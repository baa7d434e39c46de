package marathon

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"qosctl/devmesos/node"
)

// call makes a request without a socket.
func call(t *testing.T, s *Scheduler, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

// run drives a scheduler in a bubble.
func run(t *testing.T, s *Scheduler, test func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	test()
	cancel()
	wg.Wait()
}

func TestLoopLaunchesAfterBackOffAndRepeatsKills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s, err := New(Options{Cluster: f, Version: "1.11.0"})
		if err != nil {
			t.Fatal(err)
		}
		say := func(id string, state node.State) {
			if state.Terminal() {
				f.end(id)
			}
			s.Status(node.Status{TaskID: id, State: state, At: time.Now()})
			synctest.Wait()
		}
		run(t, s, func() {
			if w := call(t, s, "POST", "/v2/apps", app("/a", polite+`,"backoffSeconds":60`)); w.Code != http.StatusCreated {
				t.Fatal(w.Code, w.Body)
			}
			synctest.Wait()
			all, _ := f.seen()
			say(all[0], node.Running)
			say(all[0], node.Finished)
			<-time.After(59 * time.Second)
			synctest.Wait()
			if all, _ = f.seen(); len(all) != 1 {
				t.Error("launched before the back-off is over")
			}
			<-time.After(time.Second)
			synctest.Wait()
			if all, _ = f.seen(); len(all) != 2 {
				t.Fatal("not launched after the back-off")
			}
			say(all[1], node.Running)
			if w := call(t, s, "DELETE", "/v2/apps/a", ""); w.Code != http.StatusOK {
				t.Fatal(w.Code, w.Body)
			}
			<-time.After(61 * time.Second)
			synctest.Wait()
			if _, kills := f.seen(); len(kills) != 3 {
				t.Errorf("%d kills in a minute, want 3", len(kills))
			}
			say(all[1], node.Killed)
			if w := call(t, s, "GET", "/v2/deployments", ""); strings.TrimSpace(w.Body.String()) != "[]" {
				t.Errorf("deployments %s", w.Body)
			}
		})
		if w := call(t, s, "POST", "/v2/apps", app("/b", polite)); w.Code != http.StatusServiceUnavailable {
			t.Errorf("after the end: %d", w.Code)
		}
	})
}

func TestAppsComeBackFromTheSnapshot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := Options{Cluster: newFake(), Version: "1.11.0", Dir: dir}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"/a", "/b"} {
		if w := call(t, s, "POST", "/v2/apps", app(id, polite+`,"labels":{"x":"y"}`)); w.Code != http.StatusCreated {
			t.Fatal(w.Code, w.Body)
		}
	}
	if w := call(t, s, "DELETE", "/v2/apps/b", ""); w.Code != http.StatusOK {
		t.Fatal(w.Code, w.Body)
	}
	view := func(s *Scheduler, id string) map[string]any {
		var v map[string]map[string]any
		w := call(t, s, "GET", "/v2/apps"+id, "")
		if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil && w.Code == 200 {
			t.Fatal(err)
		}
		return v["app"]
	}
	before := view(s, "/a")
	f := newFake()
	o.Cluster = f
	if s, err = New(o); err != nil {
		t.Fatal(err)
	}
	after := view(s, "/a")
	for _, k := range []string{"version", "cpus", "cmd"} {
		if before[k] != after[k] {
			t.Errorf("%s was %v, is %v", k, before[k], after[k])
		}
	}
	if view(s, "/b") != nil {
		t.Error("a deleted app comes back")
	}
	if len(f.all) != 1 {
		t.Errorf("launched %v", f.all)
	}
	if err := os.WriteFile(s.path(), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if s, err = New(o); err != nil || view(s, "/a") != nil {
		t.Errorf("corrupt snapshot: %v", err)
	}
}

func TestSlowSubscriberLosesItsStream(t *testing.T) {
	t.Parallel()
	h := newHub()
	events, cancel := h.subscribe()
	defer cancel()
	for range backlog + 1 {
		h.publish("x", map[string]any{})
	}
	n := 0
	for range events {
		n++
	}
	if n != backlog || len(h.subs) != 0 {
		t.Errorf("%d events, %d subscribers", n, len(h.subs))
	}
}

func TestLabelSelectors(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"team": "x", "stage": "dev"}
	for text, want := range map[string]bool{
		"": true, "team": true, "none": false, "team==x": true, "team==y": false, "team!=y": true, "none!=y": false, "team==x,stage==dev": true,
		"team==x,stage==live": false, "stage in (live, dev)": true, "stage notin (live,dev)": false, "stage in (dev),team": true,
	} {
		s, err := parseSelector(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := s(labels); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	for _, bad := range []string{"a b", ",", "(", "a in )x("} {
		if _, err := parseSelector(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzSelector(f *testing.F) {
	for _, s := range []string{"a==b,c", "a in (b,c),d!=e", ")(", "a notin (x"} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, text string) {
		if s, err := parseSelector(text); err == nil {
			s(map[string]string{"a": "b"})
		}
	})
}
