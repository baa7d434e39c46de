package cgroup

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// statSize holds any cpu.stat: the longest of kernel 6.x is under 400 bytes.
const statSize = 1024

// Reader reads one cgroup's CPU counters from files that it keeps open. An open file costs 4.5 kB of kernel memory, and never shows
// another cgroup of the same name: once its cgroup is removed, every read is ErrGone.
//
// The two paths of a Group may be of different cgroups, as a Docker container's are: CPU time is that of Group.CPUAcct, throttling that of
// Group.CPU, with v2 as with v1. A Group without CPU has only CPU time.
type Reader struct {
	tick int64
	v2   bool
	dir  string // v1: of the group's cpuacct

	mu    sync.Mutex
	usage kernFile   // v1: cpuacct.usage; v2: cpu.stat of CPUAcct, if that is another cgroup than CPU
	acct  kernFile   // v1: cpuacct.stat, once somebody wanted the split
	stat  kernFile   // cpu.stat of CPU: throttling, and with v2, unless usage is open, CPU time
	bufs  *sync.Pool // of *[statSize]byte, of all readers together: a kilobyte for each of a thousand is a megabyte
}

// OpenReader opens the counters of g. ErrGone if the cgroup is not there.
func (f *FS) OpenReader(g Group) (*Reader, error) {
	limited := g.CPU != ""
	if !limited && g.CPUAcct != "" {
		g.CPU = g.CPUAcct
	}
	cpu, acct, err := f.dirs(g)
	if err != nil {
		return nil, err
	}
	r := &Reader{bufs: f.bufs, tick: f.tick, v2: f.cpuacct.unified, usage: kernFile{fd: -1}, acct: kernFile{fd: -1}, stat: kernFile{fd: -1}}
	open := func(k *kernFile, dir, name string) {
		if err == nil {
			*k, err = openKern(dir, name, unix.O_RDONLY)
		}
	}
	switch {
	case !r.v2:
		open(&r.usage, acct, "cpuacct.usage")
		r.dir = acct
	case !limited || cpu != acct:
		open(&r.usage, acct, "cpu.stat")
	}
	if limited {
		open(&r.stat, cpu, "cpu.stat")
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// dirs are the directories of g.
func (f *FS) dirs(g Group) (cpu, acct string, err error) {
	if g == (Group{}) {
		return "", "", fmt.Errorf("%w: no cgroup given", errBadPath)
	}
	c, err := cleanPath(g.CPU)
	if err != nil {
		return "", "", err
	}
	a, err := cleanPath(g.CPUAcct)
	if err != nil {
		return "", "", err
	}
	return f.cpu.at(c), f.cpuacct.at(a), nil
}

// Read reads the CPU time into s, and what else its file has: with v2 all of it. The split into user and system with v1 (Split), and the throttling
// with v1 or of another cgroup (Throttling), are files of their own, which most samples have no use for: what they have stays as it is in s.
// At is taken when the usage was read. It allocates nothing. An error leaves s undefined; ErrGone says that the cgroup was removed. The kernel
// refreshes a running cgroup's usage once in a tick (4 ms at 250 Hz).
func (r *Reader) Read(s *Sample) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	buf := r.borrow()
	defer r.bufs.Put(buf)
	switch {
	case !r.v2:
		return r.readAcct(s, buf)
	case r.usage.name == "":
		return r.readTime(&r.stat, s, buf)
	}
	own := *s
	err := r.readTime(&r.usage, s, buf)
	s.Periods, s.Throttled, s.ThrottledTime = own.Periods, own.Throttled, own.ThrottledTime // not of the cgroup that is counted
	return err
}

// borrow is a buffer, to be put back.
func (r *Reader) borrow() *[statSize]byte {
	if b, ok := r.bufs.Get().(*[statSize]byte); ok {
		return b
	}
	return new([statSize]byte)
}

// readTime reads all of a cpu.stat of v2.
func (r *Reader) readTime(k *kernFile, s *Sample, buf *[statSize]byte) error {
	b, err := k.read(buf[:])
	if err != nil {
		return err
	}
	s.At = time.Now()
	if usage, err := parseCPUStat(b, s); err != nil || !usage {
		return fmt.Errorf("parse %s: %w", k.name, errMalformed)
	}
	return nil
}

// readAcct reads the usage of v1's cpuacct controller.
func (r *Reader) readAcct(s *Sample, buf *[statSize]byte) error {
	b, err := r.usage.read(buf[:])
	if err != nil {
		return err
	}
	s.At = time.Now()
	if s.Usage, err = parseUsage(b); err != nil {
		return fmt.Errorf("parse %s: %w", r.usage.name, err)
	}
	return nil
}

// Split reads the CPU time in user mode and in the kernel into s. With v2 Read has done so already. The first call opens a file; none after it
// allocates anything.
func (r *Reader) Split(s *Sample) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.v2 || r.tick == 0 {
		return nil
	}
	if r.acct.name == "" {
		if r.usage.fd < 0 {
			return errClosed
		}
		acct, err := openKern(r.dir, "cpuacct.stat", unix.O_RDONLY)
		if err != nil {
			return err
		}
		r.acct = acct
	}
	buf := r.borrow()
	defer r.bufs.Put(buf)
	b, err := r.acct.read(buf[:])
	if err != nil {
		return err
	}
	if err = parseAcctStat(b, r.tick, s); err != nil {
		return fmt.Errorf("parse %s: %w", r.acct.name, err)
	}
	return nil
}

// Throttling reads the counters of the quota into s: those of the limited cgroup, if there is one. Where Read has done so already, it does
// nothing. It allocates nothing.
func (r *Reader) Throttling(s *Sample) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stat.name == "" || r.v2 && r.usage.name == "" {
		return nil
	}
	buf := r.borrow()
	defer r.bufs.Put(buf)
	b, err := r.stat.read(buf[:])
	if err != nil {
		return err
	}
	var own Sample
	if _, err := parseCPUStat(b, &own); err != nil {
		return fmt.Errorf("parse %s: %w", r.stat.name, errMalformed)
	}
	s.Periods, s.Throttled, s.ThrottledTime = own.Periods, own.Throttled, own.ThrottledTime
	return nil
}

// Usage reads only the CPU time that the cgroup has had. It allocates nothing.
func (r *Reader) Usage() (time.Duration, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	buf := r.borrow()
	defer r.bufs.Put(buf)
	k, parse := &r.usage, parseUsage
	if r.v2 {
		parse = parseUsageUsec
		if r.usage.name == "" {
			k = &r.stat
		}
	}
	b, err := k.read(buf[:])
	if err != nil {
		return 0, err
	}
	d, err := parse(b)
	if err != nil {
		return 0, fmt.Errorf("parse %s: %w", k.name, err)
	}
	return d, nil
}

// Close closes the files. A closed Reader reads nothing; closing it again is no error.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.usage.close(), r.acct.close(), r.stat.close())
}
