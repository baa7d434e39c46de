package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// parseProcs appends the pids of cgroup.procs to pids. A pid 0 is a process of another PID namespace and is left out.
func parseProcs(b []byte, pids []int) ([]int, error) {
	for line := range bytes.Lines(b) {
		n, ok := parseUint(trimLine(line))
		if !ok || n > 1<<31-1 {
			return pids, errMalformed
		}
		if n > 0 {
			pids = append(pids, int(n))
		}
	}
	return pids, nil
}

// Procs lists the processes in the cgroup at path and in all below it, in any of the hierarchies, in order, each once. ErrGone if it is in none of them. Zombies are not listed.
func (f *FS) Procs(path string) ([]int, error) {
	path, err := cleanPath(path)
	if err != nil {
		return nil, err
	}
	var pids []int
	found := false
	for _, h := range f.hierarchies() {
		err := walkDown(h.at(path), func(dir string) error {
			found = true
			pids, err = procsIn(dir, pids)
			return err
		})
		if err != nil && !gone(err) {
			return nil, fmt.Errorf("list the processes of cgroup %s: %w", path, err)
		}
	}
	if !found {
		return nil, fmt.Errorf("list the processes of cgroup %s: %w", path, ErrGone)
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// procsIn appends the pids of one directory.
func procsIn(dir string, pids []int) ([]int, error) {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	// EOPNOTSUPP: a threaded v2 cgroup, whose processes its domain lists.
	if err != nil && (gone(err) || errors.Is(err, syscall.EOPNOTSUPP)) {
		return pids, nil
	}
	if err != nil {
		return pids, err
	}
	pids, err = parseProcs(b, pids)
	if err != nil {
		return pids, fmt.Errorf("parse %s/cgroup.procs: %w", dir, err)
	}
	return pids, nil
}
