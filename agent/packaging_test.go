package agent

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"qosctl/monasca"
	"qosctl/qos"
)

// Each metric that a rule, a dashboard or a page of the documentation names is one that an agent has.
func TestRulesAndDashboardsNameMetricsThatAreThere(t *testing.T) {
	t.Parallel()
	names := metricNames(t)
	metric := regexp.MustCompile(`\bqosctl_[a-z0-9_]*[a-z0-9]\b`)
	recorded := regexp.MustCompile(`\b[a-z]+:qosctl_[a-z0-9_]+:[a-z0-9]+\b`)
	rules, err := os.ReadFile("../packaging/prometheus/qosctl.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"prometheus/qosctl.rules.yml", "prometheus/qosctl.test.yml", "grafana/qosctl-prometheus.json", "../docs/monasca.md", "../docs/metrics.md"} {
		text, err := os.ReadFile(filepath.Join("../packaging", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range recorded.FindAllString(string(text), -1) {
			if !strings.Contains(string(rules), "record: "+name+"\n") {
				t.Errorf("%s names %s, which no rule records", file, name)
			}
		}
		found := metric.FindAllString(recorded.ReplaceAllString(string(text), ""), -1)
		if len(found) < 2 {
			t.Errorf("%s names %d metrics", file, len(found))
		}
		for _, name := range found {
			if !slices.Contains(names, name) {
				t.Errorf("%s names %s, which no agent has", file, name)
			}
		}
	}
}

// monascaNames are the metrics that go to Monasca.
func monascaNames() map[string]bool {
	now := time.Now()
	names := map[string]bool{}
	for _, f := range []qos.Framework{qos.Marathon, qos.Chronos} {
		j := monasca.Job{Framework: f, Running: true, Deadline: now, Prediction: now, User: time.Second, Ended: []monasca.Run{{Started: now, Ended: now}}}
		for _, m := range monasca.Measure(monasca.Node{}, []monasca.Job{j}, now) {
			names[m.Name] = true
		}
	}
	return names
}

func TestMonascaDashboardAndDocumentation(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../packaging/grafana/qosctl-monasca.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Rows []struct {
			Panels []struct {
				ID      int
				Targets []struct{ Metric string }
			}
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	names, shown := monascaNames(), 0
	for _, r := range board.Rows {
		for _, p := range r.Panels {
			for _, target := range p.Targets {
				if shown++; !names[target.Metric] {
					t.Errorf("panel %d shows %s, which is not sent", p.ID, target.Metric)
				}
			}
		}
	}
	if shown < 8 {
		t.Errorf("only %d metrics are shown", shown)
	}
	page, err := os.ReadFile("../docs/monasca.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range names {
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("docs/monasca.md does not name %s", name)
		}
	}
	for _, s := range monasca.States() {
		if s != monasca.Idle && !strings.Contains(string(page), fmt.Sprintf("| `%s` |", s)) {
			t.Errorf("docs/monasca.md does not name state %s", s)
		}
	}
	for _, r := range monasca.Reasons() {
		if !strings.Contains(string(page), fmt.Sprintf("`%s`", r)) {
			t.Errorf("docs/monasca.md does not name reason %s", r)
		}
	}
}

func TestPrometheusDashboardIsWhole(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../packaging/grafana/qosctl-prometheus.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		UID    string
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil || board.UID == "" {
		t.Fatal(err)
	}
	taken := map[[2]int]string{}
	ids := map[int]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] || len(p.Targets) == 0 {
			t.Errorf("panel %q: id %d twice, or nothing in it", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("panel %q lies over %q", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}
