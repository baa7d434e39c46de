package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"qosctl/agent"
	"qosctl/agent/bundle/bundletest"
	"qosctl/agent/pki"
	"qosctl/agent/secretstest"
	"qosctl/monasca/monascatest"
)

// TestNoSecretIsTold plants a secret wherever one can come in, has two agents go through all of their routes with all kinds of credentials, and
// through errors of those that they talk to, at the log level debug, and finds none of the secrets in any answer, page, metric, log line,
// command line of a process, packet of gossip or of the peer API, or what commands print.
func TestNoSecretIsTold(t *testing.T) {
	p := newPlanted(t)
	p.submit()
	p.packets()
	p.requests()
	p.commands()
	p.exchangeKey()
	p.troubles()
	p.processes()
	p.logs()
}

// planted is a dev of two nodes with secrets in it.
type planted struct {
	*cluster
	secrets *secretstest.Secrets
	files   string
	listen  string
	ports   []string // of gossip and peers
	tenant  string   // token
	id      string   // of the job
	job     string   // its secret
	mean    atomic.Bool
	leave   func() []byte // ends the capture of packets
}

func newPlanted(t *testing.T) *planted {
	t.Helper()
	if !wanted() {
		t.Skip("end-to-end tests run as root with QOSCTL_E2E=1: make e2e")
	}
	p := &planted{secrets: secretstest.New(), files: t.TempDir(), listen: freeRange(t), ports: []string{freeRange(t), freeRange(t)}}
	keystone := httptest.NewServer(p.keystone())
	proxy := httptest.NewServer(p.framework())
	t.Cleanup(keystone.Close) // after the agents have ended
	t.Cleanup(proxy.Close)
	d, err := pki.Init(p.files, "planted", time.Hour, time.Now(), false)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := d.Issue(pki.Request{Role: pki.Server, Name: "server", IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, Life: time.Hour}, "", time.Now(), false)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(pair.KeyPEM), "\n") {
		if i == 1 || i == 2 {
			p.secrets.Add("the key of the network address", []byte(line))
		}
	}
	set := func(key, value string) []string { return []string{"--set", key + "=" + value} }
	args := slices.Concat(
		[]string{"--nodes", "2", "--cpus", "0.4", "--log-level", "debug", "--listen", p.listen, "--mesos", freeRange(t), "--mesos-master", freeAddr(t), "--gossip", p.ports[0], "--peer", p.ports[1]},
		set("log.level", "debug"), set("token_file", p.file("operator", p.secrets.Plant("an operator's token"))),
		set("tls.cert_file", filepath.Join(p.files, "server.crt")), set("tls.key_file", filepath.Join(p.files, "server.key")), set("tls.client_ca_file", filepath.Join(p.files, pki.CAFile)),
		set("mesos.master_username", "u"), set("mesos.master_password_file", p.file("master", p.secrets.Plant("the master's password"))),
		set("monasca.credentials_file", p.file("monasca", fmt.Sprintf(`{"keystone_url": %q, "monasca_client_url": %q, "username": "u", "password": %q, "project_name": "p"}`,
			keystone.URL, keystone.URL, p.secrets.Plant("Keystone's password")))),
		set("monasca.interval", "1s"),
		set("engine.docker_config", p.file("docker", `{"auths": {"registry.example": {"auth": "`+base64.StdEncoding.EncodeToString([]byte("u:"+p.secrets.Plant("the registry's password")))+`"}}}`)),
	)
	p.cluster = start(t, args...)
	p.until("the nodes see each other", 60*time.Second, func() bool {
		nodes, err := p.api.Nodes(t.Context())
		return err == nil && len(nodes.Nodes) == 2
	})
	key, err := os.ReadFile(filepath.Join(p.dir, "cluster.key"))
	if err != nil {
		t.Fatal(err)
	}
	p.key("the cluster's key", string(key))
	p.reconfigure(proxy.URL)
	return p
}

// file is a file with a secret.
func (p *planted) file(name, text string) string {
	path := filepath.Join(p.files, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		panic(err)
	}
	return path
}

// key remembers a cluster's key, as its file has it and as it is.
func (p *planted) key(name, text string) {
	p.t.Helper()
	text = strings.TrimSpace(text)
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		p.t.Fatal(err)
	}
	p.secrets.Add(name, raw)
	p.secrets.Add(name, []byte(text))
}

// keystone refuses every other login, and Monasca every figure, and both repeat all that they were sent.
func (p *planted) keystone() http.Handler {
	k, n := &monascatest.Keystone{User: "u", Project: "p", Roles: monascatest.User}, atomic.Int64{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := httputil.DumpRequest(r, true)
		if strings.HasSuffix(r.URL.Path, "/auth/tokens") && n.Add(1)%2 == 0 {
			var sent struct {
				Auth struct {
					Identity struct {
						Password struct{ User struct{ Password string } }
					}
				}
			}
			_, body, _ := bytes.Cut(text, []byte("\r\n\r\n"))
			_ = json.Unmarshal(body, &sent) // then it is refused
			k.Set(func(k *monascatest.Keystone) { k.Password = sent.Auth.Identity.Password.User.Password })
			r.Body = io.NopCloser(bytes.NewReader(body))
			k.ServeHTTP(w, r)
			p.secrets.Add("Keystone's token", []byte(w.Header().Get("X-Subject-Token")))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"code": 400, "title": "Bad Request", "message": "not this: " + string(text)}}) // it has gone
	})
}

// framework is Marathon, until it is to be mean: then it refuses everything, and repeats all that it was sent.
func (p *planted) framework() http.Handler {
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: p.marathon}) }}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.mean.Load() {
			text, _ := httputil.DumpRequest(r, true)
			w.WriteHeader([]int{400, 401, 422, 500, 503}[time.Now().UnixNano()%5])
			_ = json.NewEncoder(w).Encode(map[string]string{"message": "not this: " + string(text)}) // it has gone
			return
		}
		forward.ServeHTTP(w, r)
	})
}

// reconfigure gives the first node's agent a framework with a password, behind a proxy that is mean when it is told to, and a tenant.
func (p *planted) reconfigure(framework string) {
	p.t.Helper()
	path := filepath.Join(p.dir, "agent.yaml")
	text, err := os.ReadFile(path)
	config := map[string]any{}
	if err == nil {
		err = yaml.Unmarshal(text, config)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.tenant = p.secrets.Plant("a tenant's token")
	config["access"].(map[string]any)["tokens"] = map[string]any{"team": map[string]any{"hash": agent.HashToken(p.tenant), "tenant": "/team"}}
	marathon := config["frameworks"].(map[string]any)["marathon"].(map[string]any)
	marathon["urls"], marathon["username"], marathon["password_file"] = []string{framework}, "u", p.file("framework", p.secrets.Plant("the framework's password"))
	if text, err = yaml.Marshal(config); err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	begun := findAgent(path)
	if err := syscall.Kill(begun, syscall.SIGKILL); begun == 0 || err != nil {
		p.t.Fatalf("the first node's agent, process %d: %v", begun, err)
	}
	p.until("it runs with the new configuration", 30*time.Second, func() bool {
		n, err := p.api.Node(p.t.Context())
		return err == nil && n.Frameworks["marathon"] == "answers" && p.api.Ready(p.t.Context()) == nil && findAgent(path) != begun
	})
}

// submit hands a job in whose environment has a secret, and some that are refused.
func (p *planted) submit() {
	p.t.Helper()
	file := marathonJob("/team/planted")
	file["cmd"] = "while :; do sleep 1; done"
	file["env"] = map[string]any{"DB_PASSWORD": p.secrets.Plant("a job's environment")}
	file["labels"] = map[string]any{"owner": "team"}
	p.id = p.cluster.submit(write(p.t, file))
	p.until("the job runs", 60*time.Second, func() bool { return p.cluster.job(p.id).Phase == "Running" })
	var app struct {
		App struct{ Env map[string]string }
	}
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://"+p.marathon+"/v2/apps//team/planted", http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	err = json.NewDecoder(resp.Body).Decode(&app)
	if p.job = app.App.Env["QOSCTL_SECRET"]; err != nil || len(p.job) < 12 {
		p.t.Fatalf("the job's secret in Marathon: %v, %v", app, err)
	}
	p.secrets.Add("a job's secret", []byte(p.job))
	for what, change := range map[string]func(map[string]any, string){
		"a fault's env":   func(f map[string]any, s string) { f["env"] = map[string]any{"X": []string{s}} },
		"a fault's field": func(f map[string]any, s string) { f["passphrase"] = s },
		"a fault's URI":   func(f map[string]any, s string) { f["uris"] = []string{"ht tp://u:" + s + "@h"} },
		"a fault's parameter": func(f map[string]any, s string) {
			f["container"] = map[string]any{"type": "DOCKER", "docker": map[string]any{"image": "x", "parameters": []any{map[string]any{"key": "env", "value": s, "x": s}}}}
		},
		"a fault's secrets": func(f map[string]any, s string) { f["secrets"] = map[string]any{"x": map[string]any{"source": s}} },
		"a fault's credential": func(f map[string]any, s string) {
			f["container"] = map[string]any{"type": "DOCKER", "docker": map[string]any{"image": "x", "pullConfig": map[string]any{"secret": s}}}
		},
	} {
		f := marathonJob("/team/faulty")
		change(f, p.secrets.Plant(what))
		for _, verb := range []string{"validate", "submit"} {
			code, out, errs := p.qosctl(verb, write(p.t, f))
			p.secrets.Check(p.t, fmt.Sprintf("qosctl %s (exit %d) of %s", verb, code, what), []byte(out+errs))
		}
	}
}

// troubles has the framework refuse everything for some time.
func (p *planted) troubles() {
	p.t.Helper()
	p.mean.Store(true)
	file := marathonJob("/team/refused")
	file["env"] = map[string]any{"X": p.secrets.Plant("a refused job's environment")}
	repeated := 0
	for range 5 {
		_, out, errs := p.qosctl("submit", write(p.t, file))
		repeated += strings.Count(errs, "not this")
		p.secrets.Check(p.t, "qosctl submit, refused", []byte(out+errs))
		_, out, errs = p.qosctl("doctor", "-o", "json")
		p.secrets.Check(p.t, "qosctl doctor, with a mean framework", []byte(out+errs))
	}
	if repeated == 0 {
		p.t.Error("the framework's words are not shown: what is looked for was not tried")
	}
	p.requests()
	p.mean.Store(false)
	_, out, errs := p.qosctl("cancel", p.id)
	p.secrets.Check(p.t, "qosctl cancel", []byte(out+errs))
}

// exchangeKey has both nodes take a key of ours.
func (p *planted) exchangeKey() {
	p.t.Helper()
	key := base64.StdEncoding.EncodeToString([]byte(p.secrets.Plant("a further key")[:16] + p.secrets.Plant("the rest of it")[:16]))
	p.key("a further key", key)
	file := p.file("further", key+"\n")
	for _, args := range [][]string{{"keyring", "add", "--file", file}, {"keyring", "list", "-o", "json"}, {"keyring", "add", "--file", p.file("broken", key[:30]+"\n")}} {
		_, out, errs := p.qosctl(args...)
		p.secrets.Check(p.t, strings.Join(args[:2], " "), []byte(out+errs))
	}
}

// commands prints all that commands tell.
func (p *planted) commands() {
	p.t.Helper()
	config, archive := filepath.Join(p.dir, "agent.yaml"), filepath.Join(p.files, "bundle.tar.gz")
	for _, args := range [][]string{
		{"debug", "bundle", "-o", archive, "--config", config},
		{"jobs", "--all", "-o", "json"},
		{"status", p.id, "-o", "json"},
		{"explain", p.id},
		{"usage", "-o", "json"},
		{"nodes", "-o", "json"},
		{"keyring", "list"},
		{"doctor"},
		{"config", "show", "--config", config},
		{"config", "check", config},
		{"config", "check", filepath.Join(p.files, "operator")},
		{"keyring", "add", "--file", filepath.Join(p.files, "framework")},
		{"config", "check", filepath.Join(p.files, "monasca")},
		{"config", "check", filepath.Join(p.files, "server.key")},
		{"tls", "show", filepath.Join(p.files, "server.key")},
		{"validate", filepath.Join(p.files, "monasca")},
		{"checkpoints", "-o", "json"},
		{"hold"},
		{"jobs", "--agent", "https://" + p.listen, "--ca", filepath.Join(p.files, pki.CAFile), "--token-file", filepath.Join(p.files, "framework")},
		{"jobs", "--agent", "https://" + p.listen, "--token-file", filepath.Join(p.files, "operator")},
		{"jobs", "--agent", "https://" + p.listen, "--ca", filepath.Join(p.files, pki.CAFile), "--cert", filepath.Join(p.files, "server.key"), "--key", filepath.Join(p.files, "operator")},
		{"tls", "issue", "x", "--operator", "--dir", p.files},
		{"tls", "rotate", "--dir", p.files},
	} {
		code, out, errs := p.qosctl(args...)
		if out+errs == "" && args[0] != "config" {
			p.t.Errorf("qosctl %s prints nothing", strings.Join(args, " "))
		}
		p.secrets.Check(p.t, fmt.Sprintf("qosctl %s (exit %d)", strings.Join(args, " "), code), []byte(out+errs))
	}
	p.bundle(archive)
}

// bundle looks into a debug bundle.
func (p *planted) bundle(archive string) {
	p.t.Helper()
	files := bundletest.Open(p.t, archive)
	for _, want := range []string{"config.yaml", "doctor.json", "jobs.json", "metrics.txt", "goroutines.txt", "explain/" + p.id + ".json", "manifest.json"} {
		if len(files[want]) == 0 {
			p.t.Errorf("the debug bundle has no %s: what is looked for was not tried", want)
		}
	}
	for name, text := range files {
		p.secrets.Check(p.t, name+" of the debug bundle", text)
	}
}

// processes looks at the command lines of all processes but those of this test.
func (p *planted) processes() {
	p.t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		p.t.Fatal(err)
	}
	for _, l := range lines {
		text, err := os.ReadFile(l)
		if err == nil { // it has ended
			p.secrets.Check(p.t, "the command line of "+string(bytes.ReplaceAll(text, []byte{0}, []byte{' '})[:min(len(text), 40)]), text)
		}
	}
}

// logs looks at what agents and scheduler have logged, and at what went between the agents.
func (p *planted) logs() {
	p.t.Helper()
	seen := p.leave()
	if len(seen) < 1000 {
		p.t.Errorf("only %d bytes were seen between the agents", len(seen))
	}
	p.secrets.Check(p.t, "a packet between the agents", seen)
	text, err := os.ReadFile(p.log.Name())
	if err != nil {
		p.t.Fatal(err)
	}
	for _, want := range []string{"level=DEBUG", "msg=audit", "not this"} {
		if !bytes.Contains(text, []byte(want)) {
			p.t.Errorf("the log lacks %q: what is looked for was not tried", want)
		}
	}
	for line := range bytes.Lines(text) {
		if names := p.secrets.Find(line); len(names) > 0 {
			p.t.Errorf("the log tells %v: %s", names, mask(line))
		}
	}
}

// mask shortens a line that has a secret in it.
func mask(line []byte) []byte { return line[:min(len(line), 120)] }
