package gossip

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// settling is what Settled goes by.
type settling struct {
	mu        sync.Mutex
	last      int // live members at the last poll
	stable    int // polls with as many
	exchanged bool
	met       map[string]bool // members that the table was compared with since they came
	joined    time.Time       // when the first try to join was over; zero: not yet
	polled    time.Time       // last; zero: not yet
	told      bool            // this node has been settled, and its meta says so
}

const (
	settledPolls = 3
	// absent is how late a poll may be. Who was stopped for longer (SIGSTOP, a machine that was suspended) may have been taken for dead.
	absent = 5 * time.Second
	// freshTime is how long after its start a node looks for a member that has been settled, or for all that live. After that anybody's word
	// counts: else a large cluster that starts as a whole, or one with members that don't answer, would wait for ever.
	freshTime = 10 * time.Second
)

// poll counts the members. It says whether this node was away: then what it knows is as of before, until it has compared it.
func (s *settling) poll(alive int, now time.Time) (away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	away = s.away(now)
	s.polled = now
	if alive == s.last && !away {
		s.stable++
		return false
	}
	s.last, s.stable = alive, 0
	if away {
		s.exchanged = false
		clear(s.met)
	}
	return away
}

// away says whether no poll was made for too long. It is called under mu.
func (s *settling) away(now time.Time) bool { return !s.polled.IsZero() && now.Sub(s.polled) > absent }

func (s *settling) hasJoined(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joined = now
}

// came notes that a member has come, whose table is not known.
func (s *settling) came(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exchanged = false
	delete(s.met, name)
}

// hasExchanged notes that the table was compared with a member's. It counts if that one knows what there is to be known: it has been settled;
// or if now all of the others are met; or if this node has looked for such a one for long enough.
func (s *settling) hasExchanged(with Member, others func() []Member, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.met == nil {
		s.met = map[string]bool{}
	}
	s.met[with.Name] = true
	if !with.Meta.Fresh || s.patient(now) || !slices.ContainsFunc(others(), func(o Member) bool { return !s.met[o.Name] }) {
		s.exchanged = true
	}
}

// urgent says whether nobody has been met whose word counts.
func (s *settling) urgent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.exchanged
}

// patient says whether this node has looked for members to hear for long enough. It is called under mu.
func (s *settling) patient(now time.Time) bool {
	return !s.joined.IsZero() && now.Sub(s.joined) >= freshTime
}

// next chooses whom to compare with: as long as nobody was met whose word counts, of those that were not met yet, and rather one that has been
// settled. The zero Member is nobody.
func (s *settling) next(others []Member, now time.Time) Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := others
	if !s.exchanged && !s.patient(now) {
		for _, fits := range []func(Member) bool{
			func(o Member) bool { return !o.Meta.Fresh && !s.met[o.Name] },
			func(o Member) bool { return !s.met[o.Name] },
		} {
			if some := filter(others, fits); len(some) > 0 {
				from = some
				break
			}
		}
	}
	if len(from) == 0 {
		return Member{}
	}
	return from[rand.IntN(len(from))]
}

func filter(all []Member, fits func(Member) bool) (some []Member) {
	for _, m := range all {
		if fits(m) {
			some = append(some, m)
		}
	}
	return some
}

// settled says whether what this node knows can be acted on.
func (s *settling) settled(alive, known int, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.joined.IsZero() || s.stable < settledPolls || alive != s.last || s.away(now):
		return false
	case alive > 1:
		return s.exchanged
	default:
		return known == 1
	}
}

// tellNow notes that this node is settled, for good: who was, and is not at the moment, knows more than who never was.
func (s *settling) tellNow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = true
}

// fresh says whether this node has not been settled since its start.
func (s *settling) fresh() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.told
}

// settleLoop counts the members.
func (m *Mesh) settleLoop(ctx context.Context) {
	for wait(ctx, m.profile.poll) {
		alive, _ := m.roster.count()
		if !m.settle.poll(alive, time.Now()) {
			m.tellSettled()
			continue
		}
		m.log.Warn("this node was stopped for a while: it acts on nothing before it has heard its peers")
		for _, p := range m.others(Member.Live) {
			m.trigger(p.Name)
		}
	}
}

// tellSettled tells the others, once, that this node has been settled. One that was told of others and has met none has nothing to say.
func (m *Mesh) tellSettled() {
	if !m.settle.fresh() || !m.Settled() || m.Unmet() {
		return
	}
	m.settle.tellNow()
	if err := m.changeMeta(func(told Meta) Meta { return told }); err != nil {
		m.log.Warn("others are not told that this node is settled", "err", err)
	}
}

// others are the members that ok accepts, but for this node.
func (m *Mesh) others(ok func(Member) bool) []Member {
	return m.roster.list(func(p Member) bool { return p.Name != m.opts.Node && ok(p) })
}

// Settled says whether what this node knows can be acted on: the number of members has not changed for three polls, and since the
// last one came (back) its table was compared with that of somebody who knows what there is to be known. That is a member that has been
// settled since its own start, or all others together. Not just anybody: of nodes that start at once with little or nothing in their stores,
// each would take another's empty table for the cluster's, while a third has the rows; and a node that acts on an empty table forgets what it
// owes to the owners of jobs that it does not know, and on an old one it takes over what others have had since. A whole cluster that starts at
// once settles as soon as each has met all, and after freshTime anybody's word counts: who has the rows may be silent. Members of versions that
// do not tell count at once.
//
// Or it is alone and never knew of others. It is not settled while it is alone and knows of others, nor when it was stopped for some seconds.
func (m *Mesh) Settled() bool {
	alive, known := m.roster.count()
	return m.settle.settled(alive, known, time.Now())
}

// came is told of a member that has come. It runs under memberlist's lock.
func (m *Mesh) came(_ bool, name string) {
	m.settle.came(name)
	m.vain.forget(name)
	m.trigger(name)
}
