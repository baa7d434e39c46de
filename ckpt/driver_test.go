package ckpt

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"qosctl/cgroup"
	"qosctl/container/docker"
)

// needNode gives the options of a Keeper on the Docker of a test node, or skips the test.
func needNode(t *testing.T) Options {
	t.Helper()
	if os.Getenv("QOSCTL_E2E_NODE") == "" {
		t.Skip("SKIPPED, needs a real Docker and CRIU in a test node: make e2e")
	}
	c, err := docker.Dial("unix:///var/run/docker.sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	groups, err := cgroup.New(cgroup.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	e, err := docker.New(docker.Options{Client: c, Cgroups: groups, Parent: "/qosctl-ckpt-test", Proc: "/proc", Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("/var/lib/qosctl/checkpoints", 0o700); err != nil { // what the OCI runtime trusts
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/var/lib/qosctl/checkpoints", "test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return Options{
		Dir: dir, Node: "testnode", Engine: e, Docker: c, Cgroups: groups, Proc: "/proc", Driver: "auto", Runtime: "qosctl",
		Keep: 2, DumpTime: 30 * time.Second, RestoreTime: 30 * time.Second, Logger: log,
	}
}

func TestSelfTest(t *testing.T) {
	for _, driver := range []string{"auto", "runtime", "docker"} {
		t.Run(driver, func(t *testing.T) {
			o := needNode(t)
			o.Driver = driver
			k, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			defer stop()
			r := k.Test(ctx)
			for _, c := range r.Checks {
				t.Logf("%-16s %5v %8s %s (%s)", c.Name, c.OK, c.Took.Round(time.Millisecond), c.Text, c.Remedy)
			}
			if works := os.Getenv("QOSCTL_E2E_NODE") == "trixie" || driver != "docker"; (r.Driver != "") != works {
				t.Errorf("driver %q", r.Driver)
			}
		})
	}
}
