package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"qosctl/packaging/promtest"
)

// runPrometheus runs a Prometheus that finds the agent at an address by its /v1/targets, and returns its own address.
func runPrometheus(t *testing.T, agent string) string {
	t.Helper()
	tool, dir, address := promtest.Tool(t, "prometheus"), t.TempDir(), freeAddress(t)
	config := fmt.Sprintf(`
global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}
scrape_configs:
  - job_name: qosctl
    http_sd_configs: [{url: 'http://%s/v1/targets', refresh_interval: 1s}]
`, agent)
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), tool, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()                          // of a signal
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("prometheus:\n%s", text)
		}
	})
	return address
}

// queried are what a Prometheus answers to a query: the labels of each.
func queried(t *testing.T, address, query string) []map[string]string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/api/v1/query?query="+url.QueryEscape(query), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil // it is starting
	}
	defer resp.Body.Close()
	var body struct {
		Data struct {
			Result []struct{ Metric map[string]string }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		return nil // likewise
	}
	var list []map[string]string
	for _, s := range body.Data.Result {
		list = append(list, s.Metric)
	}
	return list
}

// A real Prometheus finds an agent by its /v1/targets, scrapes it, and has the job under our own labels.
func TestPrometheusFindsAndScrapesAnAgent(t *testing.T) {
	t.Parallel()
	promtest.Tool(t, "prometheus")
	n := testNode(t, func(c *Config) { c.Listen = freeAddress(t) })
	n.submit(idA, `{"id":"/scraped","cmd":"while :; do :; done","cpus":0.1,"mem":32,"qos":{"duration":100,"desv_deadline":0.1,"deadline":600}}`)
	n.claim(idA, "t1")
	address := runPrometheus(t, n.cfg.Listen)
	var found []map[string]string
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for tick := time.NewTicker(100 * time.Millisecond); len(found) == 0; {
		select {
		case <-tick.C:
			found = queried(t, address, `qosctl_job_cpu_seconds_total > 0 and on (uuid) qosctl_job_state`)
		case <-ctx.Done():
			t.Fatalf("no sample of the job; up: %v", queried(t, address, "up"))
		}
	}
	want := map[string]string{"__name__": "qosctl_job_cpu_seconds_total", "job": "qosctl", "instance": n.cfg.Listen, "node": "testnode", "uuid": idA, "name": "/scraped", "framework": "marathon"}
	if len(found) != 1 || fmt.Sprint(found[0]) != fmt.Sprint(want) {
		t.Errorf("series %v, want %v", found, want)
	}
	if up := queried(t, address, `up == 1`); len(up) != 1 {
		t.Errorf("up: %v", up)
	}
	if bad := queried(t, address, `{__name__=~".+", exported_job=~".+"}`); len(bad) > 0 {
		t.Errorf("labels that collide: %v", bad)
	}
}
