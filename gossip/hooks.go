package gossip

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/memberlist"
)

// hooks is what memberlist calls. None of it blocks, keeps a slice that it was given, or calls memberlist.
type hooks struct{ m *Mesh }

const hintFormat = 1

// hint is what goes with memberlist's own messages: the digests at their shortest.
type hint struct{ root, marks uint64 }

func (h hint) append(b []byte) []byte {
	return appendU64(appendU64(append(b, hintFormat), h.root), h.marks)
}

func (r *reader) hint() hint {
	if f := r.byte(); r.err == nil && f != hintFormat {
		r.fail("a hint in format %d", f)
	}
	return hint{r.u64(), r.u64()}
}

func (m *Mesh) hint() hint { return hint{m.root.Load(), m.mark.Load()} }

// compare asks for an exchange with a member whose hint differs from ours.
func (m *Mesh) compare(name string, h hint) {
	if h != m.hint() {
		m.trigger(name)
	}
}

// trigger asks for an exchange with a member soon. One wish is enough.
func (m *Mesh) trigger(name string) {
	select {
	case m.mismatch <- name:
	default:
	}
}

// NodeMeta is memberlist's.
func (h *hooks) NodeMeta(limit int) []byte {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if len(h.m.metaWire) > limit { // SetMeta has checked it
		return nil
	}
	return bytes.Clone(h.m.metaWire)
}

// NotifyMsg is memberlist's: a user message.
func (h *hooks) NotifyMsg(b []byte) {
	if len(b) == 0 || len(b) > 2048 {
		h.m.counts.malformed.Add(1)
		return
	}
	select {
	case h.m.inbox <- bytes.Clone(b):
		h.m.counts.heard.Add(1)
	default: // anti-entropy brings it
		h.m.counts.overflow.Add(1)
	}
}

// GetBroadcasts is memberlist's.
func (h *hooks) GetBroadcasts(overhead, limit int) [][]byte {
	msgs := h.m.queue.get(overhead, limit)
	h.m.counts.sent.Add(uint64(len(msgs)))
	return msgs
}

// LocalState is memberlist's: what goes with an exchange of member lists. Never the table.
func (h *hooks) LocalState(bool) []byte {
	return appendString(h.m.hint().append(nil), h.m.opts.Node)
}

// MergeRemoteState is memberlist's.
func (h *hooks) MergeRemoteState(b []byte, _ bool) {
	name, hint, err := decodeState(b)
	if err != nil {
		h.m.counts.malformed.Add(1)
		return
	}
	h.m.compare(name, hint)
}

func decodeState(b []byte) (name string, h hint, err error) {
	r := &reader{b: b}
	h, name = r.hint(), r.text(maxName)
	return name, h, r.done()
}

// AckPayload is memberlist's: it goes with each acknowledgement of a probe.
func (h *hooks) AckPayload() []byte { return h.m.hint().append(nil) }

// NotifyPingComplete is memberlist's.
func (h *hooks) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, payload []byte) {
	h.m.roster.answered(n.Name, rtt)
	if len(payload) == 0 {
		return
	}
	r := &reader{b: payload}
	hint := r.hint()
	if r.done() != nil {
		h.m.counts.malformed.Add(1)
		return
	}
	h.m.compare(n.Name, hint)
}

// NotifyAlive is memberlist's: an error keeps the node out.
func (h *hooks) NotifyAlive(n *memberlist.Node) error {
	meta, err := decodeMeta(n.Meta)
	switch {
	case err != nil:
	case n.Name == "" || len(n.Name) > maxNode || !printable(n.Name):
		err = malformed("a node's name")
	case n.Name != h.m.opts.Node && !meta.speaks():
		err = fmt.Errorf("it speaks protocols %d to %d, this node %d to %d", meta.ProtocolMin, meta.ProtocolMax, ProtocolMin, ProtocolMax)
	default:
		return nil
	}
	h.m.counts.refused.Add(1)
	if h.m.chat.once.pass("node "+n.Name, time.Now()) {
		h.m.log.Warn("a node is kept out", "node", clip(n.Name), "addr", n.Address(), "err", err)
	}
	return err
}

// NotifyConflict is memberlist's: two nodes go by one name.
func (h *hooks) NotifyConflict(existing, other *memberlist.Node) {
	h.m.counts.conflicts.Add(1)
	if h.m.chat.once.pass("conflict "+other.Name+" "+other.Address(), time.Now()) {
		h.m.log.Warn("two nodes go by one name: the newcomer is not heard until the other is gone; give it another name",
			"node", clip(other.Name), "addr", existing.Address(), "newcomer", other.Address())
	}
}

// listen takes in user messages, one after another.
func (m *Mesh) listen(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-m.inbox:
			if err := m.hear(b, time.Now()); err != nil {
				m.counts.malformed.Add(1)
				m.log.Debug("a message is ignored", "err", err)
			}
		}
	}
}

// hear takes in one user message. What was new is passed on.
func (m *Mesh) hear(b []byte, now time.Time) error {
	switch b[0] {
	case msgNews:
		n, err := decodeNews(b[1:])
		if err != nil {
			return fmt.Errorf("broadcast: %w", err)
		}
		m.hearNews(n, b, now)
	case msgMark:
		r := &reader{b: b[1:]}
		one := r.mark(now)
		if err := r.done(); err != nil {
			return fmt.Errorf("mark: %w", err)
		}
		if m.mergeMarks([]mark{one}, now) > 0 {
			m.queue.add("mark/"+one.key, b, false, now)
		}
	case msgAccounts:
		_, all, err := decodeAccounts(b[1:])
		if err != nil {
			return fmt.Errorf("accounts: %w", err)
		}
		m.hearAccounts(all)
	default:
		return malformed("a message of unknown kind %d", b[0])
	}
	return nil
}

func (m *Mesh) hearNews(n news, wire []byte, now time.Time) {
	m.mu.Lock()
	var fresh, mine bool
	if n.version.Removed {
		changed, err := m.table.merge(tombstone(n.id, 0, now), now)
		if fresh = changed && err == nil; fresh {
			m.touch(n.id)
		}
	} else {
		fresh = m.table.hear(n)
		if r := m.table.rows[n.id]; r != nil {
			mine = r.rec.Status.Owner == m.opts.Node
		}
	}
	m.mu.Unlock()
	if !fresh {
		return
	}
	m.tell.job(n.id)
	m.queue.add("job/"+n.id, wire, false, now)
	if mine && n.from != m.opts.Node { // somebody acts on a job of this node: fetch the whole row now
		m.trigger(n.from)
	}
}

func (m *Mesh) hearAccounts(all []told) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range all {
		m.table.count(a)
	}
}

// mergeMarks returns how many of the marks were news.
func (m *Mesh) mergeMarks(all []mark, now time.Time) int {
	m.mu.Lock()
	n := 0
	for _, k := range all {
		if m.marks.merge(k, now) {
			m.touchMark(k.key)
			n++
		}
	}
	m.mu.Unlock()
	if n > 0 {
		m.tell.marks()
	}
	return n
}

// takeRows takes in rows from a peer; it returns how many changed something, and what was wrong with the first that could not be taken: bad,
// or one that the table refuses.
func (m *Mesh) takeRows(from string, rows []*row, bad []reject, now time.Time) (int, error) {
	n := 0
	for _, r := range rows {
		m.mu.Lock()
		changed, err := m.table.merge(r, now)
		if changed {
			m.touch(r.id)
		}
		m.mu.Unlock()
		if err != nil {
			bad = append(bad, reject{r.id, err})
		}
		if changed {
			n++
			m.tell.job(r.id)
		}
	}
	m.counts.learned.Add(uint64(n))
	return n, m.rejected(from, bad, now)
}
