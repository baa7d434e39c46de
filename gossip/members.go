package gossip

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Members are all nodes that this one knows of, itself among them, by name.
func (m *Mesh) Members() []Member { return m.roster.list(nil) }

// Member is one of them.
func (m *Mesh) Member(name string) (Member, bool) { return m.roster.get(name) }

// Forget drops a member that is dead for good, so that it counts no longer among those known. It says whether it did.
func (m *Mesh) Forget(name string) bool { return m.roster.forget(name) }

// live is the names of the members that take part, this node's own among them.
func (m *Mesh) live() []string {
	var names []string
	for _, p := range m.roster.list(Member.Live) {
		names = append(names, p.Name)
	}
	if len(names) == 0 { // not running yet
		names = []string{m.opts.Node}
	}
	return names
}

// Steward is the live member that speaks for a job whose owner does not live. All nodes that see the same members name the same one.
func (m *Mesh) Steward(job string) string { return rank(job, m.live())[0] }

// Replicas are the live members, at most k, that keep a job's account and checkpoints, its owner not among them.
func (m *Mesh) Replicas(job string, k int) []string {
	owner := m.opts.Node
	if rec, ok := m.Get(job); ok && rec.Status.Owner != "" {
		owner = rec.Status.Owner
	}
	names := slices.DeleteFunc(m.live(), func(n string) bool { return n == owner })
	return rank(job, names)[:min(max(k, 0), len(names))]
}

// SetMeta says what this node tells of itself. A change is told at once if nothing was told for some seconds, else after these; so it
// may be called as often as figures change. ProtocolMin and ProtocolMax are this version's if they are zero.
func (m *Mesh) SetMeta(meta Meta) error { return m.changeMeta(func(Meta) Meta { return meta }) }

// changeMeta makes what this node tells of itself from what it told before.
func (m *Mesh) changeMeta(next func(Meta) Meta) error {
	m.mu.Lock()
	meta := next(m.meta)
	if meta.ProtocolMin == 0 && meta.ProtocolMax == 0 {
		meta.ProtocolMin, meta.ProtocolMax = ProtocolMin, ProtocolMax
	}
	meta.Fresh = m.settle.fresh()
	wire, err := meta.encode()
	changed := err == nil && !bytes.Equal(wire, m.metaWire)
	if changed {
		m.meta, m.metaWire = meta, wire
	}
	m.mu.Unlock()
	if changed {
		select {
		case m.newMeta <- struct{}{}:
		default:
		}
	}
	return err
}

// metaLoop tells the others of a changed meta, now and then.
func (m *Mesh) metaLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.newMeta:
		}
		if err := m.list.Load().UpdateNode(m.profile.meta); err != nil {
			m.log.Debug("the node's meta was not told to anybody yet", "err", err)
		}
		if !wait(ctx, m.profile.meta) {
			return
		}
	}
}

// Quorate says whether at least half of the members known live, those known from before a restart included: of two parts of a
// cluster at most both halves of an even cut are.
func (m *Mesh) Quorate() bool {
	alive, known := m.roster.count()
	return 2*alive >= known
}

// Alone says whether this node sees nobody though it knows of others.
func (m *Mesh) Alone() bool {
	alive, known := m.roster.count()
	return alive <= 1 && known > 1
}

// Unmet says whether this node was told of others to join and has never met any, as far as it remembers: what they know it can't know.
func (m *Mesh) Unmet() bool {
	if _, known := m.roster.count(); known > 1 {
		return false
	}
	self := m.Address()
	return slices.ContainsFunc(m.opts.Join, func(seed string) bool { return seed != self })
}

const (
	firstPeers = 3               // joined at the start
	seedEvery  = 4               // of the rounds, one asks a seed that is no member
	firstTry   = 5 * time.Second // the longest wait between two tries while nobody was ever met
)

// joinLoop joins at the start, and again whom the cluster has lost: nobody else does it after a long partition.
func (m *Mesh) joinLoop(ctx context.Context) {
	m.join(ctx, m.firstAddresses())
	m.settle.hasJoined(time.Now())
	backoff := 500 * time.Millisecond
	for round := 1; ; round++ {
		every := m.profile.rejoin
		if alive, known := m.roster.count(); alive <= 1 && (known > 1 || len(m.opts.Join) > 0) {
			every = min(backoff, every)
			backoff = min(2*backoff, firstTry)
		} else {
			backoff = 500 * time.Millisecond
		}
		if !wait(ctx, jitter(every)) {
			return
		}
		if alive, _ := m.roster.count(); alive <= 1 {
			m.join(ctx, m.firstAddresses())
			continue
		}
		m.join(ctx, m.lost(round%seedEvery == 0))
	}
}

// firstAddresses are some seeds and some remembered members, at random.
func (m *Mesh) firstAddresses() []string {
	seeds := slices.Clone(m.opts.Join)
	rand.Shuffle(len(seeds), func(i, k int) { seeds[i], seeds[k] = seeds[k], seeds[i] })
	var known []string
	for _, p := range m.roster.list(func(p Member) bool { return p.State == Dead && p.Name != m.opts.Node }) {
		known = append(known, p.Address)
	}
	rand.Shuffle(len(known), func(i, k int) { known[i], known[k] = known[k], known[i] })
	return append(known[:min(firstPeers, len(known))], seeds[:min(firstPeers, len(seeds))]...)
}

// lost is one member at random that is thought dead, with such a probability that all live ones together try each about once a round;
// with seeds, also a seed that is no live member: two parts that never knew of each other meet by it.
func (m *Mesh) lost(seeds bool) []string {
	dead := m.roster.list(func(p Member) bool { return p.State == Dead })
	alive, _ := m.roster.count()
	var to []string
	if len(dead) > 0 && rand.Float64() < float64(len(dead))/float64(max(alive, 1)) {
		to = append(to, dead[rand.IntN(len(dead))].Address)
	}
	if !seeds {
		return to
	}
	here := map[string]bool{}
	for _, p := range m.roster.list(Member.Live) {
		here[p.Address] = true
	}
	absent := slices.DeleteFunc(slices.Clone(m.opts.Join), func(a string) bool { return here[a] })
	if len(absent) > 0 {
		to = append(to, absent[rand.IntN(len(absent))])
	}
	return to
}

// join asks addresses for their member lists, one after another.
func (m *Mesh) join(ctx context.Context, addresses []string) {
	for _, a := range addresses {
		if ctx.Err() != nil {
			return
		}
		if _, err := m.list.Load().Join([]string{a}); err != nil {
			m.log.Debug("a member cannot be joined", "addr", a, "err", clip(fmt.Sprint(err)))
		}
	}
}
