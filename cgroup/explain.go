package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Causes of a refused quota.
var (
	errAboveParent = errors.New("more than a cgroup above it has")
	errBelowChild  = errors.New("less than a cgroup below it has")
)

// explain names the cause of the one error (EINVAL) that v1 has for all quotas it refuses.
func (f *FS) explain(dir string, want bandwidth, refused error) error {
	if f.cpu.unified { // v2 takes any quota, and lets the smallest on the way up to the root count
		return refused
	}
	for up := dir; up != f.cpu.dir && len(up) > len(f.cpu.dir); {
		up = filepath.Dir(up)
		above, err := readBandwidth(up)
		if err != nil || above.quota < 0 {
			continue
		}
		if want.quota >= 0 && above.cpus() < want.cpus() {
			return fmt.Errorf("%w: %s has %g CPUs (raise it first): %w", errAboveParent, up, above.cpus(), refused)
		}
		break // the nearest limited one is what the kernel compares with
	}
	if want.quota >= 0 {
		if at, has := greatest(dir, want.cpus()); at != "" {
			return fmt.Errorf("%w: %s has %g CPUs (lower it first): %w", errBelowChild, at, has, refused)
		}
	}
	if dir == f.cpu.dir {
		return fmt.Errorf("the root cgroup takes no quota: %w", refused)
	}
	return refused
}

// greatest finds the cgroup below dir with the greatest quota above so many CPUs; "" if there is none.
func greatest(dir string, limit float64) (at string, cpus float64) {
	cpus = limit
	_ = walkDown(dir, func(d string) error {
		if d == dir {
			return nil
		}
		if w, err := readBandwidth(d); err == nil && w.cpus() > cpus {
			at, cpus = d, w.cpus()
		}
		return nil
	})
	return at, cpus
}

// readBandwidth reads the quota of a v1 cgroup once.
func readBandwidth(dir string) (bandwidth, error) {
	var w bandwidth
	var buf [64]byte
	for _, e := range []struct {
		name  string
		parse func([]byte) (int64, error)
		to    *int64
	}{{"cpu.cfs_quota_us", parseQuota, &w.quota}, {"cpu.cfs_period_us", parsePeriod, &w.period}} {
		b, err := readOnce(dir, e.name, buf[:])
		if err != nil {
			return bandwidth{}, err
		}
		if *e.to, err = e.parse(b); err != nil {
			return bandwidth{}, fmt.Errorf("parse %s/%s: %w", dir, e.name, err)
		}
	}
	if w.period == 0 {
		return bandwidth{}, fmt.Errorf("parse %s/cpu.cfs_period_us: %w", dir, errMalformed)
	}
	return w, nil
}

// readOnce opens, reads and closes a file of the cgroup in dir.
func readOnce(dir, name string, buf []byte) ([]byte, error) {
	k, err := openKern(dir, name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer k.close()
	return k.read(buf)
}

// walkDown calls visit for dir and all directories below it, a directory before those in it. What vanishes meanwhile is left out.
func walkDown(dir string, visit func(string) error) error {
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && gone(err) && p != dir:
			return fs.SkipDir
		case err != nil:
			return err
		case !d.IsDir():
			return nil
		}
		return visit(p)
	})
}

// readNumber reads a file that holds one number; -1 for v2's "max".
func readNumber(dir, name string) (int64, error) {
	var buf [64]byte
	b, err := readOnce(dir, name, buf[:])
	if err != nil {
		return 0, err
	}
	if string(trimLine(b)) == "max" {
		return -1, nil
	}
	n, err := strconv.ParseInt(string(trimLine(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("parse %s/%s: %w", dir, name, errMalformed)
	}
	return n, nil
}
