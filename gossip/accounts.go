package gossip

import (
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"qosctl/qos"
)

// Account is the account of one job that runs on this node.
type Account struct {
	Job       string
	Execution int // its index
	Account   qos.Account
}

const (
	maxIncarnations = 4096                       // of one execution: four times what one part of a cluster makes
	maxCPU          = 1 << 58                    // ns: nine years
	tick            = time.Microsecond           // figures travel in these
	accountPacket   = 1100                       // bytes: with all headers below the 1,400 of a packet
	wholeAccount    = 12                         // each so many rounds all incarnations go, not the live one alone
	maxSent         = 16                         // incarnations of one job in one round, the newest
	maxTicks        = maxCPU / uint64(tick)      //
	minAccount      = 5                          // bytes of one account at least
	maxAccounts     = accountPacket / minAccount // in one packet
)

// figure is what travels of an entry; the rest of it stands in the row.
type figure struct{ own, base, zero, borrowed time.Duration }

func (f figure) max(g figure) figure {
	return figure{max(f.own, g.own), max(f.base, g.base), max(f.zero, g.zero), max(f.borrowed, g.borrowed)}
}

// figures are what an owner told of one execution, beside the row.
type figures struct {
	execution int
	of        map[qos.Incarnation]figure
}

// addTo merges the figures into an execution's account: the greater wins. The account must be the caller's own.
func (f figures) addTo(e *qos.Execution) {
	if e == nil || len(f.of) == 0 || f.execution != e.Index {
		return
	}
	if e.Account.Entries == nil {
		e.Account.Entries = map[qos.Incarnation]qos.Entry{}
	}
	for i, g := range f.of {
		entry, ok := e.Account.Entries[i]
		if !ok {
			entry.Node = i.Node
		}
		entry.Own = max(entry.Own, g.own)
		entry.Base = max(entry.Base, g.base)
		entry.Zero = max(entry.Zero, g.zero)
		entry.Borrowed = max(entry.Borrowed, g.borrowed)
		e.Account.Entries[i] = entry
	}
}

// told is one job's part of a message of accounts.
type told struct {
	job string
	figures
}

// count takes in what an owner told of a job. It says whether it was news.
func (t *table) count(in told) bool {
	r := t.rows[in.job]
	if r != nil && (r.grave != nil || r.rec.Status.Execution != nil && r.rec.Status.Execution.Index > in.execution) {
		return false
	}
	old, had := t.figures[in.job]
	if !had && r == nil {
		if t.unknown >= maxUnknown {
			return false
		}
		t.unknown++
	}
	switch {
	case had && old.execution > in.execution:
		return false
	case !had || old.execution < in.execution:
		t.figures[in.job] = in.figures
		return true
	}
	changed := false
	next := maps.Clone(old.of)
	for i, g := range in.of {
		f, known := next[i]
		if !known && len(next) >= maxIncarnations {
			continue
		}
		if m := f.max(g); m != f || !known {
			next[i], changed = m, true
		}
	}
	t.figures[in.job] = figures{in.execution, next}
	return changed
}

func (t *table) dropFigures(id string) { delete(t.figures, id) }

// append encodes one job's figures. from is the sender, whose name is not repeated.
func (a told) append(b []byte, from string) []byte {
	if id, ok := packUUID(a.job); ok {
		b = append(append(b, 0), id[:]...)
	} else {
		b = appendString(b, a.job)
	}
	b = binary.AppendUvarint(b, uint64(max(a.execution, 0)))
	b = binary.AppendUvarint(b, uint64(len(a.of)))
	for _, i := range slices.SortedFunc(maps.Keys(a.of), qos.Incarnation.Compare) {
		f := a.of[i]
		b = binary.AppendUvarint(b, uint64(max(i.N, 0)))
		if i.Node == from {
			b = appendString(b, "")
		} else {
			b = appendString(b, i.Node)
		}
		// A bit for each figure that follows: most have only the first.
		var has byte
		all := [4]time.Duration{f.own, f.base, f.zero, f.borrowed}
		for k, d := range all {
			if d/tick > 0 {
				has |= 1 << k
			}
		}
		b = append(b, has)
		for _, d := range all {
			if d/tick > 0 {
				b = binary.AppendUvarint(b, min(uint64(d/tick), maxTicks))
			}
		}
	}
	return b
}

// decodeAccounts reads a message of accounts without its first byte.
func decodeAccounts(b []byte) (from string, all []told, err error) {
	r := &reader{b: b}
	if from = r.text(maxName); from == "" {
		r.fail("has accounts of nobody")
	}
	n := int(r.uvarint(maxAccounts))
	for range n {
		if r.err != nil {
			break
		}
		all = append(all, r.told(from))
	}
	if err := r.done(); err != nil {
		return "", nil, err
	}
	return from, all, nil
}

func (r *reader) told(from string) told {
	var a told
	if a.job = r.text(maxID); a.job == "" {
		a.job = unpackUUID(r.fixed(16))
	}
	a.execution = int(r.uvarint(1 << 31))
	n := int(r.uvarint(maxSent))
	a.of = make(map[qos.Incarnation]figure, n)
	for range n {
		i := qos.Incarnation{N: int(r.uvarint(1 << 31)), Node: r.text(maxName)}
		if i.Node == "" {
			i.Node = from
		}
		has := r.byte()
		if has&^0xf != 0 {
			r.fail("has unknown figures %#x", has)
		}
		var all [4]time.Duration
		for k := range all {
			if has&(1<<k) != 0 {
				all[k] = time.Duration(r.uvarint(maxTicks)) * tick
			}
		}
		if r.err != nil {
			return told{}
		}
		a.of[i] = figure{all[0], all[1], all[2], all[3]}
	}
	if !validID(a.job) {
		r.fail("has an account of no job")
	}
	return a
}

// tell chooses what of an account goes: the live incarnation, and each wholeAccount rounds the others too. An entry's base, zero and
// what was borrowed stand in the row from its claim on, but the last grows.
func tell(a Account, whole bool) told {
	t := told{job: a.Job, figures: figures{a.Execution, map[qos.Incarnation]figure{}}}
	all := a.Account.Incarnations()
	if len(all) > maxSent {
		all = all[len(all)-maxSent:]
	}
	for _, i := range all {
		e := a.Account.Entries[i]
		f := figure{own: e.Own, borrowed: e.Borrowed}
		if whole {
			f.base, f.zero = e.Base, e.Zero
		}
		if whole || i == a.Account.Live {
			t.of[i] = f
		}
	}
	return t
}

// packAccounts puts messages for one node together, each small enough for one packet.
func packAccounts(from string, all []told) [][]byte {
	var msgs [][]byte
	var body []byte
	n := 0
	flush := func() {
		if n > 0 {
			head := appendString([]byte{msgAccounts}, from)
			msgs = append(msgs, append(binary.AppendUvarint(head, uint64(n)), body...))
			body, n = nil, 0
		}
	}
	for _, a := range all {
		one := a.append(nil, from)
		if len(body)+len(one) > accountPacket-maxName {
			flush()
		}
		body = append(body, one...)
		n++
	}
	flush()
	return msgs
}
