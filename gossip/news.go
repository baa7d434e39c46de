package gossip

import (
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"

	"qosctl/qos"
)

// news is what a broadcast says of a job: too little for a row, enough to know who owns it. It stands beside the row until the row
// itself has come.
type news struct {
	id      string
	from    string // who wrote it
	version Version
	phase   qos.Phase
	saved   *qos.Saved // nil: not said
}

// Sizes of broadcasts, and how much is kept of jobs without a row.
const (
	maxBroadcast = 150  // bytes
	maxUnknown   = 4096 // jobs
)

const (
	msgNews     = 1
	msgMark     = 2
	msgAccounts = 3
)

const (
	newsUUID  = 1 << 0 // the id is a UUID, in 16 bytes
	newsSaved = 1 << 1
)

// newsOf says of a record what is broadcast.
func newsOf(rec qos.Record, from string) news {
	n := news{id: rec.Spec.ID, from: from, version: versionOf(rec.Status), phase: rec.Status.Phase}
	if s := rec.Status.Saved; s != nil {
		n.saved = &qos.Saved{Node: s.Node, Sequence: s.Sequence, Execution: s.Execution, Incarnation: s.Incarnation}
	}
	return n
}

// encode returns the broadcast, without the checkpoint's place if it is too long with it, nil if it is too long without: then
// anti-entropy alone carries it.
func (n news) encode() []byte {
	b := n.append(make([]byte, 0, maxBroadcast))
	if len(b) > maxBroadcast && n.saved != nil {
		n.saved = nil
		b = n.append(b[:0])
	}
	if len(b) > maxBroadcast {
		return nil
	}
	return b
}

func (n news) append(b []byte) []byte {
	var flags byte
	id, ok := packUUID(n.id)
	if ok {
		flags |= newsUUID
	}
	if n.saved != nil {
		flags |= newsSaved
	}
	b = append(b, msgNews, flags)
	if ok {
		b = append(b, id[:]...)
	} else {
		b = appendString(b, n.id)
	}
	b = n.version.append(b)
	b = appendPhase(b, n.phase)
	if n.from == n.version.Owner {
		b = append(b, 0)
	} else {
		b = appendString(b, n.from)
	}
	if s := n.saved; s != nil {
		b = binary.AppendUvarint(b, uint64(s.Sequence))
		b = binary.AppendUvarint(b, uint64(s.Execution))
		b = binary.AppendUvarint(b, uint64(s.Incarnation))
		if s.Node == n.version.Owner {
			return append(b, 0)
		}
		b = appendString(b, s.Node)
	}
	return b
}

// decodeNews reads a broadcast without its first byte.
func decodeNews(b []byte) (news, error) {
	if len(b) >= maxBroadcast {
		return news{}, malformed("a broadcast of %d bytes", len(b)+1)
	}
	r := &reader{b: b}
	flags := r.byte()
	if flags&^(newsUUID|newsSaved) != 0 {
		r.fail("has unknown flags %#x", flags)
	}
	var n news
	if flags&newsUUID != 0 {
		n.id = unpackUUID(r.fixed(16))
	} else {
		n.id = r.text(maxID)
	}
	n.version = r.version()
	n.phase = r.phase()
	if n.from = r.text(maxName); n.from == "" {
		n.from = n.version.Owner
	}
	if flags&newsSaved != 0 {
		n.saved = &qos.Saved{
			Sequence: int(r.uvarint(1 << 31)), Execution: int(r.uvarint(1 << 31)), Incarnation: int(r.uvarint(1 << 31)), Node: r.text(maxName),
		}
		if n.saved.Node == "" {
			n.saved.Node = n.version.Owner
		}
	}
	if err := r.done(); err != nil {
		return news{}, err
	}
	if !validID(n.id) {
		return news{}, malformed("a broadcast of no job")
	}
	return n, nil
}

// appendPhase writes a phase as its place in qos.Phases, from 1, or as text if it is none of these.
func appendPhase(b []byte, p qos.Phase) []byte {
	if i := slices.Index(qos.Phases(), p); i >= 0 {
		return append(b, byte(i+1))
	}
	return appendString(append(b, 0), string(p))
}

func (r *reader) phase() qos.Phase {
	all := qos.Phases()
	switch i := int(r.byte()); {
	case i == 0:
		return qos.Phase(r.text(32))
	case i <= len(all):
		return all[i-1]
	default:
		r.fail("has unknown phase %d", i)
		return ""
	}
}

// packUUID is a UUID in its usual form as 16 bytes.
func packUUID(s string) (id [16]byte, ok bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' || strings.ToLower(s) != s {
		return id, false
	}
	n, err := hex.Decode(id[:], []byte(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:]))
	return id, err == nil && n == 16
}

func unpackUUID(b []byte) string {
	if len(b) != 16 {
		return ""
	}
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// known is the version that the node knows of, by row or by news.
func (t *table) known(id string) Version {
	var v Version
	if r := t.rows[id]; r != nil {
		v = r.version
	}
	if n, ok := t.news[id]; ok {
		v = v.join(n.version)
	}
	return v
}

// hear takes in what a broadcast says. It says whether it was new, and is to be passed on.
func (t *table) hear(n news) bool {
	if t.known(n.id).covers(n.version) {
		return false
	}
	old, had := t.news[n.id]
	if !had && t.rows[n.id] == nil {
		if t.unknown >= maxUnknown {
			return false // what is not kept is not known again when it comes back: passed on, it would go round for ever
		}
		t.unknown++
	}
	if had {
		if old.version.writes(n.version) > 0 { // and who said that has the row
			n.phase, n.saved, n.from = old.phase, old.saved, old.from
		}
		n.version = old.version.join(n.version)
	}
	t.news[n.id] = n
	return true
}

// settleNews drops news that the row covers.
func (t *table) settleNews(id string) {
	n, ok := t.news[id]
	if r := t.rows[id]; ok && r != nil && r.version.covers(n.version) {
		delete(t.news, id)
	}
}

func (t *table) dropNews(id string) { delete(t.news, id) }

// settleUnknown counts news and figures no longer as of an unknown job: its row is there now.
func (t *table) settleUnknown(id string) {
	if _, ok := t.news[id]; ok {
		t.unknown--
	}
	if _, ok := t.figures[id]; ok {
		t.unknown--
	}
}

// view is a job's record as this node knows it: its row, with what broadcasts and accounts say beyond it.
func (t *table) view(id string) (qos.Record, bool) {
	r := t.rows[id]
	if r == nil || r.grave != nil {
		return qos.Record{}, false
	}
	rec := clone(r.rec)
	st := &rec.Status
	if n, ok := t.news[id]; ok {
		if n.version.writes(r.version) > 0 {
			st.Epoch, st.Owner, st.Seq = n.version.Epoch, n.version.Owner, n.version.Seq
			st.Phase = n.phase
			if n.saved != nil {
				saved := *n.saved
				st.Saved = &saved
			}
		}
		if n.version.duties(r.version) > 0 {
			// Nobody's: what it says is not of that duty, and must never stand for it, to whomever it is passed on.
			st.Steward.Duty, st.Steward.By = n.version.Duty, ""
		}
		if n.version.Cancel {
			st.Intent = qos.IntentCancel
		}
	}
	t.figures[id].addTo(st.Execution)
	return rec, true
}

// sound is what is known of a job without mixture: its row, with its accounts, under the version that is known. That a broadcast says that
// its life has ended is taken from there, since nothing follows an end; the time of the end is zero then.
func (t *table) sound(id string) (qos.Record, bool) {
	rec, ok := t.view(id)
	if _, behind := t.news[id]; !ok || !behind {
		return rec, ok
	}
	row := clone(t.rows[id].rec).Status
	if !rec.Status.Phase.Terminal() {
		rec.Status.Phase = row.Phase
	}
	rec.Status.Saved = row.Saved
	return rec, true
}

// behind says whether more is known of a job by broadcast than by its row, and who has the row.
func (t *table) behind(id string) (from string, ok bool) {
	n, ok := t.news[id]
	return n.from, ok
}
