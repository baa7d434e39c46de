package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

var errSelf = errors.New("the caller is in that cgroup itself")

// Kill kills every process in the cgroup at path and below it, and returns when none is left or ctx ends. Processes that fork all the
// time can't outrun it: on v2 the kernel kills them all at once (cgroup.kill), else they are frozen while they are killed. A cgroup that is not there is no error.
func (f *FS) Kill(ctx context.Context, path string) error {
	path, err := ownPath(path)
	if err != nil {
		return err
	}
	err = again(ctx, func() (bool, error) {
		pids, err := f.Procs(path)
		switch {
		case errors.Is(err, ErrGone):
			return true, nil
		case err != nil || len(pids) == 0:
			return true, err
		case slices.Contains(pids, os.Getpid()):
			return true, errSelf
		}
		err = f.killRound(ctx, path)
		return err != nil, err
	})
	if err != nil {
		return denied("kill the processes of cgroup "+path, err)
	}
	return nil
}

// killRound kills once all that are in the cgroup now.
func (f *FS) killRound(ctx context.Context, path string) error {
	if f.cpu.unified {
		if err := f.writeOnce(f.cpu.at(path), "cgroup.kill", "1"); !errors.Is(err, fs.ErrNotExist) {
			if errors.Is(err, ErrGone) {
				return nil
			}
			return err
		}
	}
	thaw := f.freeze(ctx, path)
	pids, err := f.Procs(path)
	if errors.Is(err, ErrGone) {
		err = nil
	}
	for _, pid := range pids {
		if e := unix.Kill(pid, unix.SIGKILL); e != nil && e != syscall.ESRCH && err == nil {
			err = fmt.Errorf("kill process %d: %w", pid, e)
		}
	}
	return errors.Join(err, thaw())
}
