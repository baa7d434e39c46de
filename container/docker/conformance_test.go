package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/docker/docker/api/types/image"

	"qosctl/cgroup"
	"qosctl/container"
	"qosctl/container/containertest"
)

const testImage = "qosctl-test:busybox"

// needDocker gives an engine on the Docker of a test node, or skips the test.
func needDocker(t *testing.T) Options {
	t.Helper()
	if os.Getenv("QOSCTL_E2E_NODE") == "" {
		t.Skip("SKIPPED, needs a real Docker in a test node: make e2e")
	}
	c, err := Dial("unix:///var/run/docker.sock")
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
	o := Options{Client: c, Cgroups: groups, Parent: "/qosctl-docker-test", Proc: "/proc", Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	importImage(t, o)
	return o
}

// importImage makes an image of the node's static busybox.
func importImage(t *testing.T, o Options) {
	t.Helper()
	if _, err := o.Client.ImageInspect(t.Context(), testImage); err == nil {
		return
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(h tar.Header, data []byte) {
		h.Size = int64(len(data))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin/", "etc/", "tmp/", "root/"} {
		add(tar.Header{Name: dir, Mode: 0o777, Typeflag: tar.TypeDir}, nil)
	}
	add(tar.Header{Name: "bin/busybox", Mode: 0o755, Typeflag: tar.TypeReg}, busybox)
	for _, name := range []string{"sh", "sleep", "cat", "echo", "head", "tail", "tee", "sha256sum", "cut", "id", "env", "sort", "tr", "true", "touch", "grep", "ls", "yes", "seq", "stty", "nc", "test", "["} {
		add(tar.Header{Name: "bin/" + name, Linkname: "busybox", Mode: 0o777, Typeflag: tar.TypeSymlink}, nil)
	}
	add(tar.Header{Name: "etc/passwd", Mode: 0o644, Typeflag: tar.TypeReg}, []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"))
	add(tar.Header{Name: "etc/group", Mode: 0o644, Typeflag: tar.TypeReg}, []byte("root:x:0:\nnogroup:x:65534:\n"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := o.Client.ImageImport(t.Context(), image.ImportSource{Source: &buf, SourceName: "-"}, testImage, image.ImportOptions{})
	if err == nil {
		_, err = io.Copy(io.Discard, r)
		_ = r.Close() // read to its end
	}
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, o Options) *Engine {
	t.Helper()
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestConformance(t *testing.T) {
	needDocker(t)
	containertest.Run(t, func(t *testing.T) containertest.Setup {
		o := needDocker(t)
		o.Parent = fmt.Sprintf("/qosctl-docker-test-%d-%d", os.Getpid(), time.Now().UnixNano()%1e6)
		t.Cleanup(func() { clean(t, o) })
		return setupOf(t, o)
	})
}

// setupOf is what the suite is run with.
func setupOf(t *testing.T, o Options) containertest.Setup {
	t.Helper()
	return containertest.Setup{
		Engine: open(t, o), Shared: true,
		Reopen: func(t *testing.T) container.Engine { t.Helper(); return open(t, o) },
		Image:  testImage, Labels: map[string]string{"qosctl.job": "test"},
		QuotaFile: func(g cgroup.Group) string {
			if name := filepath.Join("/sys/fs/cgroup/cpu", g.CPU, "cpu.cfs_quota_us"); exists(name) {
				return name
			}
			return filepath.Join("/sys/fs/cgroup", g.CPU, "cpu.max")
		},
	}
}

// clean removes a test's cgroups; Docker leaves the parents it makes.
func clean(t *testing.T, o Options) {
	t.Helper()
	e := open(t, o)
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	list, err := e.List(ctx)
	if err != nil {
		t.Error(err)
	}
	for _, i := range list {
		if err := e.Stop(ctx, i.ID, 0); err == nil || i.State != container.Running {
			err = e.Remove(ctx, i.ID)
			t.Errorf("container %s is left (%v)", i.ID, err)
		}
	}
	if left, err := filepath.Glob("/sys/fs/cgroup/*" + o.Parent + "/*/cgroup.procs"); err != nil || len(left) > 0 {
		t.Errorf("cgroups are left: %v, %v", left, err)
	}
	if err := removeEverywhere("/sys/fs/cgroup", o.Parent); err != nil {
		t.Error(err)
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
