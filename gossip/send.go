package gossip

import (
	"context"
	"maps"
	"net"
	"slices"
	"strconv"

	"github.com/hashicorp/memberlist"
)

// replicas is to how many nodes an owner sends its accounts.
const replicas = 2

// maxSenders bounds the jobs whose accounts go in one round.
const maxSenders = 10_000

// accountsLoop sends the accounts of the jobs that run here to their replicas. A message may be lost: the next one says the same and
// more.
func (m *Mesh) accountsLoop(ctx context.Context) {
	if m.opts.Accounts == nil {
		return
	}
	for round := 0; wait(ctx, jitter(m.profile.accounts)); round++ {
		m.sendAccounts(round)
	}
}

func (m *Mesh) sendAccounts(round int) {
	all := m.opts.Accounts()
	live := m.live()
	others := slices.DeleteFunc(live, func(n string) bool { return n == m.opts.Node })
	to := map[string][]told{}
	for i, a := range all[:min(len(all), maxSenders)] {
		one := tell(a, (round+i)%wholeAccount == 0)
		if len(one.of) == 0 || !validID(a.Job) {
			continue
		}
		for _, name := range rank(a.Job, others)[:min(replicas, len(others))] {
			to[name] = append(to[name], one)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(to)) {
		node, ok := m.node(name)
		if !ok {
			continue
		}
		for _, msg := range packAccounts(m.opts.Node, to[name]) {
			if err := m.list.Load().SendBestEffort(node, msg); err != nil {
				m.log.Debug("an account was not sent", "node", name, "err", err)
				continue
			}
			m.counts.sent.Add(1)
		}
	}
}

// node is a live member in memberlist's form.
func (m *Mesh) node(name string) (*memberlist.Node, bool) {
	p, ok := m.roster.get(name)
	if !ok || !p.Live() {
		return nil, false
	}
	host, port, err := net.SplitHostPort(p.Address)
	if err != nil {
		return nil, false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, false
	}
	return &memberlist.Node{Name: name, Addr: net.ParseIP(host), Port: uint16(n)}, true
}

// Stats are figures about a Mesh.
type Stats struct {
	Alive, Known int // members, this node among them
	Alone        bool
	Settled      bool
	Quorate      bool
	Health       int // memberlist's score of this node: 0 is well
	Jobs         int
	Tombstones   int
	Marks        int
	News         int // jobs of which more is known by broadcast than by row
	Queued       int // broadcasts

	// Counters since the start.
	Dropped   uint64 // broadcasts beyond the rate, left to anti-entropy
	Overflow  uint64 // messages that came faster than they were taken in
	Malformed uint64 // messages, bodies and metas that were refused
	Strangers uint64 // packets and streams of somebody without a key or with another label
	Refused   uint64 // nodes kept out
	Conflicts uint64 // of names
	Exchanges uint64 // begun
	Failed    uint64 // of these
	Learned   uint64 // rows
	Rejected  uint64 // rows of peers that could not be taken
	Given     uint64 // rows
	Sent      uint64 // messages to peers: broadcasts, once for each peer, and accounts
	Heard     uint64 // messages of peers
}

// Stats are the figures now.
func (m *Mesh) Stats() Stats {
	alive, known := m.roster.count()
	queued, dropped := m.queue.stats()
	s := Stats{
		Alive: alive, Known: known, Alone: m.Alone(), Settled: m.Settled(), Quorate: m.Quorate(),
		Queued: queued, Dropped: dropped,
		Overflow: m.counts.overflow.Load(), Malformed: m.counts.malformed.Load(), Strangers: m.counts.strangers.Load(),
		Refused: m.counts.refused.Load(), Conflicts: m.counts.conflicts.Load(), Exchanges: m.counts.exchanges.Load(),
		Failed: m.counts.failed.Load(), Learned: m.counts.learned.Load(), Given: m.counts.given.Load(),
		Rejected: m.counts.rejected.Load(), Sent: m.counts.sent.Load(), Heard: m.counts.heard.Load(),
	}
	if list := m.list.Load(); list != nil {
		s.Health = list.GetHealthScore()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.Jobs, s.Tombstones = len(m.table.rows)-m.table.graves, m.table.graves
	s.Marks, s.News = len(m.marks.values()), len(m.table.news)
	return s
}
