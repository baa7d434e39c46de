// Package promtest finds Prometheus' own programs for tests.
package promtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fetched is the directory that Debian's package was unpacked in, once for all tests of a process; wanted says whether anybody asked.
var (
	fetched = sync.OnceValues(fetch)
	wanted  atomic.Bool
)

// Tool is the path of promtool or prometheus. They are Debian's; where they are not installed, make e2e unpacks the package without
// installing it.
func Tool(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	if os.Getenv("QOSCTL_E2E") != "1" {
		t.Skipf("needs %s, of Debian's package prometheus (make e2e fetches it)", name)
	}
	wanted.Store(true)
	dir, err := fetched()
	if err != nil {
		t.Fatalf("THIS CAN'T BE TESTED: %s can't be had: %v", name, err)
	}
	return filepath.Join(dir, "usr/bin", name)
}

// Clean removes what was fetched. For TestMain.
func Clean() {
	if !wanted.Load() {
		return
	}
	if dir, err := fetched(); err == nil {
		_ = os.RemoveAll(dir) // of the system's temporary directory
	}
}

func fetch() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "qosctl-prometheus-"); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for _, command := range [][]string{{"apt-get", "update", "-q"}, {"apt-get", "download", "-q", "prometheus"}, {"sh", "-c", "dpkg-deb -x prometheus_*.deb ."}} {
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w: %s", command[0], err, out)
		}
	}
	return dir, nil
}
