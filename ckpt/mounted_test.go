package ckpt

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// An overlay that is held outlives its unmounting, is gone after its release, and can be mounted again then.
func TestMounted(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, mounting needs root")
	}
	dir := t.TempDir()
	var d [4]string
	for i, name := range []string{"lower", "upper", "work", "merged"} {
		d[i] = filepath.Join(dir, name)
		if err := os.Mkdir(d[i], 0o700); err != nil {
			t.Fatal(err)
		}
	}
	mount := func() {
		t.Helper()
		if err := unix.Mount("overlay", d[3], "overlay", 0, "lowerdir="+d[0]+",upperdir="+d[1]+",workdir="+d[2]); err != nil {
			t.Skipf("SKIPPED, needs an overlay on %s: %v", dir, err)
		}
		t.Cleanup(func() { _ = unix.Unmount(d[3], unix.MNT_DETACH) })
	}
	mount()
	var m mounts
	if err := m.free(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	release := m.hold("c", d[3])
	held, err := unix.Open(d[3], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(d[3], 0); err == nil {
		t.Fatal("it was not held")
	}
	if err := unix.Close(held); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(d[3], 0); err == nil {
		t.Fatal("it was held by the test alone")
	}
	release()
	release()
	if err := m.free(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(d[3], 0); err != nil {
		t.Fatalf("it is still held: %v", err)
	}
	if len(m.going) != 0 {
		t.Errorf("%d are remembered", len(m.going))
	}
	m.hold("c", filepath.Join(dir, "nowhere"))()
	m.wait.Wait()
}
