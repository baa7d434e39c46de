package agent

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/qos"
)

// apart are two nodes, the first of which has a job of /team's, and the second one's network address.
func apart(t *testing.T) http.Handler {
	t.Helper()
	c := startCluster(t, 2, func(_ int, n *node) {
		n.cfg.Access.Reads = readsToken
		n.cfg.Access.Tokens = map[string]TokenConfig{
			"root":  {Hash: HashToken(operatorToken), Operator: true},
			"team":  {Hash: HashToken(teamToken), Tenant: "/team"},
			"other": {Hash: HashToken(otherToken), Tenant: "/tea"},
		}
	})
	c.nodes[0].submit(idA, `{"id":"/team/sub/job","cmd":"sleep 1","cpus":0.1,"mem":32,"qos":{"duration":1,"desv_deadline":0.1,"deadline":60}}`)
	c.until("the second node knows the job", func() bool {
		_, ok := c.nodes[1].shared(idA)
		return ok
	})
	if c.nodes[1].agent.jobs.get(idA) != nil {
		t.Fatal("it is the second node's")
	}
	a := c.nodes[1].agent
	return a.guard(a.adminRoutes())
}

// What a tenant may not know of a job it is not told by a node either that does not have the job.
func TestAJobOfAnotherNodeIsItsTenantsAlone(t *testing.T) {
	t.Parallel()
	h := apart(t)
	again := func(token, name string) (int, string) {
		t.Helper()
		file := `{"id":"` + name + `","cmd":"true","cpus":0.1,"mem":32,"qos":{"duration":1,"desv_deadline":0.1,"deadline":60}}`
		b, err := json.Marshal(api.SubmitRequest{ID: idA, File: json.RawMessage(file)})
		if err != nil {
			t.Fatal(err)
		}
		return ask(t, h, "POST", "/v1/jobs", token, string(b))
	}
	if status, body := again(otherToken, "/tea/x"); status != http.StatusConflict || strings.Contains(body, "/team/sub") {
		t.Errorf("another tenant submits by the job's id: %d %s", status, body)
	}
	if status, body := again(teamToken, "/team/sub/job"); status != http.StatusOK || !strings.Contains(body, "/team/sub/job") {
		t.Errorf("its own submits it again: %d %s", status, body)
	}
	for _, e := range endpoints {
		if !strings.Contains(e.route, "/v1/jobs/{job}") {
			continue
		}
		method, _, _ := strings.Cut(e.route, " ")
		if status, body := ask(t, h, method, e.path, otherToken, ""); status != http.StatusNotFound || strings.Contains(body, "/team/sub") {
			t.Errorf("%s by another tenant: %d %s", e.route, status, body)
		}
	}
	if status, body := ask(t, h, "GET", "/v1/jobs/"+idA, teamToken, ""); status != http.StatusOK {
		t.Errorf("its own reads it: %d %s", status, body)
	}
}

// What is passed on to another node is bounded like what is answered here: a question's body is not read, another one's is, within the bounds.
func TestWhatIsPassedOnIsBounded(t *testing.T) {
	t.Parallel()
	h := apart(t)
	g := newGate(newPipes(), networkBounds)
	ctx := context.WithValue(t.Context(), gateKey{}, &gateConn{gate: g, who: "x"})
	send := func(method, path string, body io.Reader) (int, string) {
		r := httptest.NewRequestWithContext(ctx, method, path, body)
		r.Host = "localhost"
		r.Header.Set("Authorization", "Bearer "+operatorToken)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	body := &endless{}
	if status, text := send("GET", "/v1/jobs/"+idA, io.NopCloser(body)); status != http.StatusOK || body.taken > 0 {
		t.Errorf("a question with a body: %d %s; %d bytes were read", status, text, body.taken)
	}
	if status, text := send("POST", "/v1/jobs/"+idA+"/checkpoints", io.NopCloser(body)); status != http.StatusUnprocessableEntity || body.taken > maxBody+maxHeader {
		t.Errorf("an endless body: %d %s; %d bytes were read", status, text, body.taken)
	}
	for range largeEach {
		if _, ok := large(ctx); !ok {
			t.Fatal("no place")
		}
	}
	if status, text := send("POST", "/v1/jobs/"+idA+"/checkpoints", io.NopCloser(io.LimitReader(body, smallBody+1))); !strings.Contains(text, codeBusy) {
		t.Errorf("a large body without a place: %d %s", status, text)
	}
}

// Of a job whose node is away only a cancel can be noted, and only of one that was submitted: to detach is not to cancel, and an app that was attached
// is its owner's to end.
func TestAJobThatWasAttachedIsNotCancelledWhileItsNodeIsAway(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, nil)
	a := c.nodes[0].agent
	put := func(id, name string, attached bool) {
		t.Helper()
		spec := qos.Spec{ID: id, Name: name, Framework: qos.Marathon, CPUs: 0.1, Submitted: time.Now(), QoS: qos.QoS{Duration: 1, Deadline: qos.Deadline{After: time.Minute}}}
		st := qos.Status{Phase: qos.PhaseRunning, Since: time.Now(), Owner: "away", Epoch: 1, Steward: qos.Stewardship{Attached: attached, Adopted: attached}}
		if _, err := a.cluster.mesh.Put(qos.Record{Spec: spec, Status: st}); err != nil {
			t.Fatal(err)
		}
	}
	put(idA, "/theirs", true)
	put(idB, "/ours", false)
	h := a.adminRoutes()
	for _, x := range []struct {
		method, path string
		want         int
		intent       qos.Intent
	}{
		{"DELETE", "/v1/jobs/" + idA, http.StatusConflict, qos.IntentNone},
		{"DELETE", "/v1/attach/" + idA, http.StatusConflict, qos.IntentNone},
		{"DELETE", "/v1/attach/" + idB, http.StatusConflict, qos.IntentNone},
		{"HEAD", "/v1/jobs/" + idB, http.StatusOK, qos.IntentNone},
		{"DELETE", "/v1/jobs/" + idB, http.StatusOK, qos.IntentCancel},
	} {
		status, body := ask(t, h, x.method, x.path, "", "")
		st, _ := c.nodes[0].shared(x.path[len(x.path)-len(idA):])
		if status != x.want || st.Intent != x.intent {
			t.Errorf("%s %s: %d, want %d, with intent %q, want %q: %s", x.method, x.path, status, x.want, st.Intent, x.intent, body)
		}
	}
}
