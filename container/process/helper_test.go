package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"qosctl/container"
	"qosctl/container/containertest"
)

// helperStage makes the test binary a helper; the next argument is the directory of the containers, the rest the shim's.
const helperStage = "helper"

func helperMain(args []string) int {
	if os.Getenv("LISTEN_FDS") != "" {
		_ = os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid())) // as systemd does; no parent can
	}
	if err := Serve(args[0], append([]string{"/proc/self/exe"}, args[1:]...)); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 1
}

// sockets makes what systemd makes of qosctl-job.socket: each connection becomes a helper's descriptor 3.
func sockets(t *testing.T, o *Options) {
	t.Helper()
	dir, err := os.MkdirTemp("", "qosctl-helper-*") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	o.Helper = filepath.Join(dir, "job.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: o.Helper})
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		wait.Wait()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	shim := o.Shim[1:]
	wait.Go(func() {
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			wait.Go(func() { activate(t, conn, o.Dir, shim) })
		}
	})
}

// activate is the life of one instance of the unit.
func activate(t *testing.T, conn *net.UnixConn, dir string, shim []string) {
	f, err := conn.File()
	if err = errors.Join(err, conn.Close()); err != nil {
		t.Error(err)
		return
	}
	cmd := exec.Command("/proc/self/exe", append([]string{helperStage, dir}, shim...)...)
	cmd.Env, cmd.ExtraFiles, cmd.Stderr = append(os.Environ(), "LISTEN_FDS=1"), []*os.File{f}, os.Stderr
	if err := errors.Join(cmd.Start(), f.Close()); err != nil {
		t.Error(err)
		return
	}
	_ = cmd.Wait() // its exit status is the container's file's to say
}

// An engine behaves as it does when it starts the shims itself.
func TestConformanceByAHelper(t *testing.T) {
	t.Parallel()
	containertest.Run(t, func(t *testing.T) containertest.Setup {
		o := options(t)
		sockets(t, &o)
		return containertest.Setup{
			Engine:    open(t, o),
			Reopen:    func(t *testing.T) container.Engine { return open(t, o) },
			QuotaFile: quotaFile,
			Other:     &container.User{UID: 65534, GID: 65534, Groups: []int{12345}},
		}
	})
}

// Whenever the command may run a failed start says so, and never else.
func TestStartByAHelperInDoubt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		when    string
		doubt   bool
		state   container.State
		command string
	}{
		{dieFirst, false, container.Created, "true"},
		{dieClaimed, false, container.Exited, "true"},
		{dieSilent, true, container.Running, "echo ran; exec sleep 1000"},
	} {
		t.Run(c.when, func(t *testing.T) {
			t.Parallel()
			o := options(t)
			o.Shim = []string{"/proc/self/exe", dyingShim, c.when}
			sockets(t, &o)
			e := open(t, o)
			if err := e.Create(t.Context(), container.Spec{ID: "x", Command: c.command}); err != nil {
				t.Fatal(err)
			}
			defer stopAll(t, e)
			if err := e.Start(t.Context(), "x"); err == nil || errors.Is(err, container.ErrStarted) != c.doubt {
				t.Errorf("start: %v", err)
			}
			if i, err := e.Inspect(t.Context(), "x"); err != nil || i.State != c.state {
				t.Errorf("%+v, %v", i, err)
			}
		})
	}
}

// A helper that nobody is behind, and one that is slow to come, start nothing: the engine has given no order.
func TestNoHelperStartsNothing(t *testing.T) {
	t.Parallel()
	o := options(t)
	dir := t.TempDir()
	o.Helper = filepath.Join(dir, "s")
	e := open(t, o)
	if err := e.Create(t.Context(), container.Spec{ID: "x", Command: "true"}); err != nil {
		t.Fatal(err)
	}
	defer stopAll(t, e)
	if err := e.Start(t.Context(), "x"); err == nil || errors.Is(err, container.ErrStarted) || !strings.Contains(err.Error(), "qosctl-job.socket") {
		t.Errorf("without a socket: %v", err)
	}
	l, err := net.Listen("unix", o.Helper) // it never accepts
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // of a test
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := e.Start(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, container.ErrStarted) {
		t.Errorf("with a silent helper: %v", err)
	}
	if i, err := e.Inspect(t.Context(), "x"); err != nil || i.State != container.Created {
		t.Errorf("%+v, %v", i, err)
	}
}

// A helper takes the id of a container that waits to be started, nothing else.
func TestWhatAHelperRefuses(t *testing.T) {
	t.Parallel()
	o := options(t)
	sockets(t, &o)
	open(t, o)
	secret := filepath.Join(filepath.Dir(o.Dir), "outside")
	if err := os.MkdirAll(secret, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(secret, shimLogName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for order, want := range map[string]string{
		`{"container":"../outside"}`:        "no container's id",
		`{"container":""}`:                  "no container's id",
		`{"container":"none"}`:              "no container waits",
		`{"container":"x","cmd":"/bin/sh"}`: "unknown field",
		`x`:                                 "invalid character",
		`{"container":"` + strings.Repeat("x", maxReply): "unexpected EOF",
	} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "unix", o.Helper)
		if err != nil {
			t.Fatal(err)
		}
		in := json.NewDecoder(conn)
		var h hello
		if err := in.Decode(&h); err != nil || h.PID <= 0 {
			t.Fatalf("hello %+v, %v", h, err)
		}
		if _, err := io.WriteString(conn, order+"\n"); err != nil {
			t.Fatal(err)
		}
		var r reply
		if err := in.Decode(&r); err != nil || !strings.Contains(r.Error, want) {
			t.Errorf("%.60s: %+v, %v, want %q", order, r, err, want)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := Serve(o.Dir, o.Shim); err == nil || !strings.Contains(err.Error(), "qosctl-job.socket") {
		t.Errorf("without a connection: %v", err)
	}
}
