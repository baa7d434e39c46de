package gossip

import (
	"testing"
	"time"
)

func TestANodeThatWasStoppedIsNotSettled(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := settling{joined: now, exchanged: true}
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

func TestWhoseWordSettles(t *testing.T) {
	t.Parallel()
	now := time.Now()
	fresh := func(name string) Member { return Member{Name: name, State: Alive, Meta: Meta{Fresh: true}} }
	old := Member{Name: "old", State: Alive} // settled, or of a version that does not tell
	for name, c := range map[string]struct {
		met    []Member
		others []Member
		since  time.Duration // of the start
		want   bool
	}{
		"one that knows nothing itself":         {[]Member{fresh("b")}, []Member{fresh("b"), fresh("c")}, time.Second, false},
		"all that there are":                    {[]Member{fresh("b"), fresh("c")}, []Member{fresh("b"), fresh("c")}, time.Second, true},
		"all but one that has been settled":     {[]Member{fresh("b"), fresh("c")}, []Member{fresh("b"), fresh("c"), old}, time.Second, false},
		"one that has been settled":             {[]Member{old}, []Member{fresh("b"), fresh("c"), old}, time.Second, true},
		"anybody, when it has taken long":       {[]Member{fresh("b")}, []Member{fresh("b"), old}, freshTime, true},
		"anybody, before the first try to join": {[]Member{fresh("b")}, []Member{fresh("b"), old}, -1, false},
	} {
		s := settling{last: len(c.others) + 1, stable: settledPolls, polled: now}
		if c.since >= 0 {
			s.joined = now.Add(-c.since)
		}
		for _, p := range c.met {
			s.hasExchanged(p, func() []Member { return c.others }, now)
		}
		if s.exchanged != c.want || s.settled(len(c.others)+1, len(c.others)+1, now) != c.want {
			t.Errorf("%s: exchanged %t, want %t", name, s.exchanged, c.want)
		}
		if p := s.next(c.others, now); !c.want && c.since >= 0 && s.met[p.Name] {
			t.Errorf("%s: %s is asked again before the others", name, p.Name)
		}
		if s.came("b"); s.exchanged {
			t.Errorf("%s: settled though one has come", name)
		}
	}
}
