package ckpt

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// helperWith listens as systemd does for a helper, whose dumps are run's.
func helperWith(t *testing.T, root string, run func(dumpOrder, context.Context) error) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				defer c.Close()
				_ = serveDump(context.WithoutCancel(t.Context()), c, root, run) // the client is told
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close() // ends the loop
		wait.Wait()
	})
	return socket
}

func checkpointDirs(t *testing.T) (root string, o dumpOrder) {
	t.Helper()
	root = t.TempDir()
	o = dumpOrder{Container: strings.Repeat("0a", 32), Images: filepath.Join(root, "j", "images"), Work: filepath.Join(root, "j", "work"), Locks: true}
	for _, d := range []string{o.Images, o.Work} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return root, o
}

func TestAHelperTakesADump(t *testing.T) {
	t.Parallel()
	root, o := checkpointDirs(t)
	fails := false
	socket := helperWith(t, root, func(got dumpOrder, _ context.Context) error {
		if got != o {
			t.Errorf("ordered %+v, got %+v", o, got)
		}
		if fails {
			return errors.New("runc: it has words of its own")
		}
		return nil
	})
	if err := askDump(t.Context(), socket, o); err != nil {
		t.Error(err)
	}
	fails = true
	if err := askDump(t.Context(), socket, o); err == nil || err.Error() != "runc: it has words of its own" {
		t.Error(err)
	}
	if err := askDump(t.Context(), socket+"x", o); err == nil || !strings.Contains(err.Error(), "qosctl-dump.socket") {
		t.Error(err)
	}
}

// It takes a container's id and directories of checkpoints, nothing else.
func TestAHelperRefuses(t *testing.T) {
	t.Parallel()
	root, good := checkpointDirs(t)
	out := t.TempDir()
	if err := os.Symlink(out, filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	socket := helperWith(t, root, func(o dumpOrder, _ context.Context) error {
		t.Errorf("it has run %+v", o)
		return nil
	})
	for name, change := range map[string]func(*dumpOrder){
		"a name":                    func(o *dumpOrder) { o.Container = "job" },
		"a flag":                    func(o *dumpOrder) { o.Container = "--help" },
		"a path":                    func(o *dumpOrder) { o.Container = "../" + o.Container },
		"images elsewhere":          func(o *dumpOrder) { o.Images = out },
		"work elsewhere":            func(o *dumpOrder) { o.Work = "/etc" },
		"out by dots":               func(o *dumpOrder) { o.Images = filepath.Join(root, "j") + "/../../" + filepath.Base(out) },
		"out by a link":             func(o *dumpOrder) { o.Images = filepath.Join(root, "link") },
		"the root itself":           func(o *dumpOrder) { o.Work = root },
		"a directory that is not":   func(o *dumpOrder) { o.Work = filepath.Join(root, "none") },
		"nothing at all, by length": func(o *dumpOrder) { *o = dumpOrder{} },
	} {
		o := good
		change(&o)
		if err := askDump(t.Context(), socket, o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, text := range []string{`{"container":1}`, `{"shell":"sh"}`, `nonsense`, strings.Repeat(" ", maxOrder+1)} {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte(text)) // the helper may have closed
		answer := make([]byte, 1000)
		n, _ := c.Read(answer) // an error is no answer
		if !strings.Contains(string(answer[:n]), "error") {
			t.Errorf("%.20q is answered %q", text, answer[:n])
		}
		_ = c.Close() // all was said
	}
}

// A dump ends when its agent says so, and goes on when that was killed.
func TestAHelperOutlivesItsAgent(t *testing.T) {
	t.Parallel()
	root, o := checkpointDirs(t)
	begun, let, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	socket := helperWith(t, root, func(_ dumpOrder, ctx context.Context) error {
		close(begun)
		select {
		case <-ctx.Done():
		case <-let:
		}
		ended <- ctx.Err()
		return ctx.Err()
	})
	ctx, stop := context.WithCancelCause(t.Context())
	answered := make(chan error, 1)
	var wait sync.WaitGroup
	defer wait.Wait()
	wait.Go(func() { answered <- askDump(ctx, socket, o) })
	<-begun
	late := errors.New("it took too long")
	stop(late)
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the dump ended with %v", err)
	}
	if err := <-answered; !errors.Is(err, late) {
		t.Errorf("the agent was told %v", err)
	}

	begun = make(chan struct{})
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte(`{"container":"` + o.Container + `","images":"` + o.Images + `","work":"` + o.Work + `"}`)); err != nil {
		t.Fatal(err)
	}
	<-begun
	if err := c.Close(); err != nil { // killed
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Errorf("the dump was ended with %v", err)
	case <-time.After(100 * time.Millisecond): // it goes on
	}
	close(let)
	if err := <-ended; err != nil {
		t.Errorf("the dump ended with %v", err)
	}
}
