package ociruntime

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// TestStartWhoseOrderIsGone: what stands frozen is let go by runc, what runs is left alone, and what was not restored is started.
func TestStartWhoseOrderIsGone(t *testing.T) {
	t.Parallel()
	root := tree(t)
	restored, plain := bundle(t, filepath.Join(root, "c.restore")), t.TempDir()
	if err := os.WriteFile(filepath.Join(plain, "config.json"), []byte(`{}`), 0o600); err != nil {
		t.Fatal(err)
	}
	start := []string{"--root", "/r", "start", "x"}
	for _, c := range []struct {
		status, bundle string
		want           []string
	}{
		{"paused", restored, []string{"--root", "/r", "resume", "x"}},
		{"running", restored, nil},
		{"created", restored, start},
		{"paused", plain, start},
	} {
		runc := filepath.Join(t.TempDir(), "runc")
		script := fmt.Sprintf("#!/bin/sh\necho '{\"status\":%q,\"bundle\":%q}'\n", c.status, c.bundle)
		syscall.ForkLock.RLock() // a program that another test is just starting would hold it open, and it be busy
		err := os.WriteFile(runc, []byte(script), 0o700)
		syscall.ForkLock.RUnlock()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := rewrite(parse(start), Config{Root: root}, runc); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v, want %q", c.status, got, err, c.want)
		}
	}
}
