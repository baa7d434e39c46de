package packaging_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"qosctl/packaging/promtest"
)

// dashboard is what Grafana reads of one: panels in rows until its version 5, on a grid since.
type dashboard struct {
	Title      string
	Templating struct {
		List []struct {
			Name, Type string
			Datasource json.RawMessage
		}
	}
	Panels []panel
	Rows   []struct{ Panels []panel }
}

type panel struct {
	ID          int
	Title, Type string
	Datasource  json.RawMessage
	Targets     []struct{ Expr, Metric string }
}

// shown are all panels.
func (d dashboard) shown() []panel {
	list := d.Panels
	for _, r := range d.Rows {
		list = append(list, r.Panels...)
	}
	return list
}

func dashboards(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("grafana/*.json")
	if err != nil || len(files) < 2 {
		t.Fatalf("%v, %v", files, err)
	}
	all := map[string][]byte{}
	for _, f := range files {
		if all[f], err = os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

var variable = regexp.MustCompile(`\$\{?([a-zA-Z_]\w*)`)

// Whoever imports a dashboard chooses where its figures come from; each panel is one of a kind, and no variable is used that nobody sets.
func TestDashboardsAreWhole(t *testing.T) {
	t.Parallel()
	for file, data := range dashboards(t) {
		var d dashboard
		if err := json.Unmarshal(data, &d); err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		ids, names := map[int]bool{}, []string{"all"} // $all is Monasca's plugin's
		for _, v := range d.Templating.List {
			names = append(names, v.Name)
			if v.Type == "query" && !strings.Contains(string(v.Datasource), "datasource") {
				t.Errorf("%s: variable %s asks %s", file, v.Name, v.Datasource)
			}
		}
		if !slices.Contains(names, "datasource") {
			t.Errorf("%s: no data source can be chosen", file)
		}
		for _, p := range d.shown() {
			if ids[p.ID] || p.ID == 0 || p.Title == "" || len(p.Targets) == 0 {
				t.Errorf("%s: panel %d, %q: without a number of its own, a title or a query", file, p.ID, p.Title)
			}
			ids[p.ID] = true
			if !regexp.MustCompile(`\$\{?datasource\b`).Match(p.Datasource) {
				t.Errorf("%s: panel %q asks %s", file, p.Title, p.Datasource)
			}
		}
		for _, m := range variable.FindAllStringSubmatch(string(data), -1) {
			if !slices.Contains(names, m[1]) && !strings.HasPrefix(m[1], "__") {
				t.Errorf("%s: nobody sets $%s", file, m[1])
			}
		}
	}
}

// Prometheus understands each query of the dashboards: they are made rules, which promtool checks.
func TestPromtoolTakesTheDashboardsQueries(t *testing.T) {
	t.Parallel()
	tool, rules, n := promtest.Tool(t, "promtool"), "groups:\n- name: dashboards\n  rules:\n", 0
	for file, data := range dashboards(t) {
		var d dashboard
		if err := json.Unmarshal(data, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, p := range d.shown() {
			for _, target := range p.Targets {
				if target.Expr != "" {
					n++
					rules += fmt.Sprintf("  - {record: 'dashboard:panel%d:query%d', expr: %q}\n", p.ID, n, variable.ReplaceAllString(target.Expr, "5m"))
				}
			}
		}
	}
	path := filepath.Join(t.TempDir(), "dashboards.yml")
	if err := os.WriteFile(path, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), tool, "check", "rules", path).CombinedOutput()
	if err != nil || !strings.Contains(string(out), fmt.Sprintf("SUCCESS: %d rules found", n)) || n < 20 {
		t.Errorf("promtool finds of %d queries: %v\n%s", n, err, out)
	}
}
