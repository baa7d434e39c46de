package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// identity says which process a pid meant: pids are used again, a pid together with its start time in one boot is not.
type identity struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start_time"` // field 22 of /proc/PID/stat, clock ticks after boot
}

// procTable reads processes from a /proc, and waits for their ends.
type procTable struct {
	dir  string
	ends *ends
}

// boot is the kernel's id of this boot.
func (p procTable) boot() (string, error) {
	b, err := os.ReadFile(filepath.Join(p.dir, "sys/kernel/random/boot_id"))
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// identify finds the start time of a process that lives. A zombie does not live.
func (p procTable) identify(pid int) (identity, error) {
	b, err := os.ReadFile(filepath.Join(p.dir, strconv.Itoa(pid), "stat"))
	if err != nil {
		return identity{}, fmt.Errorf("read start time of process %d: %w", pid, err)
	}
	state, start, err := parseStat(b)
	if err != nil {
		return identity{}, fmt.Errorf("read start time of process %d: %w", pid, err)
	}
	if state == 'Z' || state == 'X' {
		return identity{}, fmt.Errorf("process %d: %w", pid, unix.ESRCH)
	}
	return identity{PID: pid, Start: start}, nil
}

// alive reports whether the very process that id names still runs.
func (p procTable) alive(id identity) bool {
	if id.PID <= 0 {
		return false
	}
	now, err := p.identify(id.PID)
	return err == nil && now == id
}

var errStat = errors.New("not a line of /proc/PID/stat")

// parseStat takes state and start time out of /proc/PID/stat. The name in field 2 may hold spaces and brackets.
func parseStat(b []byte) (state byte, start uint64, err error) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return 0, 0, errStat
	}
	f := bytes.Fields(b[i+1:])
	if len(f) < 20 || len(f[0]) != 1 {
		return 0, 0, errStat
	}
	start, err = strconv.ParseUint(string(f[19]), 10, 64)
	if err != nil {
		return 0, 0, errStat
	}
	return f[0][0], start, nil
}

// slowPoll is how often a process is looked at on kernels before 5.3, which have no pidfd.
const slowPoll = 200 * time.Millisecond

// open is a pidfd of the very process that id names; -1: it is gone. Before kernel 5.3 the error wraps ENOSYS.
func (p procTable) open(id identity) (pidfd int, err error) {
	fd, err := unix.PidfdOpen(id.PID, 0)
	switch {
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EINVAL):
		return -1, nil
	case err != nil:
		return -1, fmt.Errorf("open process %d: %w", id.PID, err)
	case !p.alive(id): // with the pidfd open the pid can't come to mean another process unseen: it has before
		return -1, unix.Close(fd)
	}
	return fd, nil
}

// wait returns when the process that id names is gone, at once if it is gone already.
func (p procTable) wait(ctx context.Context, id identity) error {
	switch fd, err := p.open(id); {
	case err != nil:
		return p.poll(ctx, id)
	case fd < 0:
		return nil
	default:
		return p.ends.await(ctx, fd)
	}
}

// poll is wait where there is no pidfd.
func (p procTable) poll(ctx context.Context, id identity) error {
	t := time.NewTicker(slowPoll)
	defer t.Stop()
	for p.alive(id) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
	return nil
}

// waitChild returns when a child of this process, which nobody has reaped, is gone: all its threads. It can be a zombie before.
func (p procTable) waitChild(ctx context.Context, pid int) error {
	if fd, err := unix.PidfdOpen(pid, 0); err == nil {
		f, err := pollable(fd, "pidfd")
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // nothing was written
		return readable(ctx, f)
	}
	id, err := p.identify(pid)
	if err != nil {
		return nil //nolint:nilerr // gone
	}
	return p.wait(ctx, id)
}

// pollable hands fd to Go's poller. It closes fd on an error.
func pollable(fd int, name string) (*os.File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(fmt.Errorf("set %s non-blocking: %w", name, err), unix.Close(fd))
	}
	f := os.NewFile(uintptr(fd), name)
	if err := f.SetReadDeadline(time.Time{}); err != nil {
		return nil, errors.Join(fmt.Errorf("poll %s: %w", name, err), f.Close())
	}
	return f, nil
}

// readable waits, in Go's poller, until f is readable.
func readable(ctx context.Context, f *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) }) // wakes the wait below
	defer stop()
	rc, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("poll %s: %w", f.Name(), err)
	}
	err = rc.Read(func(fd uintptr) bool {
		set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, perr := unix.Poll(set, 0)
		return perr == nil && n > 0
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("poll %s: %w", f.Name(), err)
	}
	return nil
}
