package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"
)

// removeTime is how long Remove tries: a process that was just killed keeps its cgroup busy until it is off the CPU.
const removeTime = 2 * time.Second

// Remove removes the cgroup at path and all below it from every hierarchy. One that is not there is no error. It tries for at most two seconds while the kernel says busy.
func (f *FS) Remove(path string) error {
	path, err := ownPath(path)
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(context.Background(), removeTime)
	defer stop()
	var errs []error
	for _, h := range f.hierarchies() {
		err := again(ctx, func() (bool, error) {
			err := removeTree(h.at(path))
			return !errors.Is(err, syscall.EBUSY), err
		})
		if err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		if pids, perr := f.Procs(path); perr == nil && len(pids) > 0 {
			err = fmt.Errorf("%w (processes in it: %v)", err, pids)
		}
		return denied("remove cgroup "+path, err)
	}
	return nil
}

// removeTree removes dir and all directories below it, the deepest first.
func removeTree(dir string) error {
	var dirs []string
	err := walkDown(dir, func(d string) error {
		dirs = append(dirs, d)
		return nil
	})
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, d := range slices.Backward(dirs) {
		// Not os.Remove, which would try to unlink first.
		if err := syscall.Rmdir(d); err != nil && !gone(err) {
			return &os.PathError{Op: "rmdir", Path: d, Err: err}
		}
	}
	return nil
}

// again calls try until it is done, with growing pauses from 1 to 50 ms, or until ctx ends; then it returns what try said last.
func again(ctx context.Context, try func() (done bool, err error)) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		done, err := try()
		if done {
			return err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			if err == nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}
