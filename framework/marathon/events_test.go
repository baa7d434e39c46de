package marathon

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"qosctl/framework"
	"qosctl/framework/contracttest"
)

// next takes an event within ten seconds.
func next(t *testing.T, events <-chan Event) Event {
	t.Helper()
	select {
	case e, ok := <-events:
		if !ok {
			t.Fatal("the channel is closed")
		}
		return e
	case <-time.After(10 * time.Second):
		t.Fatal("no event within 10 s")
	}
	return Event{}
}

func stream(t *testing.T, h func(n int64, w http.ResponseWriter, r *http.Request)) *httptest.Server {
	t.Helper()
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream;charset=UTF-8")
		h(n.Add(1), w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

func TestEventsReconnect(t *testing.T) {
	t.Parallel()
	s := stream(t, func(n int64, w http.ResponseWriter, r *http.Request) {
		if n%2 == 0 { // between two streams there is no leader
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = io.WriteString(w, "event: event_stream_attached\r\ndata: {\"eventType\":\"event_stream_attached\",\"timestamp\":\"2026-01-02T03:04:05.678Z\"}\r\n\r\n\r\n")
		_, _ = io.WriteString(w, "event: odd\ndata: not JSON\n\n")
		_, _ = fmt.Fprintf(w, ": comment\nevent: status_update_event\ndata: {\"appId\":\"/a\",\ndata: \"taskId\":\"t%d\",\"taskStatus\":\"TASK_RUNNING\"}\n\n", n)
		_, _ = io.WriteString(w, "event: cut_off\ndata: {}\n") // and the stream ends
	})
	ctx, cancel := context.WithCancel(t.Context())
	events := client(t, s).Events(ctx)
	for _, want := range []string{"t1", "t3", "t5"} {
		if e := next(t, events); e.Type != EventReconnected {
			t.Fatalf("event %+v, want that the stream stands", e)
		}
		if e := next(t, events); e.Type != "event_stream_attached" || e.At.IsZero() {
			t.Fatalf("event %+v", e)
		}
		if e := next(t, events); e.Type != EventStatusUpdate || e.Task != want || e.App != "/a" {
			t.Fatalf("event %+v, want task %s", e, want)
		}
	}
	cancel()
	for range events { // ends because the channel is closed
	}
}

func TestASilentStreamIsMadeAnewAndAHeartbeatKeepsIt(t *testing.T) {
	t.Parallel()
	s := stream(t, func(n int64, w http.ResponseWriter, r *http.Request) {
		flush(w)
		if n == 1 {
			<-r.Context().Done()
			return
		}
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for range 30 { // 600 ms of nothing but heartbeats, each within the idle time
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
			_, _ = io.WriteString(w, "\r\n")
			flush(w)
		}
		_, _ = fmt.Fprintf(w, "event: deployment_success\ndata: {\"id\":\"d%d\",\"plan\":{\"id\":\"p\",\"steps\":[{\"actions\":[{\"action\":\"RestartApplication\",\"app\":\"/a\"}]}]}}\n\n", n)
		flush(w)
		<-r.Context().Done()
	})
	m, err := New(framework.Endpoint{URLs: []string{s.URL}}, Options{Backoff: time.Millisecond, Idle: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	events := m.Events(ctx)
	next(t, events)
	if e := next(t, events); e.Type != EventReconnected {
		t.Fatalf("event %+v, want a new stream", e)
	}
	if e := next(t, events); e.Deployment != "d2" || len(e.Apps) != 1 || e.Apps[0] != "/a" {
		t.Fatalf("event %+v, want one of the second stream", e)
	}
	cancel()
	m.Close()
}

func TestAPageIsNoEventStream(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = io.WriteString(w, "<html>data: {}\n\n</html>")
	}))
	t.Cleanup(s.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	for e := range client(t, s).Events(ctx) {
		t.Errorf("event %+v", e)
	}
	if n := asked.Load(); n < 2 || n > 60 {
		t.Errorf("asked %d times in 200 ms: with back-off it is some times", n)
	}
}

func TestEventsOfTheContractAreRead(t *testing.T) {
	t.Parallel()
	for _, row := range contracttest.Rows(t) {
		if row.Server != contracttest.Marathon || row.During == nil {
			continue
		}
		_, _, data := row.Example()
		e, err := parseEvent("message", data)
		want := row.Answer.Value.(map[string]any)
		if err != nil || e.Type != want["eventType"] {
			t.Errorf("%s: event %+v, error %v", row.ID, e, err)
		}
		if _, ok := want["appId"]; ok && e.App != "/a" {
			t.Errorf("%s: app %q", row.ID, e.App)
		}
	}
}

func FuzzParseEvent(f *testing.F) {
	f.Add("status_update_event", []byte(`{"appId":"/a","taskStatus":"TASK_RUNNING","timestamp":"2026-01-02T03:04:05.678Z"}`))
	f.Add("deployment_success", []byte(`{"id":"d","plan":{"id":"p","steps":[{"actions":[{"action":"x","app":"/a"}]}]}}`))
	f.Add("", []byte(`{"plan":null,"appDefinition":{"id":"/x"}}`))
	f.Fuzz(func(t *testing.T, kind string, data []byte) {
		if e, err := parseEvent(kind, data); err == nil && e.Raw == nil && len(data) > 0 {
			t.Error("an event without its data")
		}
	})
}

func FuzzApp(f *testing.F) {
	f.Add([]byte(`{"id":"/a","cpus":1,"env":{"A":"b"},"container":{"docker":{"image":"i","network":"HOST"}},"deployments":[{"id":"d"}]}`))
	f.Add([]byte(`{"networks":[{"mode":"container"}],"constraints":[["a"]]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var a App
		if a.UnmarshalJSON(data) == nil && string(a.Raw) != string(data) {
			t.Error("Raw is not what was read")
		}
	})
}

func FuzzParseVersion(f *testing.F) {
	for _, s := range []string{"1.11.24", "1.5.0-SNAPSHOT", "1.4", "v1.8.2", "", "1", "-1.2", "1.-2", "99999999999999999999.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v := ParseVersion(text)
		if v.Major < 0 || v.Minor < 0 {
			t.Errorf("%q is %+v", text, v)
		}
		if again := ParseVersion(fmt.Sprintf("%d.%d", v.Major, v.Minor)); again != v {
			t.Errorf("%q is %+v, and that is %+v", text, v, again)
		}
	})
}
