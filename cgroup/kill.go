package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

var errSelf = errors.New("the caller is in that cgroup itself")

// Kill kills every process in the cgroup at path and below it, and returns when none is left or ctx ends. Processes that fork all the
// time can't outrun it: on v2 the kernel kills them all at once (cgroup.kill), else they are frozen while they are killed.
// Only a v1 host without the freezer hierarchy, and processes that can't be frozen, are left to rounds of list and kill. A cgroup that is not there is no error.
func (f *FS) Kill(ctx context.Context, path string) error {
	path, err := ownPath(path)
	if err != nil {
		return err
	}
	var left []int
	err = again(ctx, func() (bool, error) {
		left, err = f.Procs(path)
		switch {
		case errors.Is(err, ErrGone):
			return true, nil
		case err != nil || len(left) == 0:
			return true, err
		case slices.Contains(left, os.Getpid()):
			return true, errSelf
		}
		err = f.killRound(ctx, path)
		return err != nil, err
	})
	if err != nil {
		return denied(fmt.Sprintf("kill the processes %v of cgroup %s", left, path), err)
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
	whole, thaw := f.freeze(ctx, path)
	pids, err := f.Procs(path)
	if err == nil && whole {
		// None of them can end before it is thawed, so no pid here can belong to anybody else.
		err = killPids(pids)
	} else if err == nil {
		err = f.killRunning(path, pids)
	}
	if errors.Is(err, ErrGone) {
		err = nil
	}
	return errors.Join(err, thaw())
}

func killPids(pids []int) error {
	var errs []error
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("kill process %d: %w", pid, err))
		}
	}
	return errors.Join(errs...)
}

// killRunning kills processes that may end at any moment, when their pids may be given to others: only those are killed that are
// in the cgroup after a handle on them was taken. Kernels before 5.3 have no handles, and take the small risk.
func (f *FS) killRunning(path string, pids []int) error {
	handles := map[int]int{}
	defer func() {
		for _, fd := range handles {
			unix.Close(fd)
		}
	}()
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		switch {
		case errors.Is(err, unix.ENOSYS):
			return killPids(pids)
		case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EINVAL): // ended
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE): // the next round has the rest
		case err != nil:
			return fmt.Errorf("open process %d: %w", pid, err)
		default:
			handles[pid] = fd
		}
	}
	now, err := f.Procs(path)
	if err != nil {
		return err
	}
	var errs []error
	for _, pid := range now {
		fd, ok := handles[pid]
		if !ok {
			continue
		}
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("kill process %d: %w", pid, err))
		}
	}
	return errors.Join(errs...)
}
