package agent

import (
	"bytes"
	"compress/gzip"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"qosctl/agent/api"
	"qosctl/gossip"
	"qosctl/monasca"
	"qosctl/packaging/promtest"
	"qosctl/qos"
)

var update = flag.Bool("update", false, "write the golden files anew")

// shownJob is a job that has every metric.
func shownJob(id, name string) shown {
	now := time.Unix(1_700_000_000, 0)
	return shown{&api.Job{
		ID: id, Name: name, Framework: qos.Chronos, Tenant: "ops", Owner: "n1", Policy: "deadline", Phase: qos.PhaseRunning, State: qos.OnPlan, Started: now, Deadline: now.Add(time.Hour),
		Prediction: now.Add(time.Minute), Ratio: 1.02, Desired: 30.25, Progress: 31.5, Request: 0.5, Allocation: 0.75, Usage: 0.7431, Need: 0.6, Throttled: 0.25, Iterations: 10,
		Tally: qos.Tally{Succeeded: 3, Moves: 1},
	}, figures{
		running: true, cpu: 131.25, borrowed: 3, lost: 1, overhead: 0.125, resizes: 7, incarnations: 2, cfs: cfs{1000, 10, time.Second},
		saved: qos.Saved{Taken: now, Bytes: 1 << 20, Took: 300 * time.Millisecond, CPU: 20 * time.Second},
	}}
}

// fullAgent is one that has every metric, as far as the page goes.
func fullAgent(t testing.TB) *Agent {
	t.Helper()
	a := &Agent{cfg: Default(), version: "test", cpus: 4}
	a.metrics = newMetrics(a)
	s, _, err := openStore(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.close() })
	a.store = s
	var k skews
	k.note("n2", time.Millisecond, time.Millisecond)
	a.metrics.registry.MustRegister(newMonascaCollector(func() monasca.Stats { return monasca.Stats{} }), newMeshCollector(func() gossip.Stats { return gossip.Stats{} }), newSkewCollector(&k), newExpiry(func() map[string]time.Time { return map[string]time.Time{"network": time.Now()} }))
	a.metrics.callsOf("marathon")(http.MethodGet, http.StatusOK, time.Millisecond)
	if a.policies, err = newPolicies(a.cfg.Control); err != nil {
		t.Fatal(err)
	}
	a.jobs = &jobs{byID: map[string]*job{}}
	a.publish(time.Now())
	return a
}

// oneShown is a job that has every metric.
func oneShown(time.Time) []shown {
	return []shown{shownJob("11111111-2222-3333-4444-555555555555", "/a")}
}

// crowd gives an agent jobs: those from the number running on run.
func crowd(a *Agent, n, running int) {
	now := time.Now()
	for i := range n {
		id := fmt.Sprintf("11111111-2222-3333-4444-%012d", i)
		e := &qos.Execution{Index: 1, Started: now, Deadline: now.Add(time.Hour), Allocation: 0.5}
		e.Account.StartIncarnation(qos.Entry{Node: "n1", Container: id, Own: time.Duration(i+1) * 1_370_731_337})
		j := newJob(row{Record: qos.Record{
			Spec: qos.Spec{
				ID: id, Name: fmt.Sprintf("/tenant/job-%d", i), Framework: qos.Marathon, Tenant: "/tenant", CPUs: 0.4,
				Submitted: now.Add(time.Duration(i)), QoS: qos.QoS{Duration: 100, Deviation: 0.1, Deadline: qos.Deadline{After: time.Hour}},
			},
			Status: qos.Status{
				Phase: qos.PhaseRunning, Since: now, Started: now, Owner: "n1", Execution: e,
				Tally: qos.Tally{CPU: 31.25, Succeeded: 2, Met: 2}, Saved: &qos.Saved{Taken: now, Bytes: 1 << 20, Took: 300 * time.Millisecond, CPU: 20 * time.Second},
			},
		}})
		if i >= running {
			j.live = &live{rate: float64(i) / 7919}
			j.decisions = []qos.Decision{{At: now, State: qos.OnPlan, ThesisState: qos.OnPlan, Ratio: 1.0173, Desired: float64(i) * 0.731, Need: 0.37, Prediction: now.Add(50 * time.Minute)}}
		}
		a.jobs.add(j)
	}
	a.publish(now)
}

// scrape gets /metrics, of the agent's jobs or of others.
func scrape(t testing.TB, a *Agent, jobs func(time.Time) []shown) string {
	t.Helper()
	w := httptest.NewRecorder()
	a.metricsOf(jobs).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("/metrics: %d, %v", w.Code, w.Header())
	}
	return w.Body.String()
}

// exposed is a metric as the page shows it.
type exposed struct{ name, kind, help, labels string }

var (
	headLine   = regexp.MustCompile(`^# (HELP|TYPE) (\S+) (.+)$`)
	sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$`)
	labelPair  = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="(?:[^"\\]|\\.)*"`)
)

// families reads a page, and sees to it that each metric is there once, with help and type before its samples.
func families(t testing.TB, page string) []exposed {
	t.Helper()
	var list []exposed
	seen := map[string]bool{}
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		if m := headLine.FindStringSubmatch(line); m != nil {
			if m[1] == "HELP" {
				if seen[m[2]] {
					t.Fatalf("%s is on the page twice", m[2])
				}
				seen[m[2]] = true
				list = append(list, exposed{name: m[2], help: m[3]})
			} else {
				list[len(list)-1].kind = m[3]
			}
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil || len(list) == 0 || list[len(list)-1].kind == "" {
			t.Fatalf("no sample: %q", line)
		}
		f := &list[len(list)-1]
		if base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(m[1], "_bucket"), "_sum"), "_count"); m[1] != f.name && base != f.name {
			t.Fatalf("sample %q stands below %s", line, f.name)
		}
		var labels []string
		for _, l := range labelPair.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "le" {
				labels = append(labels, l[1])
			}
		}
		f.labels = strings.Join(labels, ", ")
	}
	return list
}

// unitOf is the unit that a name says.
func unitOf(name string) string {
	base := strings.TrimSuffix(name, "_total")
	for _, u := range [][2]string{
		{"_timestamp_seconds", "Unix time"}, {"_cpu_seconds", "CPU seconds"}, {"_seconds", "seconds"}, {"_bytes", "bytes"}, {"_cpus", "CPUs"}, {"_ratio", "ratio"},
	} {
		if strings.HasSuffix(base, u[0]) {
			return u[1]
		}
	}
	return ""
}

// docs/metrics.md has a table of all metrics: with -update it is written anew.
func TestTheDocumentationHasEachMetric(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("| metric | type | labels | unit | |\n|---|---|---|---|---|\n")
	rows := 0
	for _, f := range families(t, scrape(t, fullAgent(t), oneShown)) {
		if strings.HasPrefix(f.name, "qosctl_") {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", f.name, f.kind, f.labels, unitOf(f.name), f.help)
			rows++
		} else if !strings.HasPrefix(f.name, "go_") && !strings.HasPrefix(f.name, "process_") && !strings.HasPrefix(f.name, "promhttp_") {
			t.Errorf("%s: a name of its own", f.name)
		}
	}
	if rows < 100 {
		t.Errorf("only %d metrics", rows)
	}
	const file, from, to = "../docs/metrics.md", "<!-- written by go test ./agent -update -->\n", "<!-- end -->"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(page), from)
	old, tail, ok2 := strings.Cut(rest, to)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", file)
	}
	if *update {
		if err := os.WriteFile(file, []byte(head+from+b.String()+to+tail), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(old, b.String()); diff != "" {
		t.Errorf("docs/metrics.md differs (go test ./agent -run Documentation -update): page - code +:\n%s", diff)
	}
}

// What is documented of labels that have few values is all of them.
func TestTheDocumentationHasEachValueOfALabel(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range slices.Concat(wants, outcomes) {
		if !strings.Contains(string(text), "`"+v+"`") {
			t.Errorf("docs/metrics.md does not name %s", v)
		}
	}
}

func TestMetricsPassPromtool(t *testing.T) {
	t.Parallel()
	a := fullAgent(t)
	if problems, err := testutil.GatherAndLint(a.metrics.registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	page := scrape(t, a, oneShown)
	if problems, err := promlint.New(strings.NewReader(page)).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	cmd := exec.CommandContext(t.Context(), promtest.Tool(t, "promtool"), "check", "metrics")
	cmd.Stdin = strings.NewReader(page)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// A name that users choose can't break the page, nor grow it without bound.
func TestLabelsAreEscapedAndBounded(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"/a":                     "/a",
		"say \"x\"\n\\":          `say \"x\"\n\\`,
		"\xff":                   "�",
		strings.Repeat("é", 200): strings.Repeat("é", 128),
		strings.Repeat("x", 300): strings.Repeat("x", 256),
	} {
		if got := labelValue(in); got != want {
			t.Errorf("%.40q: %.40q, want %.40q", in, got, want)
		}
	}
}

func TestTooManyJobsAreLeftOutAndWhatRunsIsNot(t *testing.T) {
	t.Parallel()
	a := fullAgent(t)
	crowd(a, mostShown+10, mostShown-5)
	page := scrape(t, a, a.shownAt)
	if n := strings.Count(page, "qosctl_job_cpu_seconds_total{"); n != mostShown {
		t.Errorf("%d jobs are shown", n)
	}
	for i := mostShown - 5; i < mostShown+10; i++ {
		if !strings.Contains(page, fmt.Sprintf(`qosctl_job_cpu_seconds_total{uuid="11111111-2222-3333-4444-%012d"`, i)) {
			t.Errorf("job %d runs, and is left out", i)
		}
	}
	if !strings.Contains(page, "\nqosctl_node_hidden_jobs 10\n") {
		t.Error("the page does not say that jobs are left out")
	}
}

func TestThePageIsCompressedForWhoTakesIt(t *testing.T) {
	t.Parallel()
	a := fullAgent(t)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept-Encoding", "gzip")
	r.Header.Set("Accept", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1")
	w := httptest.NewRecorder()
	a.metricsOf(oneShown).ServeHTTP(w, r)
	z, err := gzip.NewReader(bytes.NewReader(w.Body.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(z)
	if err != nil || w.Header().Get("Content-Encoding") != "gzip" || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
		t.Fatalf("%v, %v", err, w.Header())
	}
	if got, want := len(families(t, string(page))), len(families(t, scrape(t, a, oneShown))); got != want {
		t.Errorf("%d families, want %d", got, want)
	}
}

// metricNames are the names of all metrics that an agent can have, as rules name them.
func metricNames(t *testing.T) []string {
	t.Helper()
	names := map[string]bool{}
	for _, f := range families(t, scrape(t, fullAgent(t), oneShown)) {
		names[f.name] = true
		if f.kind == "histogram" {
			names[f.name+"_bucket"], names[f.name+"_sum"], names[f.name+"_count"] = true, true, true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
