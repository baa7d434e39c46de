package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"qosctl/agent/api"
)

// Clock sees whether the kernel's clock is kept in step. It reads alone.
func Clock() Probe {
	return Probe{Entry: ClockSync, Look: func(context.Context) []api.Check {
		var t unix.Timex
		_, err := unix.Adjtimex(&t)
		return []api.Check{clockSync(t.Status, err)}
	}}
}

func clockSync(status int32, err error) api.Check {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOSYS): // the agent's unit has ProtectClock
		return ClockSync.skip("", "the agent may not ask; timedatectl says")
	case err != nil:
		return ClockSync.skip("", "the kernel does not say: "+err.Error())
	case status&unix.STA_UNSYNC != 0:
		return ClockSync.warn("", "nobody keeps this node's clock in step", errors.New("the kernel says STA_UNSYNC"), "")
	}
	return ClockSync.ok("", "the kernel's clock is kept in step")
}

// Disk is a directory on one, and what is wanted of it.
type Disk struct {
	Entry Entry
	Dir   string
	Want  uint64  // bytes that should be free
	Share float64 // of the disk that should be free; 0: any
}

const (
	leastBytes  = 64 << 20
	leastInodes = 1000
)

// Probe asks the file system.
func (d Disk) Probe() Probe {
	return Probe{Entry: d.Entry, Of: d.Dir, Look: func(context.Context) []api.Check { return []api.Check{d.look()} }}
}

func (d Disk) look() api.Check {
	var st unix.Statfs_t
	if err := unix.Statfs(d.Dir, &st); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return d.Entry.skip(d.Dir, "it is not there yet: the agent makes it")
		}
		return d.Entry.fault(d.Dir, "the file system does not say how much room it has", err, "")
	}
	free, all := st.Bavail*uint64(st.Bsize), st.Blocks*uint64(st.Bsize)
	text := fmt.Sprintf("%s of %s are free", bytesText(free), bytesText(all))
	switch {
	case free < leastBytes:
		return d.Entry.fault(d.Dir, text, errors.New("the disk is full"), "")
	case st.Files > 0 && st.Ffree < leastInodes:
		return d.Entry.fault(d.Dir, fmt.Sprintf("%d of %d inodes are free", st.Ffree, st.Files), errors.New("the file system has no room for more files"), "")
	case free < d.Want, float64(free) < d.Share*float64(all):
		return d.Entry.warn(d.Dir, text, errors.New("the disk is nearly full"), "")
	}
	return d.Entry.ok(d.Dir, "%s", text)
}

// bytesText is a size for people.
func bytesText(n uint64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}
