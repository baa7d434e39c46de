package agent

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"qosctl/agent/api"
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
