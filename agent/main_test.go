package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"qosctl/cgroup"
	"qosctl/container/process"
	"qosctl/packaging/promtest"
)

// TestMain lets the test binary stand in for qosctl as the shim of the process engine's containers, and for what benchmarks measure in
// processes of their own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "shim" {
		os.Exit(process.ShimMain(os.Args[2:]))
	}
	if len(os.Args) == 4 && strings.HasPrefix(os.Args[1], "bench-") {
		if err := benchMain(os.Args[1], os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	sweepDead()
	code := m.Run()
	promtest.Clean()
	os.Exit(code)
}

// testPrefix begins the names of directories and cgroups of tests; the test process' number follows.
const testPrefix = "qosctl-agent-test-"

// sweepDead ends what test processes that have died have left: one that panics, or is killed at its time limit, cleans nothing up.
func sweepDead() {
	groups, err := cgroup.New(cgroup.Options{})
	if err != nil {
		return // there can be none
	}
	left, _ := filepath.Glob("/sys/fs/cgroup/*/" + testPrefix + "*") // v1; the pattern is right
	more, _ := filepath.Glob("/sys/fs/cgroup/" + testPrefix + "*")
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), testPrefix+"*"))
	for _, path := range slices.Concat(left, more, dirs) {
		name := filepath.Base(path)
		pid, _, _ := strings.Cut(strings.TrimPrefix(name, testPrefix), "-")
		n, err := strconv.Atoi(pid)
		if err != nil || n <= 0 || !errors.Is(syscall.Kill(n, 0), syscall.ESRCH) {
			continue // somebody's who lives
		}
		fmt.Fprintln(os.Stderr, "left by a test process that died, removed:", path)
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
		if err := errors.Join(groups.Kill(ctx, "/"+name), groups.Remove("/"+name), os.RemoveAll(filepath.Join(os.TempDir(), name))); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		stop()
	}
}
