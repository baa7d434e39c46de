package ckpt

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dcontainer "github.com/docker/docker/api/types/container"
	"golang.org/x/sys/unix"
)

// TestARestoreThatHangsOutlivesItsAgent: CRIU hangs in a restore whose agent was killed. The next one waits for it, for as long as a restore may
// take, and ends it; after that the checkpoint is restored.
func TestARestoreThatHangsOutlivesItsAgent(t *testing.T) {
	r := newRig(t, "runtime")
	r.start(r.spec(1, counts+`done`))
	r.await("it counts", func(out string) bool { return strings.Count(out, "\n") > 10 })
	m, err := r.take(false)
	if err != nil {
		t.Fatal(err)
	}
	s := r.spec(2, counts+`done`)
	d, ok := r.k.chosen().(*runtimeDriver)
	if !ok || d.ready(&s) != nil {
		t.Fatal("it can't be made ready")
	}
	work := filepath.Join(r.k.store.path(r.k.o.scratch()), s.ID)
	b, err := json.Marshal(m.ref())
	if err := errors.Join(err, r.o.Engine.Create(t.Context(), s), os.Mkdir(work, 0o700), os.WriteFile(filepath.Join(work, marker), b, 0o600)); err != nil {
		t.Fatal(err)
	}
	g := r.group()
	r.k.makeParent(g)
	order := restore{Container: s.ID, Images: filepath.Join(r.k.store.path(m.ref().partial()), imagesName), Work: work, Counter: g}
	c, err := d.prepareRestore(order, true)
	if err := errors.Join(err, c.writeRestore(restoreFile{Version: 1, Images: order.Images, Work: work})); err != nil {
		t.Fatal(err)
	}
	killed, kill := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	go func() { asked <- r.o.Docker.ContainerStart(killed, s.ID, dcontainer.StartOptions{}) }()
	late, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	if hit := strike(late, t, filepath.Join(work, restoreLog), "criu", unix.SIGSTOP); len(hit) == 0 {
		t.Skip("SKIPPED, criu was too fast to be hit")
	}
	kill()
	if err := <-asked; err == nil {
		t.Skip("SKIPPED, the restore had ended")
	}
	o := r.o
	o.RestoreTime = 2 * time.Second
	next, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	begin := time.Now()
	out, err := next.Resumed(t.Context(), m.ref(), s.ID)
	if !errors.Is(err, ErrNone) {
		t.Errorf("it was let go: %+v, %v", out, err)
	}
	if took := time.Since(begin); took < time.Second || took > 20*time.Second {
		t.Errorf("it was looked after for %s", took)
	}
	r.quiet()
	if _, err := r.k.Restore(t.Context(), m.ref(), r.spec(2, counts+`done`)); err != nil {
		t.Fatal(err)
	}
	r.n = 2
	r.await("it counts again", func(out string) bool { return strings.Count(out, "\n") > 3 })
}
