package master

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"qosctl/devmesos/node"
)

func serveReport(ctx context.Context, m *Master, body []byte) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/devmesos/exchange", bytes.NewReader(body)))
	return w
}

func TestAStrangersReportIsRefused(t *testing.T) {
	t.Parallel()
	m, err := New(Options{Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	h := newHost("a", true)
	h.report.Number = 1
	good, err := json.Marshal(h.report)
	if err != nil {
		t.Fatal(err)
	}
	old := h.report
	old.Protocol = 9
	other, err := json.Marshal(old)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		token, body string
		status      int
	}{
		"without a token":  {"", string(good), 401},
		"with another":     {"Bearer x", string(good), 401},
		"no JSON":          {"Bearer secret", "{", 400},
		"nothing in it":    {"Bearer secret", "{}", 400},
		"another protocol": {"Bearer secret", string(other), 400},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/devmesos/exchange", strings.NewReader(test.body))
		r.Header.Set("Authorization", test.token)
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, r)
		if w.Code != test.status || len(m.agents) != 0 {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

func FuzzOperatorCalls(f *testing.F) {
	f.Add([]byte(`{"type":"DRAIN_AGENT","drain_agent":{"agent_id":{"value":"a-S0"},"max_grace_period":{"seconds":"5","nanos":1},"mark_gone":true}}`))
	f.Add([]byte(`{"windows":[{"machine_ids":[{"hostname":"a"}],"unavailability":{"start":{"nanoseconds":1},"duration":{"nanoseconds":-1}}}]}`))
	f.Add([]byte(`[{"hostname":"a","ip":"::1"}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, _ := newMaster(t, "")
		newHost("a", false).say(m, start)
		for _, path := range []string{"/api/v1", "/maintenance/schedule", "/machine/down", "/machine/up"} {
			w := httptest.NewRecorder()
			m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, bytes.NewReader(body)))
			if w.Code != 200 && w.Code != 400 {
				t.Errorf("%s: %d", path, w.Code)
			}
		}
		for _, path := range []string{"/slaves", "/maintenance/schedule", "/maintenance/status"} {
			w := httptest.NewRecorder()
			m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
			if !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s: %s", path, w.Body)
			}
		}
	})
}

// TestReportsWaitForOrders holds a report until there is something to do, or for a while.
func TestReportsWaitForOrders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, _ := newMaster(t, "")
		h := newHost("a", false)
		begin := time.Now()
		h.report.Number++
		if o, err := m.Exchange(t.Context(), h.report); err != nil || len(o.Orders) != 0 || time.Since(begin) != m.hold() {
			t.Errorf("%+v, %v after %s", o, err, time.Since(begin))
		}
		time.AfterFunc(time.Second, func() { launch(t, m, "a-S0", "m1", 1) })
		begin = time.Now()
		h.report.Number++
		if o, err := m.Exchange(t.Context(), h.report); err != nil || len(o.Orders) != 1 || time.Since(begin) != time.Second {
			t.Errorf("%+v, %v after %s", o, err, time.Since(begin))
		}
		if err := m.Cut("a", true); err != nil {
			t.Fatal(err)
		}
		h.report.Number++
		if _, err := m.Exchange(t.Context(), h.report); err == nil {
			t.Error("heard through the cut")
		}
		_ = m.Cut("a", false)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		h.report.Number, h.report.Master, h.report.Seen = h.report.Number+1, m.life, 1
		h.report.Tasks = []node.Held{{ID: "m1", Framework: "marathon", State: node.Running}}
		if _, err := m.Exchange(ctx, h.report); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
