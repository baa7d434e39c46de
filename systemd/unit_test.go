// Package systemd_test looks at the unit as systemd does.
package systemd_test

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const unit = "qosctl-agent.service"

// exposure is how exposed systemd may find the agent, of 10. What is missing to less, docs/security.md explains.
const exposure = 5.5

func read(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			m[key] = append(m[key], value)
		}
	}
	return m
}

// What jobs, and their accounts, depend on.
func TestTheUnitNeverTouchesJobs(t *testing.T) {
	t.Parallel()
	m := read(t)
	for key, want := range map[string]string{
		"Type":                     "notify",
		"KillMode":                 "process",
		"TasksMax":                 "infinity", // jobs that are plain processes are counted in the unit's pids controller
		"RuntimeDirectoryPreserve": "yes",
		"Restart":                  "on-failure",
		"WatchdogSec":              "1min",
		"RestartPreventExitStatus": "6",
		"Environment":              "QOSCTL_CHECKPOINT_HELPER=/run/qosctl/dump.sock", // CRIU can't dump from within
	} {
		if got := m[key]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s=%v, want %s", key, got, want)
		}
	}
	for _, key := range []string{"ProtectControlGroups", "PrivateTmp", "ProtectHome", "PrivateDevices", "MemoryDenyWriteExecute", "RestrictSUIDSGID", "OOMScoreAdjust", "Nice", "UMask"} {
		if m[key] != nil {
			t.Errorf("%s=%v: jobs, or what writes their limits and files, inherit it", key, m[key])
		}
	}
	if post := strings.Join(m["ExecStopPost"], ""); !strings.Contains(post, "qosctl release") || !strings.Contains(post, "--unless-restarted "+unit) {
		t.Errorf("ExecStopPost=%s", post)
	}
}

// The score of systemd-analyze, printed and bounded. (The end-to-end test has Debian's systemd look at the installed unit.)
func TestExposure(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("needs systemd-analyze (make e2e has one in a node)")
	}
	out, err := exec.CommandContext(t.Context(), tool, "security", "--offline=true", "--no-pager", unit).CombinedOutput()
	if err != nil && strings.Contains(string(out), "offline") {
		t.Skipf("this systemd-analyze is too old: %s", out)
	}
	found := regexp.MustCompile(`exposure level for \S+: ([0-9.]+)`).FindSubmatch(out)
	if found == nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("exposure level %s of 10", found[1])
	if level, err := strconv.ParseFloat(string(found[1]), 64); err != nil || level > exposure {
		t.Errorf("exposure level %s, more than %.1f", found[1], exposure)
	}
}
