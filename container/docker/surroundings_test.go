package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"qosctl/container"
)

// TestSurroundings runs a container with what Mesos' Docker containerizer gives it: another user, groups, the sandbox, an environment, arguments
// with the image's own words in them, and a read-only mount.
func TestSurroundings(t *testing.T) {
	o := needDocker(t)
	o.Parent = fmt.Sprintf("/qosctl-docker-around-%d", os.Getpid())
	e := open(t, o)
	t.Cleanup(func() { clean(t, o) })
	box, bound := t.TempDir(), t.TempDir()
	for _, d := range []string{box, bound, filepath.Dir(box), filepath.Dir(bound)} {
		if err := os.Chmod(d, 0o755); err != nil { //nolint:gosec // somebody else is to read it
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(box, "input"), []byte("fetched\n"), 0o644); err != nil { //nolint:gosec // likewise
		t.Fatal(err)
	}
	const id = "around-1"
	s := container.Spec{
		ID: id, Image: testImage, Network: "none", Labels: map[string]string{labelJob: "test"}, Dir: box, Env: []string{"A=two words", "MESOS_SANDBOX=/of/the/host"},
		User: container.User{UID: 1234, GID: 5678, Groups: []int{99}}, Mounts: []container.Mount{{Source: bound, Target: "/bound", ReadOnly: true}},
		Args: []string{"/bin/sh", "-c", `id -u; id -g; id -G; cat $MESOS_SANDBOX/input; echo "$A"; echo "$0 $1"; touch /bound/x 2>/dev/null || echo read-only`, "zero", "one"},
	}
	if err := errors.Join(e.Create(t.Context(), s), e.Start(t.Context(), id)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Remove(context.Background(), id); err != nil {
			t.Error(err)
		}
	})
	if x, err := e.Wait(t.Context(), id); err != nil || x.Code != 0 {
		t.Errorf("exit %+v, %v", x, err)
	}
	r, err := e.Logs(t.Context(), id, container.Stdout, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() //nolint:errcheck // only read
	got, err := io.ReadAll(r)
	if want := "1234\n5678\n5678 99\nfetched\ntwo words\nzero one\nread-only\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}
