package gossip

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"
)

// trade asks a peer for rows and gives it others, as many as fit; it returns how many of each are dealt with. Of a page that the peer does
// not take as a whole, or whose answer is too long, a smaller part is tried, down to the one row that is to blame.
func (m *Mesh) trade(ctx context.Context, peer Member, want, give []item, out *outcome) (served, taken int, err error) {
	rows, taken := m.page(idsOf(give))
	give = give[:taken]
	answer, err := m.call(ctx, peer, kindRows, encodeRows(idsOf(want), rows))
	var got rowsAnswer
	if err == nil {
		if got, err = decodeRowsAnswer(answer, idsOf(want), time.Now()); err != nil {
			err = fmt.Errorf("rows of %s: %w", peer.Name, err)
		}
	}
	switch {
	case errors.Is(err, ErrRefused):
		return m.tradeLess(ctx, peer, want, give, out, err)
	case err != nil:
		return 0, 0, err
	case got.served == 0 && taken == 0:
		return 0, 0, fmt.Errorf("rows of %s: it gives none and takes none", peer.Name)
	}
	learned, _ := m.takeRows(peer.Name, got.rows, got.bad, time.Now()) // what is wrong with others is said
	out.learned += learned
	out.given += got.accepted
	m.counts.given.Add(uint64(got.accepted))
	if got.accepted < len(rows) { // some were no news, or it can't take them: which of both, the next comparison shows
		m.vain.note(peer.Name, true, give, 1, time.Now())
	}
	if learned < got.served {
		m.vain.note(peer.Name, false, want[:got.served], 1, time.Now())
	}
	return got.served, taken, nil
}

// maxRefused is how many rows a peer may refuse in one comparison; the rest is for the next, which comes later.
const maxRefused = 64

// tradeLess is trade of the first part of a page that was refused; one row alone is done with.
func (m *Mesh) tradeLess(ctx context.Context, peer Member, want, give []item, out *outcome, why error) (served, taken int, err error) {
	switch {
	case len(want) > 0 && len(give) > 0:
		want = nil // with the next page
	case len(want) > 1:
		want = want[:len(want)/2]
	case len(give) > 1:
		give = give[:len(give)/2]
	case len(want)+len(give) == 0 || out.refused >= maxRefused:
		return 0, 0, why
	default:
		out.refused++
		m.vain.note(peer.Name, true, give, enoughVain, time.Now())
		m.vain.note(peer.Name, false, want, enoughVain, time.Now())
		for _, i := range append(want, give...) {
			m.sayVain(peer.Name, i.id, why, time.Now())
		}
		return len(want), len(give), nil
	}
	return m.trade(ctx, peer, want, give, out)
}

func idsOf(items []item) []string {
	ids := make([]string, len(items))
	for k, i := range items {
		ids[k] = i.id
	}
	return ids
}

// page encodes the first of the rows, as many as fit; it returns how many of the ids are dealt with.
func (m *Mesh) page(ids []string) (rows [][]byte, taken int) {
	now := time.Now()
	size := 0
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		r := m.table.shown(id)
		if r == nil {
			taken++
			continue
		}
		b, err := r.append(nil, now)
		if err != nil { // it could not have come into the table
			taken++
			continue
		}
		if size += len(b); size > maxPage && len(rows) > 0 {
			break
		}
		rows = append(rows, b)
		taken++
	}
	return rows, taken
}

// rejected counts rows of a peer that could not be taken, and names each once an hour. It returns what was wrong with the first.
func (m *Mesh) rejected(from string, bad []reject, now time.Time) (first error) {
	m.counts.rejected.Add(uint64(len(bad)))
	for _, b := range bad {
		id := b.id
		if errors.Is(b.err, ErrFull) {
			id = "" // it is no fault of this row
		}
		if m.said.pass("row "+id+" "+b.err.Error(), now) {
			m.log.Warn("a peer has a row that this node can't take; the others are taken, and it is not named again for an hour",
				"job", id, "node", clip(from), "err", clip(b.err.Error()))
		}
	}
	if len(bad) > 0 {
		return bad[0].err
	}
	return nil
}

// sayVain names a row, once an hour, that does not go from one node to the other.
func (m *Mesh) sayVain(peer, id string, why error, now time.Time) {
	if m.said.pass("vain "+id, now) {
		m.log.Warn("a job's row does not pass between this node and a peer; the others do, and it is not named again for an hour",
			"job", id, "node", peer, "err", clip(fmt.Sprint(why)))
	}
}

// vain are the rows that were given to peers, or asked of them, in vain. The two tables differ in them from then on, and every comparison
// finds that: without this each of them would carry the same rows again. It is safe for concurrent use.
type vain struct {
	mu  sync.Mutex
	all map[attempt]failure
}

// attempt is to bring one row from one node to another.
type attempt struct {
	peer, id string
	given    bool
}

// failure is what came of it.
type failure struct {
	version Version
	times   int
	at      time.Time // the last one
}

const (
	enoughVain = 2                // so often a row is tried in a row,
	vainTime   = 10 * time.Minute // and once again after such a time, or when the peer has come anew
	maxVain    = 4096             // that are remembered; more are tried again and again, in comparisons that are of use seldom
)

// note counts attempts that may have been in vain.
func (v *vain) note(peer string, given bool, items []item, times int, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, i := range items {
		key := attempt{peer, i.id, given}
		f, known := v.all[key]
		if !known && len(v.all) >= maxVain {
			v.forgetOld(now)
			if len(v.all) >= maxVain {
				return
			}
		}
		if f.version != i.version {
			f.times = 0
		}
		v.all[key] = failure{i.version, f.times + times, now}
	}
}

// worth leaves those rows out that have been tried in vain. What of the compared buckets is no difference any more is forgotten.
func (v *vain) worth(peer string, buckets map[int]bool, want, give []item, now time.Time) (w, g []item) {
	v.mu.Lock()
	defer v.mu.Unlock()
	keep := map[attempt]bool{}
	pick := func(items []item, given bool) (worth []item) {
		for _, i := range items {
			key := attempt{peer, i.id, given}
			f, known := v.all[key]
			keep[key] = known
			if !known || f.version != i.version || f.times < enoughVain || now.Sub(f.at) >= vainTime {
				worth = append(worth, i)
			}
		}
		return worth
	}
	w, g = pick(want, false), pick(give, true)
	maps.DeleteFunc(v.all, func(key attempt, _ failure) bool { return key.peer == peer && buckets[bucketOf(key.id)] && !keep[key] })
	return w, g
}

// forget drops what a peer's earlier life has refused.
func (v *vain) forget(peer string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	maps.DeleteFunc(v.all, func(key attempt, _ failure) bool { return key.peer == peer })
}

// forgetOld makes room. It is called under mu.
func (v *vain) forgetOld(now time.Time) {
	maps.DeleteFunc(v.all, func(_ attempt, f failure) bool { return now.Sub(f.at) >= vainTime })
}
