// Package packaging_test checks what is packaged with the tools that will read it.
package packaging_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"qosctl/packaging/promtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	promtest.Clean()
	os.Exit(code)
}

func TestPromtoolTakesTheRules(t *testing.T) {
	t.Parallel()
	tool := promtest.Tool(t, "promtool")
	for _, args := range [][]string{
		{"check", "rules", "qosctl.rules.yml"},
		{"test", "rules", "qosctl.test.yml"},
		{"check", "config", "--syntax-only", "qosctl.scrape.yml"},
	} {
		cmd := exec.CommandContext(t.Context(), tool, args...)
		cmd.Dir = "prometheus"
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "SUCCESS") {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// Each alert has a test in which it fires.
func TestEachAlertIsTested(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile("prometheus/qosctl.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("prometheus/qosctl.test.yml")
	if err != nil {
		t.Fatal(err)
	}
	alerts := 0
	for line := range strings.Lines(string(rules)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "- alert: "); ok {
			if alerts++; !strings.Contains(string(tests), "alertname: "+name+"\n        exp_alerts:") {
				t.Errorf("%s fires in no test", name)
			}
		}
	}
	if alerts < 5 {
		t.Errorf("only %d alerts", alerts)
	}
}
