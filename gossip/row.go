package gossip

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"time"

	"qosctl/qos"
)

// row is what the table holds of a job: its record, or a tombstone. A row is never changed once it stands in the table; another takes
// its place.
type row struct {
	id      string
	rec     qos.Record
	raw     json.RawMessage // the record as it came, if it has fields that this version does not know; else nil
	version Version
	grave   *grave // not nil: a tombstone
}

// grave is the rest of a removed job. Its age is elapsed time, and travels with it, so that all nodes forget it at about the same time.
type grave struct {
	age time.Duration // at since
	at  time.Time     // has a monotonic reading
}

func (g grave) old(now time.Time) time.Duration { return g.age + max(now.Sub(g.at), 0) }

const (
	// tombstoneTTL is how long a removed job is remembered: longer than any partition that is to heal without reviving it.
	tombstoneTTL = 24 * time.Hour
	// tombstoneRetires is when it leaves the digests and is told to nobody any more. It lies before the end, so that a node that has
	// forgotten a tombstone is not given it again by one that has not.
	tombstoneRetires = tombstoneTTL - time.Hour
)

func liveRow(rec qos.Record, raw json.RawMessage) *row {
	return &row{id: rec.Spec.ID, rec: rec, raw: raw, version: versionOf(rec.Status)}
}

func tombstone(id string, age time.Duration, now time.Time) *row {
	return &row{id: id, version: Version{Removed: true}, grave: &grave{age: age, at: now}}
}

// retired says whether the row is kept only to refuse what is older.
func (r *row) retired(now time.Time) bool {
	return r.grave != nil && r.grave.old(now) >= tombstoneRetires
}

const (
	kindRow       = 1
	kindTombstone = 2
)

// append encodes a row as it travels and as it is stored.
func (r *row) append(b []byte, now time.Time) ([]byte, error) {
	if r.grave != nil {
		b = appendString(append(b, kindTombstone), r.id)
		return binary.AppendUvarint(b, uint64(min(r.grave.old(now), tombstoneTTL)/time.Second)), nil
	}
	text, err := encodeRecord(r.rec, r.raw)
	if err != nil {
		return b, err
	}
	return appendBytes(append(b, kindRow), text), nil
}

// reject is a row that can't be taken.
type reject struct {
	id  string // "": that can't be told
	err error
}

// row reads one row, or says why it can't be taken: then those that follow it can still be read. Only what does not say where it ends is a
// fault of the whole message. Kinds to come begin as kindRow does, with their length. What it returns shares no memory with the message.
func (r *reader) row(now time.Time) (*row, *reject) {
	kind := r.byte()
	text := r.bytes(len(r.b)) // a record, or the id of one that was removed
	seconds := uint64(0)
	if kind == kindTombstone {
		seconds = r.uvarint(math.MaxUint64)
	}
	switch {
	case r.err != nil:
		return nil, nil
	case kind == kindTombstone:
		if id := string(text); validID(id) && seconds <= uint64(tombstoneTTL/time.Second) {
			return tombstone(id, time.Duration(seconds)*time.Second, now), nil
		}
		return nil, &reject{err: malformed("a tombstone of no job, or too old a one")}
	case kind != kindRow:
		return nil, &reject{err: malformed("a row of unknown kind %d", kind)}
	}
	rec, raw, err := decodeRecord(text)
	if err != nil {
		return nil, &reject{idIn(text), err}
	}
	return liveRow(rec, raw), nil
}

// idIn is the job's id in a record that can't be taken, if it can be read.
func idIn(text []byte) string {
	var r struct {
		Spec struct {
			ID string `json:"id"`
		} `json:"spec"`
	}
	if len(text) > maxRow || json.Unmarshal(text, &r) != nil || !validID(r.Spec.ID) {
		return ""
	}
	return r.Spec.ID
}

// clone returns a record whose status shares nothing with rec's. The spec never changes, and is shared.
func clone(rec qos.Record) qos.Record {
	st := rec.Status
	st.Runs = append([]qos.Run(nil), st.Runs...)
	st.Steward = st.Steward.Clone()
	if st.Saved != nil {
		saved := *st.Saved
		saved.Copies = append([]string(nil), saved.Copies...)
		st.Saved = &saved
	}
	if st.Execution != nil {
		e := *st.Execution
		e.Account = e.Account.Clone()
		st.Execution = &e
	}
	rec.Status = st
	return rec
}
