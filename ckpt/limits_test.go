package ckpt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/client"

	"qosctl/container"
	"qosctl/container/docker"
)

// TestNewLimits: after a restore the limits are those of the new container, in Docker and in the kernel, and not those of the image.
func TestNewLimits(t *testing.T) {
	for _, driver := range drivers() {
		t.Run(driver, func(t *testing.T) {
			r := newRig(t, driver)
			command := counts + `done`
			limited := func(n int, l container.Limits) container.Spec {
				s := r.spec(n, command)
				s.Limits = l
				return s
			}
			for n, c := range []struct {
				limits               container.Limits
				quota, shares, bytes string // as the kernel has them
			}{
				{container.Limits{CPUs: 0.9, Shares: 0.5, MemBytes: 128 << 20}, "90000", "512", "134217728"},
				{container.Limits{CPUs: 0.3, Shares: 0.25, MemBytes: 64 << 20}, "30000", "256", "67108864"},
				{container.Limits{CPUs: 1.7, Shares: 1, MemBytes: 256 << 20}, "170000", "1024", "268435456"},
				{container.Limits{Shares: 1, MemBytes: 256 << 20}, "-1", "1024", "268435456"},
			} {
				if n == 0 {
					r.start(limited(1, c.limits))
				} else {
					r.next(limited(n+1, c.limits), false)
				}
				r.await("it counts", func(out string) bool { return strings.Count(out, "\n") > 5 })
				i, err := r.o.Engine.Inspect(t.Context(), r.id(r.n))
				if err != nil {
					t.Fatal(err)
				}
				for file, want := range map[string]string{"cpu/*/cpu.cfs_quota_us": c.quota, "cpu/*/cpu.shares": c.shares, "memory/*/memory.limit_in_bytes": c.bytes} {
					b, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", strings.Replace(file, "*", i.Cgroup.CPU, 1)))
					if err != nil || strings.TrimSpace(string(b)) != want {
						t.Errorf("incarnation %d: %s has %q, want %s (%v)", r.n, file, b, want, err)
					}
				}
			}
		})
	}
}

// TestOldestAPI takes the self-test, and a job, over API 1.41: it has no annotations, so that the order to restore travels in the environment.
func TestOldestAPI(t *testing.T) {
	o := needNode(t)
	c, err := client.NewClientWithOpts(client.WithHost("unix:///var/run/docker.sock"), client.WithVersion("1.41"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // only its idle connections
	if o.Engine, err = docker.New(docker.Options{Client: c, Cgroups: o.Cgroups, Parent: "/qosctl-ckpt-old", Proc: "/proc", Logger: o.Logger}); err != nil {
		t.Fatal(err)
	}
	o.Docker, o.Driver = c, "runtime"
	k, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range k.Test(t.Context()).Checks {
		t.Logf("%-16s %5v %s (%s)", c.Name, c.OK, c.Text, c.Remedy)
	}
	if k.Report().Driver != "runtime" {
		t.Error("the driver does not pass its self-test")
	}
}
