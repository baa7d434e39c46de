package agent

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRegistryAuthIsWhatWasFetchedElseTheNodes(t *testing.T) {
	t.Parallel()
	node := "/etc/docker/config.json"
	lay := func(names ...string) string {
		dir := t.TempDir()
		for _, n := range names {
			path := filepath.Join(dir, n)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	both, old, linked := lay(".docker/config.json", ".dockercfg"), lay(".dockercfg"), lay("elsewhere")
	if err := os.Symlink("/etc/shadow", filepath.Join(linked, ".dockercfg")); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		both: both + "/.docker/config.json", old: old + "/.dockercfg", lay(): node, "": node,
		linked: node, // the agent reads it as root
	} {
		if got := registryAuth(dir, node); got != want {
			t.Errorf("in %q: %q, want %q", dir, got, want)
		}
	}
}

func TestOfferedPort(t *testing.T) {
	t.Parallel()
	env := []string{"PORT=31001", "PORT0=31002", "PORT1=x", "PORT2=70000", "PORT10=31003"}
	for i, want := range map[int]int{0: 31002, 1: 0, 2: 0, 3: 0, 10: 31003} {
		if got := offeredPort(env, i); got != want {
			t.Errorf("port %d: %d, want %d", i, got, want)
		}
	}
}
