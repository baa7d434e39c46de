package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qosctl/e2e/node"
	"qosctl/e2e/programs"
)

// TestOnNodes runs the tests of the packages that need a real Docker or CRIU in nodes of both kinds.
func TestOnNodes(t *testing.T) {
	if !wanted() {
		t.Skip("end-to-end tests run as root with QOSCTL_E2E=1: make e2e")
	}
	only := os.Getenv("QOSCTL_E2E_ONLY") // of a person who works on some tests; "": all, and the most important one must have run
	packages := map[string]string{"docker.test": "qosctl/container/docker", "ckpt.test": "qosctl/ckpt"}
	files := map[string]string{"/usr/libexec/qosctl/qosctl-runtime": filepath.Join(bin, "qosctl")}
	for name, pkg := range packages {
		out := filepath.Join(bin, name)
		build := exec.CommandContext(t.Context(), "go", "test", "-c", "-trimpath", "-o", out, pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build the tests of %s: %v: %s", pkg, err, text)
		}
		files["/tests/"+name] = out
	}
	files["/tests/programs.tar"] = buildPrograms(t)
	for _, c := range []struct {
		name string
		o    node.Options
		only map[string]string // test binary → pattern; nil: all of both
	}{
		{"trixie", node.Options{Release: node.Trixie}, nil},
		{"forky", node.Options{Release: node.Forky}, nil},
		// Here cgroup v2 has no cpu controller, so no limits; but runc 1.1 restores into the wrong cgroup with it, and counters are elsewhere.
		{"trixie with cgroup v2", node.Options{Release: node.Trixie, V2: true}, map[string]string{"ckpt.test": "^(TestGenerations|TestKeep|TestBack)$"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, stop := context.WithTimeout(t.Context(), 15*time.Minute)
			defer stop()
			c.o.Name, c.o.Files = nodeName(t, c.o.Release), files
			n, err := node.Start(ctx, c.o)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := n.Stop(); err != nil {
					t.Error(err)
				}
			}()
			for name, pkg := range packages {
				pattern, ok := c.only[name]
				if only != "" {
					pattern = only
				} else if c.only != nil && !ok {
					continue
				}
				out, err := n.Run(ctx, "/tests/"+name, "-test.v", "-test.timeout=8m", "-test.run="+pattern)
				passed := strings.Count(out, "--- PASS:")
				t.Logf("%s: %d passed, %d skipped", pkg, passed, strings.Count(out, "--- SKIP:"))
				if only != "" {
					t.Log(out)
				}
				if err != nil || only == "" && !strings.Contains(out, "--- PASS: Test"+map[string]string{"docker.test": "Conformance", "ckpt.test": "Generations"}[name]) {
					t.Errorf("%s: %v\n%s", pkg, err, tail([]byte(out), 6<<10))
				}
			}
		})
	}
}

// buildPrograms makes the image of the programs that must survive a checkpoint.
func buildPrograms(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	p, err := programs.Build(t.Context(), dir)
	if err != nil && !errors.Is(err, programs.ErrNoCompiler) {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "programs.tar"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Tar(f, nil), f.Close()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}
