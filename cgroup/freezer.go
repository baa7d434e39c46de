package cgroup

import (
	"bytes"
	"context"
	"errors"
	"time"
)

// freezeTime is how long one round waits for the freezer: a process that sleeps uninterruptibly can't be frozen, and must not keep the others alive.
const freezeTime = 500 * time.Millisecond

// parseFrozen reads freezer.state of v1 (THAWED, FREEZING, FROZEN), or cgroup.events of v2 (a line "frozen 1").
func parseFrozen(b []byte) bool {
	if bytes.Equal(trimLine(b), []byte("FROZEN")) {
		return true
	}
	for len(b) > 0 {
		key, value, rest, ok := cutPair(b)
		if !ok {
			return false
		}
		if string(key) == "frozen" {
			return string(value) == "1"
		}
		b = rest
	}
	return false
}

// freeze stops all that run in the cgroup at path, as far as the host can, so that none forks while they are killed, and none of their pids is taken by another process.
// It returns whether all are and stay alive until they are let go, and what lets them go: v1 delivers SIGKILL only then, v2 at once.
func (f *FS) freeze(ctx context.Context, path string) (whole bool, thaw func() error) {
	file, on, off, state := "freezer.state", "FROZEN", "THAWED", "freezer.state"
	h := f.freezer
	if h == nil {
		return false, func() error { return nil }
	}
	if h.unified {
		file, on, off, state = "cgroup.freeze", "1", "0", "cgroup.events"
	}
	dir := h.at(path)
	if err := f.writeOnce(dir, file, on); err != nil {
		f.log.Debug("cgroup can't be frozen, killing without", "dir", dir, "err", err)
		return false, func() error { return nil }
	}
	ctx, stop := context.WithTimeout(ctx, freezeTime)
	defer stop()
	var buf [256]byte
	err := again(ctx, func() (bool, error) {
		b, err := readOnce(dir, state, buf[:])
		return err != nil || parseFrozen(b), err
	})
	if err != nil {
		f.log.Debug("cgroup is not wholly frozen, killing all the same", "dir", dir, "err", err)
	}
	return err == nil && !h.unified, func() error { return f.thaw(dir, file, off) }
}

// thaw lets all below dir run again, those too that somebody had frozen before, for example to take a checkpoint: a frozen process of v1 does not die.
func (f *FS) thaw(dir, file, off string) error {
	err := walkDown(dir, func(d string) error {
		if err := f.writeOnce(d, file, off); err != nil && !errors.Is(err, ErrGone) {
			return err
		}
		return nil
	})
	if gone(err) {
		return nil
	}
	return err
}
