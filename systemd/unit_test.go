// Package systemd_test looks at the unit as systemd does.
package systemd_test

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const (
	unit = "qosctl-agent.service"
	job  = "qosctl-job@.service"
)

// exposure is how exposed systemd may find each unit, of 10. What is missing to less, docs/security.md explains; of the dumps it states the score.
var exposure = map[string]float64{unit: 4.0, job: 5.0, "qosctl-dump@.service": 10}

func read(t *testing.T, file string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(file)
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
func TestTheUnitsNeverTouchJobs(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]map[string]string{
		unit: {
			"Type":                     "notify",
			"KillMode":                 "process", // without engine.helper the agent starts jobs itself
			"RuntimeDirectoryPreserve": "yes",
			"Restart":                  "on-failure",
			"WatchdogSec":              "1min",
			"RestartPreventExitStatus": "6",
			// CRIU can't dump from within, and jobs are not to inherit what confines the agent.
			"Environment": "QOSCTL_CHECKPOINT_HELPER=/run/qosctl/dump.sock QOSCTL_ENGINE_HELPER=/run/qosctl/job.sock",
			"Wants":       "network-online.target qosctl-dump.socket qosctl-job.socket",
		},
		job: {
			"KillMode":            "process",
			"TasksMax":            "infinity", // jobs are counted in the unit's pids controller
			"OOMPolicy":           "continue",
			"DefaultDependencies": "no", // else a shutdown waits for each job
			"Slice":               "system.slice",
		},
		"qosctl-job.socket":  {"ListenStream": "/run/qosctl/job.sock", "SocketMode": "0600", "Accept": "yes", "MaxConnections": "65536", "TriggerLimitIntervalSec": "0"},
		"qosctl-dump.socket": {"ListenStream": "/run/qosctl/dump.sock", "SocketMode": "0600", "Accept": "yes"},
	} {
		m := read(t, file)
		for key, value := range want {
			if got := strings.Join(m[key], " "); got != value {
				t.Errorf("%s: %s=%s, want %s", file, key, got, value)
			}
		}
	}
	m := read(t, job)
	for _, key := range []string{
		"ProtectControlGroups", "PrivateTmp", "ProtectHome", "PrivateDevices", "MemoryDenyWriteExecute", "RestrictSUIDSGID", "OOMScoreAdjust", "Nice", "UMask", "MemoryMax", "CPUWeight",
	} {
		if m[key] != nil {
			t.Errorf("%s=%v: jobs inherit it", key, m[key])
		}
	}
	if post := strings.Join(read(t, unit)["ExecStopPost"], ""); !strings.Contains(post, "qosctl release") || !strings.Contains(post, "--unless-restarted "+unit) {
		t.Errorf("ExecStopPost=%s", post)
	}
}

// The scores of systemd-analyze, printed and bounded. (The end-to-end test has Debian's systemd look at the installed units.)
func TestExposure(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("needs systemd-analyze (make e2e has one in a node)")
	}
	for file, most := range exposure {
		out, err := exec.CommandContext(t.Context(), tool, "security", "--offline=true", "--no-pager", file).CombinedOutput()
		if err != nil && strings.Contains(string(out), "offline") {
			t.Skipf("this systemd-analyze is too old: %s", out)
		}
		found := regexp.MustCompile(`exposure level for \S+: ([0-9.]+)`).FindSubmatch(out)
		if found == nil {
			t.Fatalf("%s: %v: %s", file, err, out)
		}
		t.Logf("%s: exposure level %s of 10", file, found[1])
		if level, err := strconv.ParseFloat(string(found[1]), 64); err != nil || level > most {
			t.Errorf("%s: exposure level %s, more than %.1f", file, found[1], most)
		}
	}
}
