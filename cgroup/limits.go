package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Limits writes one cgroup's CPU limits through files that it keeps open. A value that is in force already is never written: every
// write of a quota, even of the same one, refills the cgroup's pool, and ten a second turn 20 % into 33 %. How often changed values are written is the caller's to pace (Pace).
type Limits struct {
	fs  *FS
	dir string
	v2  bool

	mu       sync.Mutex
	quota    kernFile // v1: cpu.cfs_quota_us; v2: cpu.max
	period   kernFile // v1: cpu.cfs_period_us
	shares   kernFile // v1: cpu.shares; v2: cpu.weight
	readOnly error    // why nothing can be written
	buf, out [64]byte
}

// OpenLimits opens the limits of g. Without the right to write they can still be read. ErrGone if the cgroup is not there.
func (f *FS) OpenLimits(g Group) (*Limits, error) {
	path, err := cleanPath(g.CPU)
	if err != nil {
		return nil, err
	}
	l := &Limits{fs: f, dir: f.cpu.at(path), v2: f.cpu.unified, quota: kernFile{fd: -1}, period: kernFile{fd: -1}, shares: kernFile{fd: -1}}
	quota, shares := "cpu.cfs_quota_us", "cpu.shares"
	if l.v2 {
		quota, shares = "cpu.max", "cpu.weight"
	}
	err = l.open(&l.quota, quota)
	if err == nil {
		err = l.open(&l.shares, shares)
	}
	if err == nil && !l.v2 {
		l.period, err = openKern(l.dir, "cpu.cfs_period_us", unix.O_RDONLY)
	}
	if err != nil {
		return nil, errors.Join(l.missing(path, err), l.Close())
	}
	return l, nil
}

// open opens a file for reading and writing, or else for reading only.
func (l *Limits) open(k *kernFile, name string) error {
	var err error
	if l.readOnly == nil {
		if *k, err = openKern(l.dir, name, unix.O_RDWR); !errors.Is(err, ErrNoAccess) {
			return err
		}
		l.readOnly = err
	}
	*k, err = openKern(l.dir, name, unix.O_RDONLY)
	return err
}

// missing says why a cgroup that is there lacks a file.
func (l *Limits) missing(path string, err error) error {
	switch {
	case errors.Is(err, ErrGone) || !errors.Is(err, fs.ErrNotExist):
		return err
	case path == "/":
		return fmt.Errorf("the root cgroup has no such limit: %w", err)
	case l.v2:
		return fmt.Errorf("the cpu controller is not enabled for this cgroup (+cpu in cgroup.subtree_control of all that stand above it): %w", err)
	}
	return fmt.Errorf("this kernel has no CFS bandwidth control (CONFIG_CFS_BANDWIDTH): %w", err)
}

// CPUs is the quota in force in CPUs, read from the kernel; -1: unlimited. A quota of a cgroup above may allow less.
func (l *Limits) CPUs() (float64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w, err := l.bandwidth()
	return w.cpus(), err
}

// bandwidth reads quota and period in force.
func (l *Limits) bandwidth() (bandwidth, error) {
	b, err := l.quota.read(l.buf[:])
	if err != nil {
		return bandwidth{}, err
	}
	if l.v2 {
		w, err := parseCPUMax(b)
		if err != nil {
			return bandwidth{}, fmt.Errorf("parse %s: %w", l.quota.name, err)
		}
		return w, nil
	}
	var w bandwidth
	if w.quota, err = parseQuota(b); err != nil {
		return bandwidth{}, fmt.Errorf("parse %s: %w", l.quota.name, err)
	}
	if b, err = l.period.read(l.buf[:]); err != nil {
		return bandwidth{}, err
	}
	if w.period, err = parsePeriod(b); err != nil || w.period == 0 {
		return bandwidth{}, fmt.Errorf("parse %s: %w", l.period.name, errMalformed)
	}
	return w, nil
}

// SetCPUs sets the quota to so many CPUs in the period in force, or lifts it if cpus < 0. It reads the quota in force first and leaves
// an equal one alone. What the kernel refuses changes nothing and is explained by name: out of range, above a cgroup that stands above, below one that stands below.
//
// A raise takes effect inside the write, a lower one within one new quota.
func (l *Limits) SetCPUs(cpus float64) (changed bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, err := l.bandwidth()
	if err != nil {
		return false, err
	}
	want := bandwidth{period: now.period}
	if want.quota, err = quotaFor(cpus, now.period); err != nil {
		return false, fmt.Errorf("set the CPU quota of %s: %w", l.dir, err)
	}
	if want == now {
		return false, nil
	}
	if l.readOnly != nil {
		return false, l.readOnly
	}
	text := appendQuota(l.out[:0], want.quota)
	if l.v2 {
		text = appendCPUMax(l.out[:0], want)
	}
	if err = l.fs.write(&l.quota, text); errors.Is(err, syscall.EINVAL) {
		// A refused write has no effect, so asking first would cost two reads for each cgroup above, and could be wrong a moment later.
		if err = l.unburst(want.quota, err); err == nil {
			err = l.fs.write(&l.quota, text)
		}
	}
	if errors.Is(err, syscall.EINVAL) {
		err = l.fs.explain(l.dir, want, err)
	}
	if err != nil {
		return false, fmt.Errorf("set the CPU quota of %s to %g CPUs: %w", l.dir, cpus, err)
	}
	return true, nil
}

// unburst lowers the burst to a quota that the kernel has refused because it is below it. It returns refused if that is not the cause.
func (l *Limits) unburst(quota int64, refused error) error {
	name := "cpu.cfs_burst_us"
	if l.v2 {
		name = "cpu.max.burst"
	}
	k, err := openKern(l.dir, name, unix.O_RDWR)
	if err != nil {
		return refused // kernels before 5.14 have no burst
	}
	defer k.close()
	b, err := k.read(l.buf[:])
	if err != nil {
		return err
	}
	if burst, err := parsePeriod(b); err != nil || quota < 0 || burst <= quota {
		return refused
	}
	return l.fs.write(&k, appendQuota(l.buf[:0], quota))
}

// Shares is what the cgroup is entitled to against its neighbours, in CPUs.
func (l *Limits) Shares() (float64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, unit, err := l.share()
	return float64(n) / unit, err
}

// share reads cpu.shares or cpu.weight, and says how many of them are one CPU.
func (l *Limits) share() (n int64, unit float64, err error) {
	unit = sharesPerCPU
	if l.v2 {
		unit = weightPerCPU
	}
	b, err := l.shares.read(l.buf[:])
	if err != nil {
		return 0, unit, err
	}
	if n, err = parsePeriod(b); err != nil {
		return 0, unit, fmt.Errorf("parse %s: %w", l.shares.name, err)
	}
	return n, unit, nil
}

// SetShares entitles the cgroup to so many CPUs against its neighbours; beyond what the kernel can express it takes the nearest. An equal value is left alone.
func (l *Limits) SetShares(cpus float64) (changed bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, _, err := l.share()
	if err != nil {
		return false, err
	}
	of := sharesFor
	if l.v2 {
		of = weightFor
	}
	want, err := of(cpus)
	if err != nil {
		return false, fmt.Errorf("set the shares of %s: %w", l.dir, err)
	}
	if want == now {
		return false, nil
	}
	if l.readOnly != nil {
		return false, l.readOnly
	}
	return true, l.fs.write(&l.shares, appendQuota(l.out[:0], want))
}

// Close closes the files. Closing again is no error.
func (l *Limits) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.quota.close(), l.period.close(), l.shares.close())
}
