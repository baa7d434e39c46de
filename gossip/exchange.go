package gossip

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// The kinds of calls between nodes.
const (
	kindDigest   = "digest"   // are our tables the same, and if not, in which buckets?
	kindVersions = "versions" // which rows do you have in these buckets?
	kindRows     = "rows"     // take these rows, give me those
	kindMarks    = "marks"    // take my marks, give me yours
)

const (
	maxPage     = 1 << 20 // bytes of rows or versions in one body, or a single row
	maxWant     = 2048    // ids in one body
	callTimeout = 15 * time.Second
	maxBackoff  = 10 * time.Second // after exchanges that failed
	maxIdle     = 2 * time.Second  // after such as found only what can't be mended: it is not sent again, and other rows are not to wait for it
	wireFormat  = 1                // first byte of each body
)

// exchangeLoop compares this node's table with others': soon with a member whose digests are seen to differ, again soon as long as
// there was something to exchange, now and then at rest.
func (m *Mesh) exchangeLoop(ctx context.Context) {
	next := jitter(m.profile.soon)
	fruitless := 0 // exchanges in a row that found a difference and could not mend it
	for {
		peer, ok := m.nextPeer(ctx, next)
		if !ok {
			return
		}
		if peer.Name == "" {
			next = jitter(m.profile.rest)
			if m.settle.urgent() { // whoever did not answer may do so at any time
				next = jitter(min(maxIdle, m.profile.rest))
			}
			continue
		}
		done, err := m.exchange(ctx, peer)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			m.counts.failed.Add(1)
			m.log.Debug("an exchange failed", "node", peer.Name, "err", err)
			fruitless++
		case done.same:
			fruitless = 0
		case done.learned+done.given == 0:
			fruitless++
		default:
			fruitless = 0
		}
		most := maxIdle
		if err != nil && !m.settle.urgent() {
			most = maxBackoff
		}
		next = jitter(m.profile.rest)
		switch {
		case fruitless > 0:
			next = jitter(min(m.profile.soon<<min(fruitless, 10), most))
		case !done.same || m.settle.urgent():
			next = jitter(m.profile.soon)
		}
		// However many differences are seen: not at once again, and later if it is of no use.
		pause := jitter(m.profile.soon)
		if fruitless > 0 {
			pause = next
		}
		if !wait(ctx, pause) {
			return
		}
	}
}

// nextPeer waits until there is somebody to compare with.
func (m *Mesh) nextPeer(ctx context.Context, within time.Duration) (Member, bool) {
	t := time.NewTimer(within)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return Member{}, false
	case name := <-m.mismatch:
		if p, ok := m.roster.get(name); ok && p.Live() && name != m.opts.Node {
			return p, true
		}
	case <-t.C:
	}
	return m.settle.next(m.others(func(p Member) bool { return p.State == Alive }), time.Now()), true
}

// outcome is what came of an exchange.
type outcome struct {
	same    bool // there was no difference
	learned int  // rows and marks that were new here
	given   int  // and there
	refused int  // rows that went neither way
}

// exchange makes this node's table and a peer's the same, as far as neither changes meanwhile.
func (m *Mesh) exchange(ctx context.Context, peer Member) (outcome, error) {
	m.counts.exchanges.Add(1)
	var out outcome
	mine := m.hint()
	m.mu.Lock()
	groups := m.table.groups()
	buckets := m.table.buckets
	m.mu.Unlock()
	answer, err := m.call(ctx, peer, kindDigest, encodeDigest(mine, groups))
	if err != nil {
		return out, err
	}
	theirs, differ, err := decodeDigestAnswer(answer)
	if err != nil {
		return out, fmt.Errorf("digest of %s: %w", peer.Name, err)
	}
	if theirs.marks != mine.marks {
		n, err := m.exchangeMarks(ctx, peer)
		out.learned += n
		if err != nil {
			return out, err
		}
	}
	var want []int
	for g, hashes := range differ {
		for i, h := range hashes {
			if b := g*perGroup + i; buckets[b] != h {
				want = append(want, b)
			}
		}
	}
	slices.Sort(want)
	out.same = len(want) == 0 && theirs.marks == mine.marks
	for len(want) > 0 {
		n, err := m.exchangeBuckets(ctx, peer, want, &out)
		if err != nil {
			return out, err
		}
		want = want[n:]
	}
	if is, ok := m.roster.get(peer.Name); ok && is.Meta.Fresh { // it was started anew
		peer = is
	}
	m.settle.hasExchanged(peer, func() []Member { return m.others(Member.Live) }, time.Now())
	return out, nil
}

func (m *Mesh) call(ctx context.Context, peer Member, kind string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := m.opts.Peers.Call(ctx, peer, kind, body)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", kind, peer.Name, err)
	}
	if len(answer) > MaxAnswer {
		return nil, fmt.Errorf("%s of %s: %w: an answer of %d bytes", kind, peer.Name, ErrRefused, len(answer))
	}
	return answer, nil
}

// exchangeBuckets settles the first of the buckets, so many as their versions fit a page; it returns how many.
func (m *Mesh) exchangeBuckets(ctx context.Context, peer Member, buckets []int, out *outcome) (int, error) {
	answer, err := m.call(ctx, peer, kindVersions, encodeBuckets(buckets))
	if err != nil {
		return 0, err
	}
	n, versions, err := decodeVersions(answer, buckets)
	if err != nil {
		return 0, fmt.Errorf("versions of %s: %w", peer.Name, err)
	}
	want, give := m.differences(peer.Name, buckets[:n], versions)
	for len(want) > 0 || len(give) > 0 {
		served, taken, err := m.trade(ctx, peer, want[:min(len(want), maxWant)], give, out)
		if err != nil {
			return 0, err
		}
		want, give = want[served:], give[taken:]
	}
	return n, nil
}

// item is a row that a peer is to be asked for, or given, in the version that it has there, or here.
type item struct {
	id      string
	version Version
}

// differences says which rows a peer has that cover more than ours, and which of ours cover more than it has, but for those that were tried
// in vain.
func (m *Mesh) differences(peer string, buckets []int, theirs map[string]Version) (want, give []item) {
	in := map[int]bool{}
	for _, b := range buckets {
		in[b] = true
	}
	defer func() { want, give = m.vain.worth(peer, in, want, give, time.Now()) }()
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, v := range theirs {
		r := m.table.rows[id]
		if r == nil || !r.version.covers(v) {
			want = append(want, item{id, v})
		}
	}
	for id, r := range m.table.rows {
		if !in[bucketOf(id)] || m.table.retired[id] {
			continue
		}
		if v, ok := theirs[id]; !ok || !v.covers(r.version) {
			give = append(give, item{id, r.version})
		}
	}
	return want, give
}

// shown is a row with the account's newest figures, nil if there is none.
func (t *table) shown(id string) *row {
	r := t.rows[id]
	if r == nil || r.grave != nil || len(t.figures[id].of) == 0 {
		return r
	}
	rec := clone(r.rec)
	t.figures[id].addTo(rec.Status.Execution)
	return &row{id: id, rec: rec, raw: r.raw, version: r.version}
}

func (m *Mesh) exchangeMarks(ctx context.Context, peer Member) (int, error) {
	now := time.Now()
	m.mu.Lock()
	body := m.marks.append([]byte{wireFormat}, now)
	m.mu.Unlock()
	answer, err := m.call(ctx, peer, kindMarks, body)
	if err != nil {
		return 0, err
	}
	r := body1(answer)
	all := r.marks(now)
	if err := r.done(); err != nil {
		return 0, fmt.Errorf("marks of %s: %w", peer.Name, err)
	}
	return m.mergeMarks(all, now), nil
}

// Pull fetches rows from a member now, with the newest figures of their accounts as that member knows them.
func (m *Mesh) Pull(ctx context.Context, from string, ids ...string) error {
	peer, ok := m.roster.get(from)
	if !ok {
		return fmt.Errorf("pull from %s: no such member", from)
	}
	for len(ids) > 0 {
		want := ids[:min(len(ids), maxWant)]
		answer, err := m.call(ctx, peer, kindRows, encodeRows(want, nil))
		if err != nil {
			return fmt.Errorf("pull: %w", err)
		}
		got, err := decodeRowsAnswer(answer, want, time.Now())
		if err != nil {
			return fmt.Errorf("pull from %s: %w", from, err)
		}
		if _, err := m.takeRows(from, got.rows, got.bad, time.Now()); err != nil {
			return fmt.Errorf("pull from %s: %w", from, err)
		}
		if got.served == 0 {
			return fmt.Errorf("pull from %s: it gives no rows", from)
		}
		ids = ids[got.served:]
	}
	return nil
}
