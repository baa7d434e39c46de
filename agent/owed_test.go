package agent

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"qosctl/agent/peer"
	"qosctl/qos"
)

// What a peer tells of an account is held to what one can be: the greater wins, and what is too great would do so for ever.
func TestAnAccountThatNobodyCanHaveCountedIsRefused(t *testing.T) {
	t.Parallel()
	one := qos.Incarnation{N: 1, Node: "n1"}
	for name, c := range map[string]struct {
		entry string
		code  int
		own   time.Duration
	}{
		"an account":        {`{"node":"n1","own":7}`, http.StatusOK, 7},
		"more than time is": {`{"node":"n1","own":9223372036854775807}`, http.StatusUnprocessableEntity, 5},
		"less than none":    {`{"node":"n1","own":7,"base":-1}`, http.StatusUnprocessableEntity, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &telling{}
			s, _ := openTestStore(t, t.TempDir())
			a := &Agent{node: "n0", log: slog.New(slog.DiscardHandler), store: s, cluster: newCluster(m, nil), jobs: &jobs{byID: map[string]*job{}}}
			j := newJob(row{Record: qos.Record{Spec: qos.Spec{ID: idA, Name: "/a"}, Status: qos.Status{
				Phase: qos.PhaseSuspended, Owner: "n0", Epoch: 3, Execution: &qos.Execution{Index: 1, Account: qos.Account{
					Live: qos.Incarnation{N: 2, Node: "n0"}, Entries: map[qos.Incarnation]qos.Entry{one: {Node: "n1", Own: 5}},
				}},
			}}})
			a.jobs.add(j)
			body := `{"job":"` + idA + `","execution":1,"account":{"entries":{"1@n1":` + c.entry + `}},"since":"2030-01-01T00:00:00Z"}`
			r := httptest.NewRequestWithContext(peer.WithCaller(t.Context(), "n1"), http.MethodPost, "/", strings.NewReader(body))
			r.SetPathValue("job", idA)
			w := httptest.NewRecorder()
			a.postAccount(w, r)
			if own := j.status().Execution.Account.Entries[one].Own; w.Code != c.code || own != c.own {
				t.Errorf("%d %s; own %d, want %d", w.Code, w.Body, own, c.own)
			}
		})
	}
}
