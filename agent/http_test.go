package agent

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"qosctl/agent/api"
	"qosctl/qos"
)

// request sends one request to a handler and decodes the error that it answers.
func request(t *testing.T, h http.Handler, method, path, token string, body []byte) (int, api.Error) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, bytes.NewReader(body))
	r.Host = "localhost"
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var e api.Error
	if w.Code >= 400 {
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Status != w.Code || e.Code == "" || e.Text == "" {
			t.Errorf("%s %s: %d with body %q is no api.Error (%v)", method, path, w.Code, w.Body, err)
		}
	}
	return w.Code, e
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, `{"id":"/taken","cmd":"sleep 1","cpus":0.1,"mem":32,"qos":{"duration":1,"desv_deadline":0.1,"deadline":60}}`)
	admin, standin := n.agent.adminRoutes(), n.agent.standinRoutes()
	post := func(file string) []byte {
		b, err := json.Marshal(api.SubmitRequest{ID: idB, File: json.RawMessage(file)})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := `{"id":"%","cmd":"true","cpus":0.1,"mem":32,"qos":{"duration":1,"desv_deadline":0.1,"deadline":60}}`
	for _, c := range []struct {
		name         string
		h            http.Handler
		method, path string
		body         []byte
		status       int
		code, says   string
	}{
		{"not json", admin, "POST", "/v1/jobs", []byte("{"), 422, codeInvalid, "body"},
		{"too large", admin, "POST", "/v1/jobs", bytes.Repeat([]byte(" "), maxBody+1), 422, codeInvalid, "larger than"},
		{"no uuid", admin, "POST", "/v1/jobs", []byte(`{"id":"x","file":{}}`), 422, codeInvalid, "UUID"},
		{"bad file", admin, "POST", "/v1/jobs", post(`{"id":"/x","cmd":"true","qos":{"duration":-1}}`), 422, codeInvalid, "problem"},
		{"name taken", admin, "POST", "/v1/jobs", post(strings.Replace(good, "%", "/taken", 1)), 409, codeExists, "/taken"},
		{"unknown image", admin, "POST", "/v1/jobs", post(strings.Replace(strings.Replace(good, "%", "/img", 1), `"mem"`, `"container":{"type":"DOCKER","docker":{"image":"who/knows"}},"mem"`, 1)), 422, codeInvalid, "who/knows"},
		{"unknown policy", admin, "POST", "/v1/jobs", post(strings.Replace(strings.Replace(good, "%", "/pol", 1), `"duration"`, `"policy":"magic","duration"`, 1)), 422, codeInvalid, ""},
		{"a checkpoint for a long reason", admin, "POST", "/v1/jobs/" + idA + "/checkpoints", []byte(`{"reason":"` + strings.Repeat("x", maxReason+1) + `"}`), 422, codeInvalid, "reason"},
		{"a move for a long reason", admin, "POST", "/v1/jobs/" + idA + "/migrate", []byte(`{"reason":"` + strings.Repeat("x", maxReason+1) + `"}`), 422, codeInvalid, "reason"},
		{"a drain for a long reason", admin, "POST", "/v1/drain", []byte(`{"node":"x","reason":"` + strings.Repeat("x", maxReason+1) + `"}`), 422, codeInvalid, "reason"},
		{"a hold for a long reason", admin, "POST", "/v1/hold", []byte(`{"all":true,"on":true,"reason":"` + strings.Repeat("x", maxReason+1) + `"}`), 422, codeInvalid, "reason"},
		{"no such job", admin, "GET", "/v1/jobs/nobody", nil, 404, codeNotFound, "nobody"},
		{"bad wait", admin, "GET", "/v1/jobs/" + idA + "?wait=soon&since=1", nil, 422, codeInvalid, "since"},
		{"bad cursor", admin, "GET", "/v1/jobs/" + idA + "/logs?cursor=x", nil, 422, codeInvalid, "cursor"},
		{"bad stream", admin, "GET", "/v1/jobs/" + idA + "/logs?stream=stdlog", nil, 422, codeInvalid, "stdlog"},
		{"no route", admin, "GET", "/v1/nothing", nil, 404, codeNotFound, "/v1/nothing"},
		{"admin's route on the stand-ins' socket", standin, "GET", "/v1/jobs", nil, 404, codeNotFound, "/v1/jobs"},
		{"claim without the secret", standin, "POST", "/v1/standin/" + idA + "/claim", []byte(`{"task":"t"}`), 403, codeForbidden, "secret"},
		{"claim of a job that is not there", standin, "POST", "/v1/standin/" + idB + "/claim", []byte(`{"task":"t"}`), 403, codeForbidden, "secret"},
		{"output without the secret", standin, "GET", "/v1/standin/" + idA + "/output?task=t", nil, 403, codeForbidden, "secret"},
		{"detach of what was not attached", admin, "DELETE", "/v1/attach/" + idA, nil, 409, codeConflict, "attached"},
		{"attach without a Mesos agent", admin, "POST", "/v1/attach", []byte(`{"id":"` + idB + `","framework":"marathon","name":"/x"}`), 422, codeInvalid, "Mesos"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, e := request(t, c.h, c.method, c.path, "", c.body)
			if status != c.status || e.Code != c.code || !strings.Contains(e.Text, c.says) {
				t.Errorf("%d %+v, want %d %s with %q", status, e, c.status, c.code, c.says)
			}
		})
	}
	if list := n.agent.jobs.all(); len(list) != 1 {
		t.Errorf("refused submissions left %d jobs behind", len(list)-1)
	}
}

func TestNetworkReadsButDoesNotWriteWithoutTheToken(t *testing.T) {
	t.Parallel()
	n := testNode(t, func(c *Config) {
		c.TokenFile = filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(c.TokenFile, []byte("0123456789abcdef0123\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	h := n.agent.guard(n.agent.adminRoutes())
	for _, c := range []struct {
		method, path, token string
		status              int
	}{
		{"GET", "/v1/jobs", "", 200},
		{"GET", "/metrics", "", 200},
		{"POST", "/v1/jobs", "", 403},
		{"POST", "/v1/jobs", "wrong", 403},
		{"DELETE", "/v1/jobs/x", "", 403},
		{"DELETE", "/v1/jobs/x", "0123456789abcdef0123", 404},
	} {
		if status, _ := request(t, h, c.method, c.path, c.token, nil); status != c.status {
			t.Errorf("%s %s with token %q: %d, want %d", c.method, c.path, c.token, status, c.status)
		}
	}
}

func TestMetricsFollowTheConventions(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, `{"id":"/m","cmd":"while :; do :; done","cpus":0.2,"mem":32,"qos":{"duration":100,"desv_deadline":0.1,"deadline":600}}`)
	n.claim(idA, "t1")
	n.await(idA, "decided about", func(j api.Job) bool { return j.State != "" && j.Consumed > 0 })
	n.agent.publish(n.agent.started)
	problems, err := testutil.GatherAndLint(n.agent.metrics.registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
	w := httptest.NewRecorder()
	n.agent.adminRoutes().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	page, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"qosctl_job_progress_ratio{", "qosctl_job_allocation_cpus{", "qosctl_node_headroom_cpus ", `qosctl_build_info{version="test"} 1`, `state="`} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

func TestRefusalByTheFrameworkUndoesTheRegistration(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.port.fail = refuse(codeFramework, "answered 422")
	_, err := n.client().Submit(t.Context(), api.SubmitRequest{ID: idA, File: json.RawMessage(`{"id":"/no","cmd":"true","cpus":0.1,"mem":32,"qos":{"duration":1,"desv_deadline":0.1,"deadline":60}}`)})
	if err == nil || !strings.Contains(err.Error(), "answered 422") {
		t.Errorf("error %v", err)
	}
	if rows, _, err := n.agent.store.rows(); err != nil || len(rows) != 0 || len(n.agent.jobs.all()) != 0 {
		t.Errorf("left behind: %d rows, %v", len(rows), err)
	}
	if n.agent.jobs.named(qos.Marathon, "/no") != nil {
		t.Error("the name is still taken")
	}
}
