package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"qosctl/agent/api"
)

const (
	operatorToken = "the-operators-token-0123"
	teamToken     = "the-teams-token-01234567"
	otherToken    = "the-others-token-0123456"
)

// guarded is a node with a job of /team's, asked over the network; reads is access.reads.
func guarded(t *testing.T, reads string) (*node, http.Handler) {
	t.Helper()
	n := testNode(t, func(c *Config) {
		c.Access.Reads, c.Access.Hosts = reads, []string{"qosctl.example"}
		c.Access.Tokens = map[string]TokenConfig{
			"root":  {Hash: HashToken(operatorToken), Operator: true},
			"team":  {Hash: HashToken(teamToken), Tenant: "/team"},
			"other": {Hash: HashToken(otherToken), Tenant: "/tea"},
		}
	})
	n.agent.front = testFront(t)
	n.submit(idA, `{"id":"/team/sub/job","cmd":"sleep 1","cpus":0.1,"mem":32,"qos":{"duration":1,"desv_deadline":0.1,"deadline":60}}`)
	return n, n.agent.audited("network", n.agent.guard(n.agent.adminRoutes()))
}

// ask sends a request to a handler as the network brings it.
func ask(t *testing.T, h http.Handler, method, path, token string, body string, headers ...string) (int, string) {
	t.Helper()
	return askWith(t, h, method, path, credential{token: token}, body, headers...)
}

// credential is what a client shows of itself.
type credential struct {
	token string
	cert  *x509.Certificate
}

// askWith is ask with any credential.
func askWith(t *testing.T, h http.Handler, method, path string, who credential, body string, headers ...string) (int, string) {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:30000"
	if who.token != "" {
		r.Header.Set("Authorization", "Bearer "+who.token)
	}
	if who.cert != nil {
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{who.cert}}
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(listener{w, leave}, r)
	return w.Code, w.Body.String()
}

// listener leaves a stream of events after the first one.
type listener struct {
	*httptest.ResponseRecorder
	leave func()
}

func (l listener) Flush() {
	l.ResponseRecorder.Flush()
	if strings.HasPrefix(l.Header().Get("Content-Type"), "text/event-stream") {
		l.leave()
	}
}

// endpoint is one route, and what it answers over the network: any says that some other refusal than 403 is right too.
type endpointCase struct {
	route, path          string
	tenant               bool // a tenant may, of its own jobs
	mutates, open, stays bool // stays: operators too get an error here, which is not about rights
}

var endpoints = []endpointCase{
	{route: "POST /v1/jobs", path: "/v1/jobs", tenant: true, mutates: true, stays: true},
	{route: "GET /v1/jobs", path: "/v1/jobs", tenant: true},
	{route: "GET /v1/jobs/{job}", path: "/v1/jobs/" + idA, tenant: true},
	{route: "DELETE /v1/jobs/{job}", path: "/v1/jobs/" + idA, tenant: true, mutates: true},
	{route: "GET /v1/jobs/{job}/explain", path: "/v1/jobs/" + idA + "/explain", tenant: true},
	{route: "GET /v1/jobs/{job}/history", path: "/v1/jobs/" + idA + "/history", tenant: true},
	{route: "GET /v1/jobs/{job}/events", path: "/v1/jobs/" + idA + "/events", tenant: true},
	{route: "GET /v1/events", path: "/v1/events"},
	{route: "GET /v1/targets", path: "/v1/targets"},
	{route: "GET /v1/usage", path: "/v1/usage"},
	{route: "GET /v1/jobs/{job}/logs", path: "/v1/jobs/" + idA + "/logs", tenant: true},
	{route: "POST /v1/jobs/{job}/checkpoints", path: "/v1/jobs/" + idA + "/checkpoints", tenant: true, mutates: true, stays: true},
	{route: "POST /v1/jobs/{job}/restore", path: "/v1/jobs/" + idA + "/restore", tenant: true, mutates: true, stays: true},
	{route: "POST /v1/jobs/{job}/migrate", path: "/v1/jobs/" + idA + "/migrate", tenant: true, mutates: true, stays: true},
	{route: "GET /v1/checkpoints", path: "/v1/checkpoints"},
	{route: "DELETE /v1/checkpoints", path: "/v1/checkpoints?job=" + idA + "&sequence=1", mutates: true, stays: true},
	{route: "GET /v1/doctor", path: "/v1/doctor", mutates: true, stays: true}, // for operators, as what changes something
	{route: "POST /v1/doctor", path: "/v1/doctor", mutates: true, stays: true},
	{route: "POST /v1/attach", path: "/v1/attach", mutates: true, stays: true},
	{route: "DELETE /v1/attach/{job}", path: "/v1/attach/" + idA, mutates: true, stays: true},
	{route: "GET /v1/node", path: "/v1/node"},
	{route: "GET /v1/nodes", path: "/v1/nodes"},
	{route: "POST /v1/drain", path: "/v1/drain", mutates: true, stays: true},
	{route: "GET /v1/drain/{node}", path: "/v1/drain/here", stays: true},
	{route: "GET /v1/keyring", path: "/v1/keyring", stays: true},
	{route: "POST /v1/keyring", path: "/v1/keyring", mutates: true, stays: true},
	{route: "GET /v1/hold", path: "/v1/hold", stays: true},
	{route: "POST /v1/hold", path: "/v1/hold", mutates: true, stays: true},
	{route: "GET /v1/health", path: "/v1/health", tenant: true, open: true},
	{route: "GET /v1/ready", path: "/v1/ready", tenant: true, open: true},
	{route: "GET /metrics", path: "/metrics"},
	{route: "GET /v1/debug/state", path: "/v1/debug/state", stays: true}, // not there over the network
	{route: "GET /v1/debug/config", path: "/v1/debug/config", stays: true},
	{route: "GET /v1/debug/pprof/{profile}", path: "/v1/debug/pprof/heap", stays: true},
}

// Each route without, with a wrong, with another tenant's, with its tenant's and with an operator's token and certificate, with reading open
// and closed.
func TestEveryEndpointWithEveryCredential(t *testing.T) {
	t.Parallel()
	for _, reads := range []string{readsOpen, readsToken} {
		n, _ := guarded(t, reads)
		certs := testCerts(t, n.agent.front)
		for _, e := range append(slices.Clone(endpoints), pageCase) {
			h := n.agent.audited("network", n.agent.guard(n.agent.adminRoutes())) // with bounds of its own
			method, _, _ := strings.Cut(e.route, " ")
			about := strings.Contains(e.path, idA) && e.tenant
			for _, c := range []struct {
				who    string
				with   credential
				may    bool
				hidden bool // answered as a job that is not there
			}{
				{"nobody", credential{}, e.open || !e.mutates && reads == readsOpen, false},
				{"a wrong token", credential{token: "not-a-token-of-this-agent"}, false, false},
				{"a wrong token with an operator's certificate", credential{token: "not-a-token-of-this-agent", cert: certs["alice"]}, false, false},
				{"a certificate of another authority", credential{cert: certs["stranger"]}, false, false},
				{"a node's certificate", credential{cert: certs["node"]}, false, false},
				{"a server's certificate", credential{cert: certs["server"]}, false, false},
				{"a revoked certificate", credential{cert: certs["revoked"]}, false, false},
				{"an old certificate", credential{cert: certs["old"]}, false, false},
				{"another tenant", credential{token: otherToken}, e.tenant, about},
				{"another tenant's certificate", credential{cert: certs["other"]}, e.tenant, about},
				{"the tenant", credential{token: teamToken}, e.tenant, false},
				{"the tenant's certificate", credential{cert: certs["team"]}, e.tenant, false},
				{"an operator's certificate", credential{cert: certs["alice"]}, true, false},
				{"an operator", credential{token: operatorToken}, true, false},
			} {
				if method == http.MethodDelete && c.may && !c.hidden && c.who != "an operator" {
					continue // it would end the job for those behind it
				}
				status, body := askWith(t, h, method, e.path, c.with, "")
				forbidden := status == http.StatusForbidden
				switch {
				case c.hidden && status != http.StatusNotFound:
					t.Errorf("reads %s: %s by %s: %d, want 404: %s", reads, e.route, c.who, status, body)
				case !c.hidden && forbidden == c.may:
					t.Errorf("reads %s: %s by %s: %d: %s", reads, e.route, c.who, status, body)
				case c.may && !c.hidden && !e.stays && status >= 300:
					t.Errorf("reads %s: %s by %s: %d: %s", reads, e.route, c.who, status, body)
				}
				if strings.Contains(body, c.with.token) && c.with.token != "" {
					t.Errorf("%s by %s repeats the token: %s", e.route, c.who, body)
				}
			}
		}
	}
}

// The page has no rows in the table of the document: what it needs are files of one directory.
var pageCase = endpointCase{route: "GET /", path: "/"}

// A tenant's list has its jobs alone, and it can neither submit for others nor take a name, or an id, that is theirs.
func TestATenantSeesAndChangesOnlyItsOwn(t *testing.T) {
	t.Parallel()
	n, h := guarded(t, readsToken)
	submit := func(token, id, name string, replace bool) (int, string) {
		t.Helper()
		file := `{"id":"` + name + `","cmd":"true","cpus":0.1,"mem":32,"qos":{"duration":1,"desv_deadline":0.1,"deadline":60}}`
		b, err := json.Marshal(api.SubmitRequest{ID: id, File: json.RawMessage(file), Replace: replace})
		if err != nil {
			t.Fatal(err)
		}
		return ask(t, h, "POST", "/v1/jobs", token, string(b))
	}
	for _, c := range []struct {
		token string
		want  int
	}{{teamToken, 1}, {otherToken, 0}, {operatorToken, 1}} {
		var list api.JobList
		if status, body := ask(t, h, "GET", "/v1/jobs?all=true", c.token, ""); status != 200 || json.Unmarshal([]byte(body), &list) != nil || len(list.Jobs) != c.want {
			t.Errorf("token %s lists %s, want %d job(s)", c.token, body, c.want)
		}
	}
	for _, c := range []struct {
		what, token, id, name string
		replace               bool
		status                int
	}{
		{"into another's group", otherToken, idB, "/team/x", false, 403},
		{"into the root group", otherToken, idB, "/x", false, 403},
		{"another's id", otherToken, idA, "/tea/x", false, 409},
		{"another's name", otherToken, idB, "/team/sub/job", true, 403},
		{"into its own", otherToken, idB, "/tea/x", false, 201},
	} {
		if status, body := submit(c.token, c.id, c.name, c.replace); status != c.status || strings.Contains(body, "/team/sub") && c.id == idA {
			t.Errorf("%s: %d %s, want %d", c.what, status, body, c.status)
		}
	}
	for ref, want := range map[string]int{"0000": 404, idA: 404, idB: 200} { // both begin so
		if status, body := ask(t, h, "GET", "/v1/jobs/"+ref, otherToken, ""); status != want {
			t.Errorf("asked for %s: %d %s, want %d", ref, status, body, want)
		}
	}
	if n.agent.jobs.get(idA).status().Phase.Terminal() {
		t.Error("the team's job was ended")
	}
}

// What a page of another site can have a browser send is refused, reading too.
func TestRequestsFromOtherSitesAreRefused(t *testing.T) {
	t.Parallel()
	_, h := guarded(t, readsOpen)
	for _, c := range []struct {
		name    string
		headers []string
		status  int
	}{
		{"by address", []string{"Host", "192.0.2.7:30000"}, 200},
		{"by address of version 6", []string{"Host", "[2001:db8::1]:30000"}, 200},
		{"by a name of ours", []string{"Host", "QOSCTL.example:30000"}, 200},
		{"by another's name", []string{"Host", "evil.example:30000"}, 403},
		{"by a name that begins like ours", []string{"Host", "qosctl.example.evil.example"}, 403},
		{"without a name", []string{"Host", ""}, 403},
		{"from our page", []string{"Origin", "http://127.0.0.1:30000", "Sec-Fetch-Site", "same-origin"}, 200},
		{"from another page", []string{"Origin", "http://evil.example"}, 403},
		{"from a sandboxed page", []string{"Origin", "null"}, 403},
		{"from another page of the same port", []string{"Origin", "http://evil.example:30000"}, 403},
		{"by a link of another site", []string{"Sec-Fetch-Site", "cross-site"}, 403},
	} {
		if status, body := ask(t, h, "GET", "/v1/jobs", "", "", c.headers...); status != c.status {
			t.Errorf("%s: %d %s, want %d", c.name, status, body, c.status)
		}
		if status, _ := ask(t, h, "DELETE", "/v1/jobs/none", operatorToken, "", c.headers...); (status == 403) != (c.status == 403) {
			t.Errorf("%s, changing with an operator's token: %d", c.name, status)
		}
	}
	if status, _ := ask(t, h, "GET", "/v1/jobs", "", "", forwardedHeader, "peer"); status != 200 {
		t.Errorf("a peer's header from the network: %d", status)
	}
}

func TestTheAuditSaysWhoAndWhatAndNoSecret(t *testing.T) {
	t.Parallel()
	n, _ := guarded(t, readsOpen)
	var log bytes.Buffer
	n.agent.log = slog.New(slog.NewTextHandler(&log, nil))
	h := n.agent.audited("network", n.agent.guard(n.agent.adminRoutes()))
	ask(t, h, "GET", "/v1/jobs", teamToken, "")
	ask(t, h, "DELETE", "/v1/jobs/none", teamToken, "")
	ask(t, h, "POST", "/v1/drain", "", `{"secret":"in-a-body"}`)
	ask(t, h, "POST", "/v1/hold", teamToken, "")
	text := log.String()
	if strings.Count(text, "msg=audit") != 3 {
		t.Errorf("audited: %s", text)
	}
	for _, want := range []string{"token=team method=DELETE path=/v1/jobs/none status=404", `token="" method=POST path=/v1/drain status=403`, "token=team method=POST path=/v1/hold status=403", "level=WARN"} {
		if !strings.Contains(text, want) {
			t.Errorf("the audit lacks %q: %s", want, text)
		}
	}
	for _, secret := range []string{teamToken, HashToken(teamToken), "in-a-body"} {
		if strings.Contains(text, secret) {
			t.Errorf("the audit has %q: %s", secret, text)
		}
	}
}

// A flood of strangers' requests leaves some lines, and how many were left out.
func TestStrangersDoNotFillTheLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r refused
		logged := 0
		for range 1000 {
			if r.note() >= 0 {
				logged++
			}
		}
		time.Sleep(strangersTime + 1)
		if left := r.note(); logged != strangersEach || left != 1000-strangersEach {
			t.Errorf("%d logged, %d left out", logged, left)
		}
		if left := r.note(); left != 0 {
			t.Errorf("%d left out once more", left)
		}
	})
}

func TestRatesAreBounded(t *testing.T) {
	t.Parallel()
	r := newRates(perSecond, burst)
	allowed := 0
	for range 2 * burst {
		if r.allow("192.0.2.1") {
			allowed++
		}
	}
	if allowed < burst || allowed == 2*burst {
		t.Errorf("%d of %d allowed", allowed, 2*burst)
	}
	if !r.allow("192.0.2.2") {
		t.Error("another address suffers")
	}
	for i := range 3 * maxClients {
		r.allow(net.IPv4(10, byte(i>>16), byte(i>>8), byte(i)).String())
	}
	if len(r.by) > maxClients {
		t.Errorf("%d addresses are remembered", len(r.by))
	}
	_, h := guarded(t, readsOpen)
	for range 2 * burst {
		if status, body := ask(t, h, "GET", "/v1/health", "", ""); status == http.StatusTooManyRequests {
			if !strings.Contains(body, codeBusy) {
				t.Errorf("answered %s", body)
			}
			return
		}
	}
	t.Error("the guard bounds nothing")
}

func TestFaultyTokensAreNamed(t *testing.T) {
	t.Parallel()
	c := Default()
	c.Access = AccessConfig{Reads: "some", Hosts: []string{"a b"}, Tokens: map[string]TokenConfig{
		"a": {Hash: "1234", Operator: true},
		"b": {Hash: HashToken("x")},
		"c": {Hash: HashToken("y"), Operator: true, Tenant: "/t"},
		"d": {Hash: HashToken("z"), Tenant: "/t"},
		"e": {Hash: HashToken("z"), Tenant: "/u"},
		"f": {Hash: hashPrefix + strings.ToUpper(strings.TrimPrefix(HashToken("z"), hashPrefix)), Operator: true},
	}}
	err := c.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"access.reads:", "access.hosts:", "access.tokens.a.hash:", "access.tokens.b: must have either", "access.tokens.c: must have either", "access.tokens.e.hash: is that of d", "access.tokens.f.hash: is that of "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %s", want, err)
		}
	}
	if strings.Contains(err.Error(), "tokens.d") {
		t.Errorf("d is right: %s", err)
	}
	parsed, err := Parse([]byte("access: {tokens: {team-a.1: {hash: \""+HashToken("x")+"\", tenant: /t}}}"), nil)
	if err != nil || parsed.Access.Tokens["team-a.1"].Tenant != "/t" || parsed.Validate() != nil {
		t.Errorf("%+v, %v", parsed.Access, err)
	}
	if text, err := parsed.YAML(); err != nil || !strings.Contains(string(text), "team-a.1:") {
		t.Errorf("shown: %s, %v", text, err)
	}
}
