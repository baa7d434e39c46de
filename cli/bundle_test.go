package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"qosctl/agent"
	"qosctl/agent/bundle/bundletest"
	"qosctl/gossip"
)

// tellingMarathon takes every app, and repeats in its errors what it was sent.
func tellingMarathon(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.Method == http.MethodPost && r.URL.Path == "/v2/apps":
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write(body)
		case r.URL.Path == "/v2/info":
			_, _ = io.WriteString(w, `{"name":"marathon","version":"1.11.0"}`)
		case r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/v2/apps/"):
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"message":"App '`+strings.TrimPrefix(r.URL.Path, "/v2/apps")+`' does not exist"}`)
		default:
			w.WriteHeader(http.StatusInternalServerError)
			_ = json.NewEncoder(w).Encode(map[string]string{"message": "I was sent " + r.Header.Get("Authorization")})
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// planted are secrets, each where it belongs.
var planted = map[string]string{
	"a token": "planted-token-0123456789", "a password": "planted-pass/word+", "a value of a job's environment": "planted-env-value", "a key of the cluster": gossip.NewKey(),
	"a password for registries": "planted-registry",
}

// furnished writes an agent's configuration with the planted secrets.
func furnished(t *testing.T, dir, marathon string) string {
	t.Helper()
	text, err := json.Marshal(map[string]string{"url": marathon, "user": "u", "password": planted["a password"]})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"token": planted["a token"], "cred.json": string(text), "cluster.key": planted["a key of the cluster"],
		"hub.json": `{"auths":{"hub.example":{"auth":"dTpwbGFudGVkLXJlZ2lzdHJ5"}}}`,
		"agent.yaml": `
node: n1
data_dir: ` + dir + `/data
run_dir: ` + dir + `/run
listen: ""
token_file: ` + dir + `/token
engine: {docker: "", docker_config: ` + dir + `/hub.json}
mesos: {url: ""}
cgroup: {parent: /qosctl-test-bundle-` + filepath.Base(dir) + `}
frameworks: {main: {type: marathon, credentials_file: ` + dir + `/cred.json}}
cluster: {key_file: ` + dir + `/cluster.key, bind: "127.0.0.1:0", peer: "127.0.0.1:0"}
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "agent.yaml")
}

// runAgentOf runs an agent until the test ends, and returns when it answers.
func runAgentOf(t *testing.T, file string) {
	t.Helper()
	cfg, err := agent.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.Cgroup.Check(); err != nil {
		t.Skipf("needs write access to cgroups (run as root): %v", err)
	}
	ready := make(chan struct{})
	node, err := agent.New(agent.Options{Config: cfg, Version: Version(), Logger: slog.New(slog.DiscardHandler), Ready: sync.OnceFunc(func() { close(ready) }), File: file})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-ended, cfg.Cgroup.Clear(context.WithoutCancel(t.Context()))); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case <-time.After(time.Minute):
		t.Fatal("the agent is not ready")
	}
}

// TestADebugBundleHasEverythingButSecrets makes one of a real agent whose secrets are planted, and whose framework repeats them.
func TestADebugBundleHasEverythingButSecrets(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "qb") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	config := furnished(t, dir, tellingMarathon(t))
	runAgentOf(t, config)
	var out bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &out, err: &out, environ: []string{"QOSCTL_AGENT=" + filepath.Join(dir, "run/qosctl.sock")}}
	job := filepath.Join(dir, "job.json")
	text := `{"id":"/planted","cmd":"sleep 1","cpus":0.1,"mem":32,"env":{"DB_PASS":"` + planted["a value of a job's environment"] + `"},"qos":{"duration":1,"desv_deadline":0.1,"deadline":60}}`
	if err := os.WriteFile(job, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := a.main(t.Context(), []string{"submit", job}); code != 0 {
		t.Fatalf("submit: %d: %s", code, out.String())
	}
	for met := time.Now(); !strings.Contains(out.String(), `"alive"`); { // the cluster of one has met
		if time.Since(met) > time.Minute {
			t.Fatalf("nodes: %s", out.String())
		}
		if code := a.main(t.Context(), []string{"nodes", "-o", "json"}); code != 0 {
			t.Fatalf("nodes: %d: %s", code, out.String())
		}
	}
	file := filepath.Join(dir, "b.tar.gz")
	if code := a.main(t.Context(), []string{"debug", "bundle", "-o", file, "--config", config, "--lines", "10"}); code != 0 {
		t.Fatalf("debug bundle: %d: %s", code, out.String())
	}
	files := bundletest.Open(t, file)
	explained := ""
	for name, text := range files {
		bundletest.Scan(t, name, text, planted)
		if strings.HasPrefix(name, "explain/") {
			explained = string(text)
		}
	}
	bundletest.Scan(t, "what is printed", out.Bytes(), planted)
	for name, want := range map[string]string{
		"version.json": `"go"`, "node.json": `"n1"`, "config.yaml": "token_file: " + dir + "/token", "doctor.json": "framework.answers", "nodes.json": `"alive"`, "jobs.json": `"/planted"`,
		"metrics.txt": "qosctl_store_bytes", "state.json": `"goroutines"`, "goroutines.txt": "goroutine 1", "heap.txt": "heap profile", "cgroups.txt": "cgroup", "system.txt": "Linux", "manifest.json": "journal.txt",
	} {
		if !strings.Contains(string(files[name]), want) {
			t.Errorf("%s has no %s: %.400s", name, want, files[name])
		}
	}
	if !strings.Contains(explained, `"/planted"`) {
		t.Errorf("the job is not explained: %s", explained)
	}
}

// A bundle of an agent that does not answer has what can be seen from outside.
func TestADebugBundleWithoutAnAgent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := furnished(t, dir, "http://127.0.0.1:1")
	if err := os.Remove(filepath.Join(dir, "hub.json")); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &out, err: &out, environ: []string{"QOSCTL_AGENT=" + filepath.Join(dir, "none.sock")}}
	file := filepath.Join(dir, "b.tar.gz")
	if code := a.main(t.Context(), []string{"debug", "bundle", "-o", file, "--config", config}); code != 0 {
		t.Fatalf("%d: %s", code, out.String())
	}
	files := bundletest.Open(t, file)
	for name, text := range files {
		bundletest.Scan(t, name, text, planted)
	}
	for name, want := range map[string]string{"doctor.json": "no agent answers", "config.yaml": "marathon", "manifest.json": "the secret of engine.docker_config could not be read", "cgroups.txt": "cgroup"} {
		if !strings.Contains(string(files[name]), want) {
			t.Errorf("%s has no %s: %.400s", name, want, files[name])
		}
	}
	if !strings.Contains(out.String(), "without jobs.json: no agent at") {
		t.Error(out.String())
	}
}
