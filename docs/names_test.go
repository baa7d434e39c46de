package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each test and benchmark that a page names is there: a page says "tested" only of what a test runs.
func TestTestsThatPagesName(t *testing.T) {
	t.Parallel()
	have := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz)\w+)\(`)
	err := fs.WalkDir(os.DirFS(".."), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		text, err := os.ReadFile(filepath.Join("..", name))
		for _, m := range function.FindAllSubmatch(text, -1) {
			have[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`\b(?:Test|Benchmark|Fuzz)[A-Z]\w+`)
	seen := 0
	for _, p := range pages(t) {
		for i, l := range p.lines {
			for _, name := range named.FindAllString(l, -1) {
				if seen++; !have[name] {
					t.Errorf("%s:%d: there is no %s", p.name, i+1, name)
				}
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d names found", seen)
	}
}

// Each `make TARGET` is one of the Makefile.
func TestTargetsThatPagesName(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`(?:^|[^a-z])make ([a-z0-9-]+)`)
	for _, p := range pages(t) {
		p.spans(t, func(line int, text string) {
			for _, m := range named.FindAllStringSubmatch(text, -1) {
				if !strings.Contains(string(makefile), "\n"+m[1]+":") {
					t.Errorf("%s:%d: make %s", p.name, line, m[1])
				}
			}
		})
	}
}

// Each metric that a page names is one that an agent has: docs/metrics.md, which is written from the code, lists it.
func TestMetricsThatPagesName(t *testing.T) {
	t.Parallel()
	all := strings.Join(readPage(t, "docs/metrics.md").lines, "\n")
	named := regexp.MustCompile(`^(qosctl_[a-z_]+[a-z])(?:\{.*)?$`)
	for _, p := range pages(t) {
		if p.name == "CHANGELOG.md" {
			continue
		}
		p.spans(t, func(line int, text string) {
			if m := named.FindStringSubmatch(text); m != nil && !strings.Contains(all, "| `"+m[1]+"` |") {
				t.Errorf("%s:%d: there is no metric %s", p.name, line, m[1])
			}
		})
	}
}

// Each alert has a section in docs/operations.md, and there is none for another.
func TestEachAlertHasItsSection(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile("../packaging/prometheus/qosctl.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	alerts := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^ *- alert: (\w+)$`).FindAllSubmatch(rules, -1) {
		alerts[string(m[1])] = true
	}
	if len(alerts) < 10 {
		t.Errorf("only %d alerts found", len(alerts))
	}
	for _, l := range readPage(t, "docs/operations.md").lines {
		if name, ok := strings.CutPrefix(l, "### Qosctl"); ok {
			if !alerts["Qosctl"+name] {
				t.Errorf("docs/operations.md: there is no alert Qosctl%s", name)
			}
			delete(alerts, "Qosctl"+name)
		}
	}
	for name := range alerts {
		t.Errorf("docs/operations.md has no section ### %s", name)
	}
}
