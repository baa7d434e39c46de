package node

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMirror(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Types: deb\n# http://snapshot.example/archive/debian/2025\nURIs: http://mirror.example/debian\nSuites: x\n": "http://mirror.example/debian",
		"deb [signed-by=/x] http://mirror.example/debian/ trixie main\n":                                             "http://mirror.example/debian/",
		"deb http://mirror.example/debian-security trixie-security main\n":                                           "",
	} {
		if got := readMirror(strings.NewReader(text)); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// TestNode starts a node of each release, runs a container in it, and looks for what is left afterwards.
func TestNode(t *testing.T) {
	if os.Getenv("QOSCTL_E2E") == "" || os.Geteuid() != 0 {
		t.Skip("end-to-end tests run as root with QOSCTL_E2E=1: make e2e")
	}
	for _, release := range []string{Trixie, Forky} {
		t.Run(release, func(t *testing.T) {
			ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
			defer stop()
			begin := time.Now()
			n, err := Start(ctx, Options{Name: "test-" + release, Release: release})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := n.Stop(); err != nil {
					t.Error(err)
				}
			}()
			t.Logf("started in %s", time.Since(begin))
			tarball := `mkdir -p /tmp/i/bin && cp /bin/busybox /tmp/i/bin/ && ln -s busybox /tmp/i/bin/sh && tar -C /tmp/i -c . | docker import - shell`
			if _, err := n.Run(ctx, "sh", "-c", tarball); err != nil {
				t.Fatal(err)
			}
			out, err := n.Run(ctx, "docker", "run", "--rm", "--network", "none", "--cpus", "0.5", "shell", "/bin/sh", "-c", "echo hello")
			if err != nil || out != "hello\n" {
				t.Errorf("got %q, %v", out, err)
			}
			if err := n.KillDocker(ctx, false); err != nil {
				t.Error(err)
			}
			if err := n.AwaitDocker(ctx); err != nil {
				t.Error(err)
			}
			if err := n.Stop(); err != nil {
				t.Error(err)
			}
			left, err := filepath.Glob(cgroupRoot + "/*/" + prefix + "test-" + release)
			if _, serr := os.Stat(n.dir); err != nil || len(left) > 0 || !os.IsNotExist(serr) {
				t.Errorf("left: %v, %s (%v, %v)", left, n.dir, err, serr)
			}
		})
	}
}
