package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// SetMemory limits the memory of the cgroup at path to so many bytes, or lifts the limit if bytes < 0. A limit in force already is not written.
// It is an error if the host has no memory controller, or if v1 can't reclaim enough to get below the limit.
func (f *FS) SetMemory(path string, bytes int64) error {
	path, err := ownPath(path)
	if err != nil {
		return err
	}
	if bytes == 0 {
		return fmt.Errorf("limit the memory of cgroup %s: no process runs in 0 bytes", path)
	}
	if f.memory == nil {
		return fmt.Errorf("limit the memory of cgroup %s: this host has no memory controller (cgroup_enable=memory on the kernel's command line)", path)
	}
	name, text := "memory.limit_in_bytes", strconv.FormatInt(max(bytes, -1), 10)
	if f.memory.unified {
		name = "memory.max"
		if bytes < 0 {
			text = "max"
		}
	}
	dir := f.memory.at(path)
	now, err := readNumber(dir, name)
	if err != nil {
		return fmt.Errorf("read the memory limit of cgroup %s: %w", path, err)
	}
	if sameMemory(now, bytes, int64(os.Getpagesize())) {
		return nil
	}
	err = f.writeOnce(dir, name, text)
	if errors.Is(err, syscall.EBUSY) {
		return fmt.Errorf("limit the memory of cgroup %s to %d bytes: it uses more, and not enough can be reclaimed: %w", path, bytes, err)
	}
	if err != nil {
		return fmt.Errorf("limit the memory of cgroup %s to %d bytes: %w", path, bytes, err)
	}
	return nil
}

// sameMemory compares a limit in force with one wanted: the kernel keeps whole pages, and shows "unlimited" on v1 as the greatest number of them.
func sameMemory(now, want, page int64) bool {
	const unlimited = 1 << 62
	if want < 0 || want > unlimited {
		return now < 0 || now > unlimited
	}
	return now == want/page*page
}

// OOMKills is how many processes of the cgroup at path the kernel has killed because its memory limit was reached. Kernels before 4.13 don't count: 0.
func (f *FS) OOMKills(path string) (uint64, error) {
	path, err := cleanPath(path)
	if err != nil {
		return 0, err
	}
	if f.memory == nil {
		return 0, nil
	}
	name := "memory.oom_control"
	if f.memory.unified {
		name = "memory.events"
	}
	full := filepath.Join(f.memory.at(path), name)
	var buf [statSize]byte
	b, err := readOnce(f.memory.at(path), name, buf[:])
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrGone) {
		return 0, nil // no memory controller for this cgroup
	}
	if err != nil {
		return 0, err
	}
	n, err := parseOOMKills(b)
	if err != nil {
		return 0, fmt.Errorf("parse %s: %w", full, err)
	}
	return n, nil
}

// parseOOMKills reads the line "oom_kill N" of memory.oom_control (v1) or memory.events (v2).
func parseOOMKills(b []byte) (uint64, error) {
	for len(b) > 0 {
		key, value, rest, ok := cutPair(b)
		if !ok {
			return 0, errMalformed
		}
		if string(key) == "oom_kill" {
			n, ok := parseUint(value)
			if !ok {
				return 0, errMalformed
			}
			return n, nil
		}
		b = rest
	}
	return 0, nil
}
