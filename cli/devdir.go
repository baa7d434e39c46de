package cli

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// devDirectory is the directory of a development setup, locked for as long as that runs.
type devDirectory struct {
	path string
	lock *os.File
	made bool // by us: it goes again
}

// openDevDir makes and locks the directory. One that another user could have laid out is refused.
func openDevDir(path string) (*devDirectory, error) {
	d := &devDirectory{path: path}
	switch err := os.Mkdir(path, 0o755); {
	case err == nil:
		d.made = true
	case !errors.Is(err, os.ErrExist):
		return nil, withHint(fmt.Errorf("make the directory of dev: %w", err), "give another one with --dir")
	case !ownDir(path):
		return nil, withHint(fmt.Errorf("%s is not a directory of yours", path), "give another one with --dir")
	}
	if _, err := os.Lstat(filepath.Join(path, "lock")); err == nil {
		d.made = true // by one that was killed
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the directory of dev: %w", err)
	}
	d.lock = lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close() // it was never ours
		return nil, &exitStatus{exitConflict, withHint(fmt.Errorf("another `qosctl dev` runs in %s", path), "stop it, or give this one its own --dir and addresses")}
	}
	return d, nil
}

// remove takes away what the setup made, unless it is to be kept.
func (d *devDirectory) remove(keep bool) error {
	if keep {
		return nil
	}
	var errs []error
	for _, name := range []string{"run", "data", "devmesos", "agent.yaml", "lock"} {
		errs = append(errs, os.RemoveAll(filepath.Join(d.path, name)))
	}
	if d.made {
		if err := os.Remove(d.path); err != nil && !errors.Is(err, syscall.ENOTEMPTY) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove the directory of dev: %w", err)
	}
	return nil
}

// close lets the lock go.
func (d *devDirectory) close() {
	_ = d.lock.Close() // nothing was written to it
}

// checkPorts says which address is taken, before anything is started.
func (o devOpts) checkPorts() error {
	for _, p := range []struct{ flag, address string }{
		{"listen", o.listen}, {"marathon", o.marathon}, {"chronos", o.chronos}, {"mesos", o.mesos},
	} {
		if p.address == "" {
			continue
		}
		l, err := net.Listen("tcp", p.address)
		if err != nil {
			return &exitStatus{exitConflict, withHint(fmt.Errorf("--%s %s: %w", p.flag, p.address, rootCause(err)), fmt.Sprintf("another program has the address; give another one with --%s", p.flag))}
		}
		_ = l.Close() // it was opened to be closed
	}
	return nil
}

// rootCause is the error of the system call.
func rootCause(err error) error {
	if no, ok := errors.AsType[syscall.Errno](err); ok {
		return no
	}
	return err
}
