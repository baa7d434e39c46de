// Package zktest runs a real ZooKeeper, Debian's, for tests.
package zktest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Server is a ZooKeeper of the test's own on loopback. What was written to it outlives its stop.
type Server struct {
	Addr string

	t    *testing.T
	conf string
	cmd  *exec.Cmd
	out  bytes.Buffer
}

// Start starts one, which ends with the test. ZooKeeper and Java are installed if they aren't there, where QOSCTL_E2E says that tests may.
func Start(t *testing.T) *Server {
	t.Helper()
	if os.Getenv("QOSCTL_E2E") == "" {
		t.Skip("needs ZooKeeper and Java, which `make e2e` installs: set QOSCTL_E2E=1")
	}
	if _, err := os.Stat("/usr/share/java/zookeeper.jar"); err != nil {
		install(t)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Addr: l.Addr().String(), t: t}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(s.Addr)
	dir := t.TempDir()
	s.conf = filepath.Join(dir, "zoo.cfg")
	text := fmt.Sprintf("tickTime=500\ndataDir=%s\nclientPort=%s\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n", dir, port)
	if err := os.WriteFile(s.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			t.Logf("ZooKeeper said:\n%s", s.out.Bytes()[max(0, s.out.Len()-4000):])
		}
	})
	s.Start()
	return s
}

func install(t *testing.T) {
	t.Helper()
	const apt = "export DEBIAN_FRONTEND=noninteractive; i='apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends zookeeper default-jre-headless'; $i || { apt-get update && $i; }"
	out, err := exec.CommandContext(t.Context(), "sh", "-c", apt).CombinedOutput()
	if err != nil {
		t.Fatalf("install ZooKeeper: %v\n%s", err, out[max(0, len(out)-2000):])
	}
}

// Start starts one that was stopped, on what it had.
func (s *Server) Start() {
	s.t.Helper()
	// Debian's jars name each other in their manifests
	s.cmd = exec.CommandContext(context.WithoutCancel(s.t.Context()), "java", "-Xmx128m", "-cp", "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar:/usr/share/java/*",
		"org.apache.zookeeper.server.ZooKeeperServerMain", s.conf)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	if err := s.cmd.Start(); err != nil {
		s.t.Fatalf("start ZooKeeper: %v", err)
	}
}

// Stop kills it.
func (s *Server) Stop() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Kill() // its writes are on disk
	_ = s.cmd.Wait()
	s.cmd = nil
}
