package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAnAgentThatCannotStartSaysWhy has the engine of processes refuse to open, as it does for want of rights on cgroups.
func TestAnAgentThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.Node, cfg.Listen, cfg.Mesos.URL, cfg.Engine.Docker = "testnode", "127.0.0.1:0", "", ""
	cfg.DataDir, cfg.RunDir = filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "run")
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cfg.DataDir, "containers"), nil, 0o600); err != nil { // where a directory is to be
		t.Fatal(err)
	}
	a, err := New(Options{Config: cfg})
	if err == nil || a != nil {
		t.Fatalf("agent %v, error %v", a, err)
	}
	if text := err.Error(); !strings.Contains(text, "cgroups") && !strings.Contains(text, "containers") {
		t.Errorf("error %q says nothing of cgroups or containers", text)
	}
}
