package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// procPaths are the paths that /proc/PID/cgroup has for the hierarchies that we use. They point into what was parsed; nil: no such line.
type procPaths struct{ cpu, cpuacct, unified []byte }

// parseProcCgroup reads /proc/PID/cgroup, lines "4:cpu,cpuacct:/path", "1:name=systemd:/path" and, for v2, "0::/path".
func parseProcCgroup(b []byte) (procPaths, error) {
	var p procPaths
	for len(b) > 0 {
		line := b
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			line, b = b[:i], b[i+1:]
		} else {
			b = nil
		}
		i := bytes.IndexByte(line, ':')
		if i <= 0 {
			return procPaths{}, errMalformed
		}
		id, rest := line[:i], line[i+1:]
		i = bytes.IndexByte(rest, ':')
		if i < 0 || i+1 == len(rest) || rest[i+1] != '/' {
			return procPaths{}, errMalformed
		}
		if _, ok := parseUint(id); !ok {
			return procPaths{}, errMalformed
		}
		names, path := rest[:i], rest[i+1:]
		if len(names) == 0 {
			p.unified = path
			continue
		}
		for len(names) > 0 {
			name := names
			if i := bytes.IndexByte(names, ','); i >= 0 {
				name, names = names[:i], names[i+1:]
			} else {
				names = nil
			}
			switch string(name) {
			case "cpu":
				p.cpu = path
			case "cpuacct":
				p.cpuacct = path
			}
		}
	}
	return p, nil
}

// exiting is PF_EXITING of /proc/PID/stat's flags.
const exiting = 0x4

// parseExiting reads /proc/PID/stat and reports whether the process is a zombie or about to be one.
func parseExiting(b []byte) (bool, error) {
	// The name, in brackets, may hold anything: the last bracket ends it.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 || i+2 > len(b) {
		return false, errMalformed
	}
	b = bytes.TrimLeft(b[i+1:], " ")
	var flags uint64
	for field := 0; ; field++ {
		word := b
		if i := bytes.IndexByte(b, ' '); i >= 0 {
			word, b = b[:i], b[i+1:]
		} else {
			b = nil
		}
		switch {
		case len(word) == 0:
			return false, errMalformed
		case field == 0 && (word[0] == 'Z' || word[0] == 'X' || word[0] == 'x'):
			return true, nil
		case field == 6:
			var ok bool
			if flags, ok = parseUint(word); !ok {
				return false, errMalformed
			}
			return flags&exiting != 0, nil
		case b == nil:
			return false, errMalformed
		}
	}
}

// Of finds the cgroup of a process. It wraps fs.ErrNotExist when there is no such process or it has exited, ErrGone when its cgroup was removed under it.
func (f *FS) Of(pid int) (Group, error) {
	g, err := f.of(pid)
	if err != nil {
		return Group{}, fmt.Errorf("find the cgroup of process %d: %w", pid, err)
	}
	return g, nil
}

func (f *FS) of(pid int) (Group, error) {
	if pid <= 0 {
		return Group{}, errors.New("not a process id")
	}
	dir := filepath.Join(f.proc, strconv.Itoa(pid))
	b, err := readProc(filepath.Join(dir, "cgroup"))
	if err != nil {
		return Group{}, err
	}
	p, err := parseProcCgroup(b)
	if err != nil {
		return Group{}, fmt.Errorf("parse %s/cgroup: %w", dir, err)
	}
	if f.cpu.unified {
		p.cpu, p.cpuacct = p.unified, p.unified
	}
	// A process that exits is shown in v1's root: sampling or limiting that would be the whole host.
	if !f.cpu.unified && (string(p.cpu) == "/" || string(p.cpuacct) == "/") {
		if b, err = readProc(filepath.Join(dir, "stat")); err != nil {
			return Group{}, err
		}
		if dying, err := parseExiting(b); err != nil {
			return Group{}, fmt.Errorf("parse %s/stat: %w", dir, err)
		} else if dying {
			return Group{}, fmt.Errorf("the process has exited: %w", fs.ErrNotExist)
		}
	}
	var g Group
	if g.CPU, err = f.procPath(f.cpu, p.cpu, "cpu"); err != nil {
		return Group{}, err
	}
	if g.CPUAcct, err = f.procPath(f.cpuacct, p.cpuacct, "cpuacct"); err != nil {
		return Group{}, err
	}
	return g, nil
}

// procPath checks one path of /proc/PID/cgroup.
func (f *FS) procPath(h *hierarchy, path []byte, controller string) (string, error) {
	if path == nil {
		return "", fmt.Errorf("it is in no %s hierarchy", controller)
	}
	if h.unified && strings.HasSuffix(string(path), " (deleted)") {
		return "", ErrGone
	}
	clean, err := cleanPath(string(path))
	if err != nil {
		return "", err
	}
	return h.visible(clean)
}

// readProc reads a file of a process; one that ends meanwhile does not exist.
func readProc(name string) ([]byte, error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, syscall.ESRCH) {
		return nil, fmt.Errorf("read %s: %w", name, fs.ErrNotExist)
	}
	return b, err
}

// CounterFile is the file with g's CPU time, and the mount of its hierarchy: cpuacct.usage with nanoseconds alone, or on v2 cpu.stat, whose
// first line is "usage_usec" and microseconds.
func (f *FS) CounterFile(g Group) (file, mount string, err error) {
	_, acct, err := f.dirs(g)
	if err != nil {
		return "", "", err
	}
	name := "cpuacct.usage"
	if f.cpuacct.unified {
		name = "cpu.stat"
	}
	return filepath.Join(acct, name), f.cpuacct.dir, nil
}
