package gossip

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"
)

// Answer is the serving side of Peers: what a peer that has proven who it is asks of this node. A body that is not what it should be
// changes nothing, and is answered with an error.
func (m *Mesh) Answer(_ context.Context, from, kind string, body []byte) ([]byte, error) {
	if len(body) > MaxAnswer {
		return nil, fmt.Errorf("%s from %.80q: a body of %d bytes", kind, from, len(body))
	}
	var answer []byte
	var err error
	switch kind {
	case kindDigest:
		answer, err = m.answerDigest(body)
	case kindVersions:
		answer, err = m.answerVersions(body)
	case kindRows:
		answer, err = m.answerRows(from, body)
	case kindMarks:
		answer, err = m.answerMarks(body)
	default:
		err = malformed("an unknown kind of call")
	}
	if err != nil {
		m.counts.malformed.Add(1)
		return nil, fmt.Errorf("%.20q from %.80q: %w", kind, from, err)
	}
	return answer, nil
}

// body1 begins to read a body in the only format there is.
func body1(b []byte) *reader {
	r := &reader{b: b}
	if f := r.byte(); r.err == nil && f != wireFormat {
		r.fail("a body in format %d", f)
	}
	return r
}

// encodeDigest is the question: our hint, and the hash of each group.
func encodeDigest(h hint, groups [numGroups]uint64) []byte {
	b := h.append([]byte{wireFormat})
	for _, g := range groups {
		b = appendU64(b, g)
	}
	return b
}

func decodeDigest(b []byte) (h hint, groups [numGroups]uint64, err error) {
	r := body1(b)
	h = r.hint()
	for i := range groups {
		groups[i] = r.u64()
	}
	return h, groups, r.done()
}

// answerDigest answers with our hint, and all bucket hashes of the groups that differ.
func (m *Mesh) answerDigest(body []byte) ([]byte, error) {
	_, theirs, err := decodeDigest(body)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	ours := m.table.groups()
	b := m.hint().append([]byte{wireFormat})
	for g := range ours {
		if ours[g] == theirs[g] {
			continue
		}
		b = append(b, byte(g))
		for _, h := range m.table.buckets[g*perGroup : (g+1)*perGroup] {
			b = appendU64(b, h)
		}
	}
	return b, nil
}

func decodeDigestAnswer(b []byte) (h hint, differ map[int][perGroup]uint64, err error) {
	r := body1(b)
	h = r.hint()
	differ = map[int][perGroup]uint64{}
	for last := -1; r.err == nil && len(r.b) > 0; {
		g := int(r.byte())
		if g <= last || g >= numGroups {
			r.fail("has group %d after %d", g, last)
			break
		}
		last = g
		var hashes [perGroup]uint64
		for i := range hashes {
			hashes[i] = r.u64()
		}
		differ[g] = hashes
	}
	return h, differ, r.done()
}

func encodeBuckets(buckets []int) []byte {
	b := binary.AppendUvarint([]byte{wireFormat}, uint64(len(buckets)))
	for _, k := range buckets {
		b = binary.AppendUvarint(b, uint64(k))
	}
	return b
}

func decodeBuckets(b []byte) ([]int, error) {
	r := body1(b)
	n := r.uvarint(numBuckets)
	var all []int
	for range n {
		k := int(r.uvarint(numBuckets - 1))
		if len(all) > 0 && k <= all[len(all)-1] {
			r.fail("has bucket %d after %d", k, all[len(all)-1])
		}
		if r.err != nil {
			break
		}
		all = append(all, k)
	}
	return all, r.done()
}

// answerVersions answers with the versions of all rows in the first of the buckets, as many buckets as fit, at least one.
func (m *Mesh) answerVersions(body []byte) ([]byte, error) {
	buckets, err := decodeBuckets(body)
	if err != nil {
		return nil, err
	}
	at := make(map[int]int, len(buckets))
	for i, k := range buckets {
		at[k] = i
	}
	pages := make([][]byte, len(buckets))
	m.mu.Lock()
	for id, r := range m.table.rows {
		i, ok := at[bucketOf(id)]
		if !ok || m.table.retired[id] {
			continue
		}
		pages[i] = r.version.append(appendString(pages[i], id))
	}
	m.mu.Unlock()
	n, size := 0, 0
	for n < len(pages) && (n == 0 || size+len(pages[n]) <= maxPage) {
		size += len(pages[n])
		n++
	}
	b := binary.AppendUvarint([]byte{wireFormat}, uint64(n))
	for _, p := range pages[:n] {
		b = append(b, p...)
	}
	return b, nil
}

// decodeVersions reads the versions of the first n of the buckets that were asked for.
func decodeVersions(b []byte, asked []int) (n int, versions map[string]Version, err error) {
	r := body1(b)
	n = int(r.uvarint(uint64(len(asked))))
	in := map[int]bool{}
	for _, k := range asked[:n] {
		in[k] = true
	}
	versions = map[string]Version{}
	for r.err == nil && len(r.b) > 0 {
		id := r.text(maxID)
		v := r.version()
		if _, twice := versions[id]; twice || r.err == nil && (!validID(id) || !in[bucketOf(id)]) {
			r.fail("has a row twice, or one that was not asked for")
		}
		versions[id] = v
	}
	if err := r.done(); err != nil {
		return 0, nil, err
	}
	if n == 0 && len(asked) > 0 {
		return 0, nil, malformed("an answer for no bucket")
	}
	return n, versions, nil
}

func encodeRows(want []string, rows [][]byte) []byte {
	b := binary.AppendUvarint([]byte{wireFormat}, uint64(len(want)))
	for _, id := range want {
		b = appendString(b, id)
	}
	b = binary.AppendUvarint(b, uint64(len(rows)))
	for _, r := range rows {
		b = append(b, r...)
	}
	return b
}

func decodeRows(b []byte, now time.Time) (want []string, rows []*row, bad []reject, err error) {
	r := body1(b)
	for range r.uvarint(maxWant) {
		id := r.text(maxID)
		if r.err != nil {
			break
		}
		if !validID(id) {
			r.fail("asks for no job")
		}
		want = append(want, id)
	}
	rows, bad = r.rows(now)
	return want, rows, bad, r.done()
}

// rows reads a number and as many rows, those that can't be taken by themselves.
func (r *reader) rows(now time.Time) (rows []*row, bad []reject) {
	for range r.uvarint(maxPage) {
		one, not := r.row(now)
		switch {
		case r.err != nil:
			return nil, nil
		case not != nil:
			bad = append(bad, *not)
		default:
			rows = append(rows, one)
		}
	}
	return rows, bad
}

// answerRows takes rows and gives rows: of those wanted the first, as many as fit, at least one. One that it can't take keeps no other away.
func (m *Mesh) answerRows(from string, body []byte) ([]byte, error) {
	now := time.Now()
	want, rows, bad, err := decodeRows(body, now)
	if err != nil {
		return nil, err
	}
	accepted, _ := m.takeRows(from, rows, bad, now) // what is wrong with others is said
	page, served := m.page(want)
	b := binary.AppendUvarint([]byte{wireFormat}, uint64(accepted))
	b = binary.AppendUvarint(b, uint64(served))
	b = binary.AppendUvarint(b, uint64(len(page)))
	for _, p := range page {
		b = append(b, p...)
	}
	return b, nil
}

// rowsAnswer is what comes back for rows.
type rowsAnswer struct {
	accepted int // of our rows: they were news
	served   int // of the rows wanted: they are dealt with, and are
	rows     []*row
	bad      []reject // or can't be taken
}

// decodeRowsAnswer reads it.
func decodeRowsAnswer(b []byte, want []string, now time.Time) (rowsAnswer, error) {
	r := body1(b)
	a := rowsAnswer{accepted: int(r.uvarint(maxPage)), served: int(r.uvarint(uint64(len(want))))}
	asked := map[string]bool{}
	for _, id := range want[:a.served] {
		asked[id] = true
	}
	a.rows, a.bad = r.rows(now)
	if err := r.done(); err != nil {
		return rowsAnswer{}, err
	}
	for _, row := range a.rows {
		if !asked[row.id] {
			return rowsAnswer{}, malformed("a row that was not asked for")
		}
	}
	return a, nil
}

func (m *Mesh) answerMarks(body []byte) ([]byte, error) {
	now := time.Now()
	r := body1(body)
	all := r.marks(now)
	if err := r.done(); err != nil {
		return nil, err
	}
	m.mergeMarks(all, now)
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.marks.append([]byte{wireFormat}, now), nil
}
