package gossip

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"

	"qosctl/qos"
)

// Version is what of a row is compared between nodes: which status it holds. The account is not in it: it grows all the time, and
// goes its own way.
//
// Versions are not in one order: epoch, owner and sequence count together, duty and who wrote it together, cancel and removal each by
// itself. Two versions always have a join, the version of the row that the two rows merge to.
type Version struct {
	Epoch   uint64
	Owner   string
	Seq     uint64
	Duty    uint64
	By      string // who wrote the duty
	Cancel  bool
	Removed bool // a tombstone: nothing else counts
}

func versionOf(s qos.Status) Version {
	return Version{
		Epoch: s.Epoch, Owner: s.Owner, Seq: s.Seq,
		Duty: s.Steward.Duty, By: s.Steward.By,
		Cancel: s.Intent == qos.IntentCancel,
	}
}

// writes compares by epoch, owner and sequence, as qos.Status.Compare does.
func (v Version) writes(w Version) int {
	return cmp.Or(cmp.Compare(v.Epoch, w.Epoch), cmp.Compare(v.Owner, w.Owner), cmp.Compare(v.Seq, w.Seq))
}

// duties compares by duty and its writer.
func (v Version) duties(w Version) int {
	return cmp.Or(cmp.Compare(v.Duty, w.Duty), cmp.Compare(v.By, w.By))
}

// join is the least version that covers both.
func (v Version) join(w Version) Version {
	if v.Removed || w.Removed {
		return Version{Removed: true}
	}
	if v.writes(w) < 0 {
		v.Epoch, v.Owner, v.Seq = w.Epoch, w.Owner, w.Seq
	}
	if v.duties(w) < 0 {
		v.Duty, v.By = w.Duty, w.By
	}
	v.Cancel = v.Cancel || w.Cancel
	return v
}

// covers says whether a row of version v has nothing to learn from one of version w.
func (v Version) covers(w Version) bool { return v.join(w) == v }

const (
	flagCancel  = 1 << 0
	flagRemoved = 1 << 1
)

func (v Version) append(b []byte) []byte {
	var flags byte
	if v.Cancel {
		flags |= flagCancel
	}
	if v.Removed {
		return append(b, flagRemoved)
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, v.Epoch)
	b = binary.AppendUvarint(b, v.Seq)
	b = binary.AppendUvarint(b, v.Duty)
	b = appendString(b, v.Owner)
	if v.By == v.Owner { // nearly always
		return binary.AppendUvarint(b, maxName+1)
	}
	return appendString(b, v.By)
}

func (r *reader) version() Version {
	flags := r.byte()
	if flags == flagRemoved {
		return Version{Removed: true}
	}
	if flags&^flagCancel != 0 {
		r.fail("has a version with unknown flags %#x", flags)
	}
	v := Version{Cancel: flags&flagCancel != 0}
	v.Epoch = r.uvarint(maxCounter)
	v.Seq = r.uvarint(maxCounter)
	v.Duty = r.uvarint(maxCounter)
	v.Owner = r.text(maxName)
	n := r.uvarint(maxName + 1)
	if n == maxName+1 {
		v.By = v.Owner
		return v
	}
	v.By = string(r.fixed(int(n)))
	if !printable(v.By) || v.By == v.Owner {
		r.fail("has a version whose writer is not in its one form")
	}
	if r.err != nil {
		return Version{}
	}
	return v
}

// hash is one row's part of the digests.
func (v Version) hash(id string) uint64 {
	sum := sha256.Sum256(v.append(appendString(make([]byte, 0, 128), id)))
	return binary.BigEndian.Uint64(sum[:])
}

// The digests: a hash for each bucket of rows, and one over each group of buckets.
const (
	numBuckets = 1024
	numGroups  = 32
	perGroup   = numBuckets / numGroups
)

// bucketOf spreads jobs over buckets.
func bucketOf(id string) int {
	sum := sha256.Sum256([]byte(id))
	return int(binary.BigEndian.Uint16(sum[:])) % numBuckets
}
