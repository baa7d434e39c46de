package process

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"qosctl/cgroup"
	"qosctl/container"
	"qosctl/container/containertest"
)

// needCgroups gives the host's cgroups, or skips the test.
func needCgroups(t *testing.T) *cgroup.FS {
	t.Helper()
	fs, err := cgroup.New(cgroup.Options{})
	if err != nil {
		t.Skipf("SKIPPED, no cgroups on this host: %v", err)
	}
	if err = fs.Access(); err != nil {
		t.Skipf("SKIPPED, run as root: %v", err)
	}
	return fs
}

// options are those of an engine with a directory and a cgroup parent of its own, which is removed at the end.
func options(t *testing.T) Options {
	t.Helper()
	fs := needCgroups(t)
	dir, err := os.MkdirTemp("", "qosctl-process-*") // not TempDir: that is 0700 above, and another user must pass through
	if err != nil {
		t.Fatal(err)
	}
	h := fnv.New32()
	fmt.Fprint(h, t.Name(), dir)
	parent := fmt.Sprintf("/qosctl-test-%d-%x", os.Getpid(), h.Sum32())
	t.Cleanup(func() {
		if err := fs.Kill(context.Background(), parent); err != nil {
			t.Logf("kill what a test left: %v", err)
		}
		if err := fs.Remove(parent); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return Options{
		Dir: filepath.Join(dir, "containers"), Shim: []string{"/proc/self/exe", "shim"}, Cgroups: fs, CgroupParent: parent,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

// open opens an engine and closes it at the end.
func open(t *testing.T, o Options) *Engine {
	t.Helper()
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func TestConformance(t *testing.T) {
	t.Parallel()
	containertest.Run(t, func(t *testing.T) containertest.Setup {
		o := options(t)
		return containertest.Setup{
			Engine:    open(t, o),
			Reopen:    func(t *testing.T) container.Engine { return open(t, o) },
			QuotaFile: quotaFile,
			Other:     &container.User{UID: 65534, GID: 65534, Groups: []int{12345}},
		}
	})
}

func quotaFile(g cgroup.Group) string {
	if name := filepath.Join("/sys/fs/cgroup/cpu", g.CPU, "cpu.cfs_quota_us"); exists(name) {
		return name
	}
	return filepath.Join("/sys/fs/cgroup", g.CPU, "cpu.max")
}
