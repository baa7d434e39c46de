package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"qosctl/container"
)

// fault is why a payload could not be run, as its init stage reports it.
type fault struct {
	Code int    `json:"code"`
	Text string `json:"text"`
}

func (f *fault) Error() string { return f.Text }

// launch starts the init stage, and when that is ready moves it into the container's cgroup, writes pid.json, lets it go, and hears
// whether its exec succeeded. Were the shim killed on the way, the init stage would see its socket closed and end without running anything.
func (s *shim) launch() error {
	files, closeFiles, err := s.outputs()
	if err != nil {
		return err
	}
	defer closeFiles()
	errR, errW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer errR.Close() //nolint:errcheck // nothing was written
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return errors.Join(fmt.Errorf("socket pair: %w", err), errW.Close())
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "go"), os.NewFile(uintptr(pair[1]), "go")
	defer ours.Close() //nolint:errcheck // its reader sees the end of it

	sys := &syscall.SysProcAttr{Setsid: true}
	if s.conf.ownRoot() {
		sys.Cloneflags = syscall.CLONE_NEWNS
	}
	p, err := os.StartProcess("/proc/self/exe", append(append([]string(nil), s.self...), stageInit, s.dir), &os.ProcAttr{
		Dir: "/", Env: shimEnv(), Files: append(files, errW, theirs), Sys: sys,
	})
	if err = errors.Join(err, errW.Close(), theirs.Close()); err != nil {
		return fmt.Errorf("start the payload: %w", err)
	}
	pid := p.Pid
	ready, err := s.release(pid, ours)
	if err = errors.Join(p.Release(), err); err == nil {
		err = hearFault(errR)
	}
	if err == nil && !ready {
		err = errors.New("it was killed before its command was run")
	}
	if err != nil {
		return errors.Join(err, ours.Close(), reapChild(pid))
	}
	return nil
}

// release lets an init stage go once it is ready, in its cgroup and written down. One that closes its socket instead is not ready: it has a
// fault to tell, or was killed.
func (s *shim) release(pid int, conn *os.File) (ready bool, err error) {
	b := []byte{0}
	if n, err := conn.Read(b); n == 0 {
		if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
			return false, nil
		}
		return false, fmt.Errorf("wait for the payload: %w", err)
	}
	if err = s.cg.Join(s.conf.Cgroup, pid); err != nil {
		return false, err
	}
	if err = s.note(pid); err != nil {
		return false, err
	}
	_, err = conn.Write(b)
	return true, err
}

// reapChild ends and collects an init stage that never became a payload.
func reapChild(pid int) error {
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// hearFault reads the init stage's pipe. Closed without a word: the exec succeeded.
func hearFault(r io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(r, maxReply))
	if err != nil {
		return fmt.Errorf("hear from the payload: %w", err)
	}
	if len(b) == 0 {
		return nil
	}
	f := &fault{}
	if err = json.Unmarshal(b, f); err != nil {
		return fmt.Errorf("hear from the payload: %w", err)
	}
	return f
}

// outputs opens the payload's standard streams: it writes to the files itself, nothing is copied.
func (s *shim) outputs() (files []*os.File, closeAll func(), err error) {
	closeAll = func() {
		for _, f := range files {
			_ = f.Close() // the payload has its own
		}
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		return nil, nil, err
	}
	files = append(files, f)
	for _, n := range []container.Stream{container.Stdout, container.Stderr} {
		f, err := os.OpenFile(filepath.Join(s.dir, string(n)), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		files = append(files, f)
	}
	return files, closeAll, nil
}

// ownRoot reports whether the container needs a mount namespace.
func (c config) ownRoot() bool { return c.Image != "" || len(c.Spec.Mounts) > 0 }
