package e2e

import (
	"context"
	"errors"
	"fmt"
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
			ctx, stop := context.WithTimeout(t.Context(), 45*time.Minute)
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
				out, err := n.Run(ctx, "/tests/"+name, "-test.v", "-test.timeout=20m", "-test.run="+pattern)
				passed := strings.Count(out, "--- PASS:")
				t.Logf("%s: %d passed, %d skipped", pkg, passed, strings.Count(out, "--- SKIP:"))
				if only != "" {
					t.Log(out)
				}
				if err != nil || only == "" && !strings.Contains(out, "--- PASS: Test"+map[string]string{"docker.test": "Conformance", "ckpt.test": "Generations"}[name]) {
					t.Errorf("%s: %v\n%s", pkg, status(err), failures(out))
				}
			}
		})
	}
}

// status is an error without what the program has written.
func status(err error) string {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.Error()
	}
	return fmt.Sprint(err)
}

// failures are what the tests of a verbose output said that have failed, and its end.
func failures(out string) string {
	const most = 24 << 10
	said, now := map[string]string{}, ""
	var b strings.Builder
	for l := range strings.Lines(out) {
		f := strings.Fields(l)
		switch {
		case len(f) == 3 && f[0] == "===":
			now = f[2]
		case len(f) > 2 && f[0] == "---" && f[1] == "FAIL:":
			b.WriteString(string(tail([]byte(said[f[2]]), most/4)) + l)
		case len(f) > 2 && f[0] == "---":
		default:
			said[now] += l
		}
		if b.Len() > most {
			return b.String() + "… and more\n"
		}
	}
	return b.String() + string(tail([]byte(said[now]), most/4)) // of one that has panicked, or hangs
}

func TestFailuresSayWhatFailed(t *testing.T) {
	t.Parallel()
	const out = `=== RUN   TestA
=== RUN   TestA/x
    a_test.go:1: wrong
=== RUN   TestA/y
    a_test.go:2: fine
--- FAIL: TestA (0.10s)
    --- FAIL: TestA/x (0.05s)
    --- PASS: TestA/y (0.05s)
=== RUN   TestB
panic: at the end
`
	const want = "--- FAIL: TestA (0.10s)\n    a_test.go:1: wrong\n    --- FAIL: TestA/x (0.05s)\npanic: at the end\n"
	if got := failures(out); got != want {
		t.Errorf("got %q, want %q", got, want)
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
