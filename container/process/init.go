package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"qosctl/container"
)

// defaultPath is PATH of a job that sets none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// initMain is the payload until it becomes the job's command. It returns only if that failed, after it has reported why.
func initMain(dir string) int {
	runtime.LockOSThread() // some of what follows belongs to the thread that execs
	unix.CloseOnExec(replyFD)
	unix.CloseOnExec(goFD)
	f := becomePayload(dir)
	_ = unix.Close(goFD) // the shim waits on both
	w := os.NewFile(replyFD, "fault")
	if err := errors.Join(json.NewEncoder(w).Encode(f), w.Close()); err != nil {
		return container.CodeSetup // nobody hears it: the shim is gone
	}
	return f.Code
}

// becomePayload takes on all that the spec says, then waits until it was put into the container's cgroup and written down, and execs:
// what it has used itself until then is not charged to the job.
func becomePayload(dir string) *fault {
	var c config
	if err := readFile(dir, configName, &c); err != nil {
		return &fault{container.CodeSetup, err.Error()}
	}
	// The shim's log, for what was done instead of what was asked for: standard error is the job's.
	lf, err := os.OpenFile(filepath.Join(dir, shimLogName), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return &fault{container.CodeSetup, err.Error()}
	}
	if err = c.enter(dir, slog.New(slog.NewTextHandler(lf, nil))); err != nil {
		return &fault{container.CodeSetup, err.Error()}
	}
	argv, env := c.command()
	path, err := lookup(argv[0], env)
	if err != nil {
		return execFault(argv[0], err)
	}
	if err = rendezvous(); err != nil {
		return &fault{container.CodeSetup, err.Error()}
	}
	if err = defaultSignals(); err == nil {
		err = os.NewSyscallError("exec", syscall.Exec(path, argv, env))
	}
	return execFault(argv[0], err)
}

// rendezvous says that this process is ready and waits for the word to go.
func rendezvous() error {
	b := []byte{1}
	if _, err := unix.Write(goFD, b); err != nil {
		return fmt.Errorf("the shim went away before the command was run: %w", err)
	}
	n, err := unix.Read(goFD, b)
	if n != 1 {
		return fmt.Errorf("the shim went away before the command was run: %w", errors.Join(io.ErrUnexpectedEOF, err))
	}
	return nil
}

// enter sets up everything but the command: root, user, working directory.
func (c config) enter(dir string, log *slog.Logger) error {
	unix.Umask(0o022)
	if c.ownRoot() {
		if err := c.makeRoot(dir, log); err != nil {
			return err
		}
	}
	work := c.Spec.Dir
	if work == "" {
		// The engine's own sandbox, entered before rights are dropped: the way to it need not be open to the job's user.
		if err := os.Chdir(filepath.Join(dir, sandboxName)); err != nil {
			return fmt.Errorf("enter the sandbox: %w", err)
		}
	}
	if err := become(c.Spec.User); err != nil {
		return err
	}
	if work != "" {
		if err := os.Chdir(work); err != nil {
			return fmt.Errorf("enter the working directory as user %d: %w", c.Spec.User.UID, err)
		}
	}
	return nil
}

// become drops to a user, for good.
func become(u container.User) error {
	if os.Geteuid() == 0 {
		if err := syscall.Setgroups(u.Groups); err != nil {
			return fmt.Errorf("set groups %v: %w", u.Groups, err)
		}
		if err := syscall.Setresgid(u.GID, u.GID, u.GID); err != nil {
			return fmt.Errorf("set group %d: %w", u.GID, err)
		}
		if err := syscall.Setresuid(u.UID, u.UID, u.UID); err != nil {
			return fmt.Errorf("set user %d: %w", u.UID, err)
		}
	}
	if os.Geteuid() != u.UID || os.Getegid() != u.GID {
		return fmt.Errorf("user %d, group %d: this process is %d, %d and can't change that", u.UID, u.GID, os.Geteuid(), os.Getegid())
	}
	if u.UID == 0 {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	return nil
}

// command is what is to be executed, and in which environment.
func (c config) command() (argv, env []string) {
	argv = c.Spec.Args
	if c.Spec.Command != "" {
		argv = []string{"/bin/sh", "-c", c.Spec.Command}
	}
	env = append([]string(nil), c.Spec.Env...)
	for _, kv := range env {
		if strings.HasPrefix(kv, "PATH=") {
			return argv, env
		}
	}
	return argv, append(env, "PATH="+defaultPath)
}

// lookup finds a program on the PATH that its environment has.
func lookup(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			if err := os.Setenv("PATH", v); err != nil {
				return "", err
			}
		}
	}
	p, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrDot) {
		err = nil // the job's PATH may well name its working directory
	}
	return p, err
}

// execFault says in words, and by the codes of a shell, why a command could not be run.
func execFault(name string, err error) *fault {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, exec.ErrNotFound):
		return &fault{container.CodeNotFound, fmt.Sprintf("command %q not found: %v", name, err)}
	case errors.Is(err, syscall.ENOEXEC):
		return &fault{container.CodeNoExec, fmt.Sprintf("command %q is no program for this machine, and no script with a #! line: %v", name, err)}
	}
	return &fault{container.CodeNoExec, fmt.Sprintf("command %q can't be executed: %v", name, err)}
}

// lastSignal is the greatest signal number of Linux.
const lastSignal = 64

// defaultSignals gives back to the payload what it may expect: every signal at its default, none blocked. Whoever started the agent may
// have ignored some (nohup), and that is inherited. A handler of Go's own would be reset by the exec anyhow.
func defaultSignals() error {
	var act [4]uintptr // struct kernel_sigaction: handler SIG_DFL, no flags, no mask
	for n := uintptr(1); n <= lastSignal; n++ {
		if n == uintptr(unix.SIGKILL) || n == uintptr(unix.SIGSTOP) {
			continue
		}
		_, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, n, uintptr(unsafe.Pointer(&act)), 0, 8, 0, 0) //nolint:gosec // no other way to sigaction
		if e != 0 {
			return fmt.Errorf("reset signal %d: %w", n, e)
		}
	}
	var none uint64
	_, _, e := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, uintptr(unix.SIG_SETMASK), uintptr(unsafe.Pointer(&none)), 0, 8, 0, 0) //nolint:gosec // likewise
	if e != 0 {
		return fmt.Errorf("reset the signal mask: %w", e)
	}
	return nil
}
