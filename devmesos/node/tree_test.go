package node

import (
	"slices"
	"testing"
)

func TestParseStat(t *testing.T) {
	t.Parallel()
	const rest = " S 1 20 30 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 1000 10"
	tests := map[string]struct {
		line string
		want procStat
		ok   bool
	}{
		"plain":                  {"7 (sh)" + rest, procStat{pid: 7, ppid: 1, pgrp: 20, sid: 30, state: 'S', user: 5 + 7, system: 6 + 8, start: 4242}, true},
		"blanks and brackets":    {"7 (a) R 9 (x)" + rest, procStat{pid: 7, ppid: 1, pgrp: 20, sid: 30, state: 'S', user: 5 + 7, system: 6 + 8, start: 4242}, true},
		"cut":                    {"7 (sh) S 1 2", procStat{}, false},
		"no command":             {"7 sh S 1", procStat{}, false},
		"not a number":           {"x (sh)" + rest, procStat{state: 'S'}, false},
		"empty":                  {"", procStat{}, false},
		"brackets the wrong way": {")(", procStat{}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, ok := parseStat(test.line)
			if ok != test.ok || ok && got != test.want {
				t.Errorf("got %+v %v", got, ok)
			}
		})
	}
}

func TestTreeIsDescendantsGroupsAndSessions(t *testing.T) {
	t.Parallel()
	all := []procStat{
		{pid: 1, sid: 1, pgrp: 1},
		{pid: 50, ppid: 1, sid: 50, pgrp: 50},     // us
		{pid: 100, ppid: 50, sid: 100, pgrp: 100}, // the task
		{pid: 101, ppid: 100, sid: 100, pgrp: 101},
		{pid: 102, ppid: 1, sid: 100, pgrp: 102},   // lost its parent
		{pid: 103, ppid: 101, sid: 103, pgrp: 103}, // own session
		{pid: 104, ppid: 1, sid: 103, pgrp: 104},   // of that session, lost its parent
		{pid: 200, ppid: 1, sid: 200, pgrp: 200},   // somebody else
		{pid: 51, ppid: 50, sid: 50, pgrp: 50},     // another child of ours
	}
	if got, want := closure(all, 100, 50), []int{100, 101, 102, 103, 104}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	all[2].sid, all[2].pgrp = 50, 50 // before its setsid
	if got := closure(all, 100, 50); slices.Contains(got, 50) || slices.Contains(got, 51) {
		t.Errorf("%v holds us or our session", got)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("7 (sh) S 1 20 30 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 1000 10")
	f.Add("7 (a) R 9 (x) Z 1 2 3")
	f.Fuzz(func(t *testing.T, line string) {
		if s, ok := parseStat(line); ok && s.state == 0 {
			t.Errorf("%q has no state", line)
		}
	})
}
