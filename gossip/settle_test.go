package gossip

import (
	"testing"
	"time"
)

func TestANodeThatWasStoppedIsNotSettled(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := settling{joined: true, exchanged: true}
	for range settledPolls + 1 {
		if s.poll(3, now) {
			t.Fatal("away without a pause")
		}
		now = now.Add(500 * time.Millisecond)
	}
	if s.stable < settledPolls || s.away(now) {
		t.Fatalf("%+v", &s)
	}
	now = now.Add(absent) // SIGSTOP, SIGCONT: whoever asks before the next poll must know, too
	if !s.away(now) {
		t.Error("not known to have been away")
	}
	if !s.poll(3, now) || s.stable != 0 || s.exchanged {
		t.Errorf("after the pause: stable %d, exchanged %v", s.stable, s.exchanged)
	}
	if now = now.Add(500 * time.Millisecond); s.poll(3, now) || s.away(now) {
		t.Error("still away")
	}
}

func TestWhoHasMetNobody(t *testing.T) {
	t.Parallel()
	const self, other = "10.0.0.1:7946", "10.0.0.2:7946"
	for name, c := range map[string]struct {
		join  []string
		knows bool // of another, from an earlier life
		want  bool
	}{
		"alone":              {nil, false, false},
		"told of itself":     {[]string{self}, false, false},
		"told of another":    {[]string{self, other}, false, true},
		"remembers somebody": {[]string{self, other}, true, false},
	} {
		m := &Mesh{opts: Options{Node: "a", Join: c.join}, roster: newRoster("a")}
		m.roster.remember("a", self)
		if c.knows {
			m.roster.remember("b", other)
		}
		if got := m.Unmet(); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
