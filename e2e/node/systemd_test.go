package node

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

// TestSystemdNode boots nodes whose first process is systemd, on cgroup v1 and on cgroup v2 alone, as trixie's wants it.
func TestSystemdNode(t *testing.T) {
	if os.Getenv("QOSCTL_E2E") == "" || os.Geteuid() != 0 {
		t.Skip("end-to-end tests run as root with QOSCTL_E2E=1: make e2e")
	}
	for name, c := range map[string]struct {
		o        Options
		fs, unit string // file system of /sys/fs/cgroup; a unit's cgroups
	}{
		"bookworm on v1": {Options{Name: "test-systemd", Release: Bookworm, Systemd: true}, "tmpfs", "name=systemd:/system.slice/run-"},
		"trixie on v2":   {Options{Name: "test-systemd2", Release: Trixie, Systemd: true, V2: true}, "cgroup2fs", "0::/system.slice/run-"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
			defer stop()
			begin := time.Now()
			n, err := Start(ctx, c.o)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := n.Stop(); err != nil {
					t.Error(err)
				}
			}()
			t.Logf("booted in %s", time.Since(begin))
			if out, err := n.Run(ctx, "cat", "/proc/1/comm"); err != nil || out != "systemd\n" {
				t.Errorf("the first process is %q, %v", out, err)
			}
			if out, err := n.Run(ctx, "stat", "-f", "-c", "%T", "/sys/fs/cgroup"); err != nil || strings.TrimSpace(out) != c.fs {
				t.Errorf("cgroups are %q, %v", out, err)
			}
			if out, err := n.Run(ctx, "systemctl", "list-units", "--failed", "--no-legend", "--plain"); err != nil || strings.TrimSpace(out) != "" {
				t.Errorf("failed units: %s, %v", out, err)
			}
			out, err := n.Run(ctx, "systemd-run", "--wait", "--pipe", "--quiet", "cat", "/proc/self/cgroup")
			if err != nil || !strings.Contains(out, c.unit) {
				t.Errorf("a unit's cgroups: %s, %v", out, err)
			}
		})
	}
}
