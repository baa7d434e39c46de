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

// Freezer is how the cgroups of a hierarchy are frozen: On written to <Mount><path of a cgroup>/<File>, and Off to let it go on.
type Freezer struct {
	Mount      string
	Controller string // as /proc/PID/cgroup names the hierarchy; "": the unified one
	File       string
	On, Off    string
}

// Freezer is this host's; false: it has none.
func (f *FS) Freezer() (Freezer, bool) {
	switch h := f.freezer; {
	case h == nil:
		return Freezer{}, false
	case h.unified:
		return Freezer{Mount: h.dir, File: "cgroup.freeze", On: "1", Off: "0"}, true
	default:
		return Freezer{Mount: h.dir, Controller: "freezer", File: "freezer.state", On: "FROZEN", Off: "THAWED"}, true
	}
}

// freeze stops all that run in the cgroup at path, as far as the host can, so that none forks while they are killed, and none of their pids is taken by another process.
// It returns whether all are and stay alive until they are let go, and what lets them go: v1 delivers SIGKILL only then, v2 at once.
func (f *FS) freeze(ctx context.Context, path string) (whole bool, thaw func() error) {
	z, ok := f.Freezer()
	if !ok {
		return false, func() error { return nil }
	}
	h, state := f.freezer, z.File
	if h.unified {
		state = "cgroup.events"
	}
	dir := h.at(path)
	if err := f.writeOnce(dir, z.File, z.On); err != nil {
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
	return err == nil && !h.unified, func() error { return f.thaw(dir, z.File, z.Off) }
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
