package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A helper starts shims for an engine whose own process is confined, so that its jobs are not: they inherit from whoever starts them. It
// listens on a socket, and each connection becomes one shim. It speaks first, so that an engine which has given up meanwhile never starts
// anything: hello, then the engine's startOrder, then the shim's reply.
type (
	hello struct {
		PID int `json:"pid"` // of the shim that it becomes
	}
	startOrder struct {
		Container string `json:"container"` // its id
	}
)

// orderTime bounds how long a helper waits for its order. An engine gives it at once.
const orderTime = 10 * time.Second

// ask has the helper become a container's shim, and reads its reply; pid is 0 if none can have been started.
func (e *Engine) ask(ctx context.Context, id string) (rep reply, pid int, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", e.o.Helper)
	if err != nil {
		return reply{}, 0, fmt.Errorf("ask the helper for a shim (systemctl status qosctl-job.socket): %w", err)
	}
	defer conn.Close()                                                               //nolint:errcheck // all was said
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // wakes what follows
	defer stop()
	in := json.NewDecoder(io.LimitReader(conn, 2*maxReply))
	var h hello
	if err = in.Decode(&h); err == nil && h.PID <= 0 {
		err = fmt.Errorf("process %d", h.PID)
	}
	if err != nil {
		return reply{}, 0, fmt.Errorf("the helper's word before a start: %w", cause(ctx, err))
	}
	if err = json.NewEncoder(conn).Encode(startOrder{id}); err != nil {
		return reply{}, h.PID, fmt.Errorf("order a shim: %w", cause(ctx, err))
	}
	if err = in.Decode(&rep); err == nil {
		return rep, h.PID, nil
	}
	if errors.Is(err, io.EOF) { // it has ended, or ends: its last thread may still be on the way out
		gone, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_ = e.proc.waitChild(gone, h.PID) // whether it lives is looked at again
		return reply{}, h.PID, silent(h.PID)
	}
	return reply{}, h.PID, fmt.Errorf("hear from the shim: %w", cause(ctx, err))
}

// cause is why a context ended, if it has: a deadline in the past is how it wakes a read.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func silent(pid int) error {
	return fmt.Errorf("the shim (process %d) ended without an answer, see its %s", pid, shimLogName)
}

// Serve is a helper's life: it takes one order from the connection that its descriptor 3 is, as systemd hands it over, and becomes the shim
// of that container, which is in dir. shim is Options.Shim. It returns only if that failed, after it has said why.
func Serve(dir string, shim []string) error {
	conn, err := handedOver()
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // a failure is told below
	at, err := order(conn, dir)
	if err == nil {
		err = becomeShim(at, shim)
	}
	return errors.Join(err, json.NewEncoder(conn).Encode(reply{Error: err.Error()}))
}

// handedOver is the connection, by a second descriptor with deadlines. The first one stays for the shim.
func handedOver() (net.Conn, error) {
	if os.Getenv("LISTEN_FDS") != "1" || os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, errors.New("no connection was handed over: systemd starts this (qosctl-job.socket), not a person")
	}
	fd, err := unix.FcntlInt(replyFD, unix.F_DUPFD_CLOEXEC, replyFD+1)
	if err != nil {
		return nil, fmt.Errorf("the connection: %w", err)
	}
	f := os.NewFile(uintptr(fd), "connection")
	conn, err := net.FileConn(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("the connection: %w", err)
	}
	return conn, nil
}

// order says hello and hears which container is to be started; at is its directory, below dir.
func order(conn net.Conn, dir string) (at string, err error) {
	if err = conn.SetDeadline(time.Now().Add(orderTime)); err != nil {
		return "", fmt.Errorf("the order of a start: %w", err)
	}
	if err = json.NewEncoder(conn).Encode(hello{os.Getpid()}); err != nil {
		return "", fmt.Errorf("the order of a start: %w", err)
	}
	in := json.NewDecoder(io.LimitReader(conn, maxReply))
	in.DisallowUnknownFields()
	var o startOrder
	if err = in.Decode(&o); err != nil {
		return "", fmt.Errorf("the order of a start: %w", err)
	}
	if !idPattern.MatchString(o.Container) {
		return "", fmt.Errorf("the order of a start: %q is no container's id", o.Container)
	}
	return filepath.Join(dir, o.Container), conn.SetDeadline(time.Time{})
}

// becomeShim makes this process the shim of the container in dir, as spawn would have started it. It returns only if that failed.
func becomeShim(dir string, shim []string) error {
	logf, err := os.OpenFile(filepath.Join(dir, shimLogName), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("no container waits to be started: %w", err)
	}
	defer logf.Close() //nolint:errcheck // the shim's
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close() //nolint:errcheck // nothing was written
	for fd, f := range map[int]*os.File{0: null, 1: logf, 2: logf} {
		if err = unix.Dup3(int(f.Fd()), fd, 0); err != nil {
			return fmt.Errorf("standard streams of the shim: %w", err)
		}
	}
	if err = os.Chdir("/"); err != nil {
		return err
	}
	argv := append(append([]string{"qosctl"}, shim[1:]...), stageRun, dir)
	return os.NewSyscallError("exec", syscall.Exec(shim[0], argv, shimEnv()))
}
