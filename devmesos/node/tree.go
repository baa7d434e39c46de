package node

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// procStat is what is needed of /proc/<pid>/stat.
type procStat struct {
	pid, ppid, pgrp, sid int
	state                byte
	user, system         uint64 // clock ticks of CPU time, its reaped children's included
	start                uint64 // clock ticks since boot; with pid it names a process for good
}

// parseStat reads a /proc/<pid>/stat line. The command name may hold blanks and parentheses: what follows the last ")" counts.
func parseStat(line string) (procStat, bool) {
	open, end := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	if open < 1 || end < open {
		return procStat{}, false
	}
	f := strings.Fields(line[end+1:])
	if len(f) < 20 || len(f[0]) != 1 {
		return procStat{}, false
	}
	s := procStat{state: f[0][0]}
	var err error
	num := func(text string) (n int) {
		if err == nil {
			n, err = strconv.Atoi(text)
		}
		return n
	}
	s.pid, s.ppid, s.pgrp, s.sid = num(strings.TrimSpace(line[:open])), num(f[1]), num(f[2]), num(f[3])
	count := func(text string) (n uint64) {
		if err == nil {
			n, err = strconv.ParseUint(text, 10, 64)
		}
		return n
	}
	s.user, s.system, s.start = count(f[11])+count(f[13]), count(f[12])+count(f[14]), count(f[19])
	return s, err == nil
}

// readStat reads one process' stat; false if there is none.
func readStat(proc string, pid int) (procStat, bool) {
	b, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return procStat{}, false
	}
	return parseStat(string(b))
}

// processes lists all live processes. One that ends while it is read is left out.
func processes(proc string) []procStat {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil
	}
	var all []procStat
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if s, ok := readStat(proc, pid); ok && s.state != 'Z' && s.state != 'X' {
			all = append(all, s)
		}
	}
	return all
}

// tree is a process, all its descendants, and everything in their process groups and sessions, in order of their pids. Our own
// session is never part of it.
func tree(proc string, root int) []int {
	return closure(processes(proc), root, os.Getpid())
}

func closure(all []procStat, root, self int) []int {
	ownSID := -1
	for _, s := range all {
		if s.pid == self {
			ownSID = s.sid
		}
	}
	in, groups, sessions := map[int]bool{}, map[int]bool{}, map[int]bool{}
	for grown := true; grown; {
		grown = false
		for _, s := range all {
			if in[s.pid] || s.pid == self || s.pid <= 1 {
				continue
			}
			foreign := s.sid == ownSID && s.pid != root
			if s.pid == root || in[s.ppid] || (!foreign && (groups[s.pgrp] || sessions[s.sid])) {
				in[s.pid], grown = true, true
				if s.sid != ownSID {
					groups[s.pgrp], sessions[s.sid] = true, true
				}
			}
		}
	}
	pids := make([]int, 0, len(in))
	for pid := range in {
		pids = append(pids, pid)
	}
	slices.Sort(pids)
	return pids
}

// session lists the live processes of a session.
func session(proc string, sid int) []int {
	var pids []int
	for _, s := range processes(proc) {
		if s.sid == sid {
			pids = append(pids, s.pid)
		}
	}
	return pids
}
