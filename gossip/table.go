package gossip

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"qosctl/qos"
)

// maxRows bounds the table, tombstones included. It is far above what design and tests are made for (10,000 jobs); its use is that a
// peer gone mad cannot fill the memory.
const maxRows = 200_000

// ErrRemoved says that a job was removed from the table, and that what is known of it came too late.
var ErrRemoved = errors.New("the job was removed")

// ErrFull says that the table holds as many jobs as it may.
var ErrFull = fmt.Errorf("the table holds %d jobs and tombstones, and takes no more: remove jobs that have ended", maxRows)

// table is the replicated job table of one node: pure, without I/O, clock or lock. What is merged into it, in whatever order and how
// often, the outcome is the same.
type table struct {
	rows    map[string]*row
	news    map[string]news // of claims and the like whose row has not come yet
	unknown int             // news and figures of jobs that have no row
	figures map[string]figures
	buckets [numBuckets]uint64
	root    uint64
	graves  int
	retired map[string]bool // tombstones that stand in no digest any more
}

func newTable() *table {
	return &table{rows: map[string]*row{}, news: map[string]news{}, figures: map[string]figures{}, retired: map[string]bool{}}
}

// set puts r in its place, and keeps the digests.
func (t *table) set(r *row, now time.Time) {
	if old := t.rows[r.id]; old != nil {
		t.toggle(old)
		if old.grave != nil {
			t.graves--
		}
	}
	delete(t.retired, r.id)
	if r.retired(now) {
		t.retired[r.id] = true
	}
	t.rows[r.id] = r
	if r.grave != nil {
		t.graves++
		t.dropNews(r.id)
		t.dropFigures(r.id)
	}
	t.toggle(r)
}

// toggle takes a row into the digests, or out of them.
func (t *table) toggle(r *row) {
	if t.retired[r.id] {
		return
	}
	h := r.version.hash(r.id)
	t.buckets[bucketOf(r.id)] ^= h
	t.root ^= h
}

// merge takes in a row from a peer or from the store. It says whether anything changed.
func (t *table) merge(in *row, now time.Time) (bool, error) {
	cur := t.rows[in.id]
	switch {
	case cur == nil:
		if len(t.rows) >= maxRows {
			return false, ErrFull
		}
		if in.retired(now) {
			return false, nil // everybody is forgetting it
		}
		t.settleUnknown(in.id)
		t.set(in, now)
		t.settleNews(in.id)
		return true, nil
	case cur.grave != nil:
		return false, nil
	case in.grave != nil:
		t.set(in, now)
		return true, nil
	}
	next, changed, err := mergeRows(cur, in)
	if err != nil || !changed {
		return false, err
	}
	t.set(next, now)
	t.settleNews(in.id)
	return true, nil
}

// mergeRows is the row that two rows of a job make together, and whether it differs from the first.
func mergeRows(cur, in *row) (next *row, changed bool, err error) {
	rec := qos.Record{Spec: cur.rec.Spec, Status: cur.rec.Status.Merge(in.rec.Status)}
	spec := cur
	if other, err := otherSpec(cur.rec.Spec, in.rec.Spec); err != nil {
		return nil, false, err
	} else if other {
		rec.Spec, spec = in.rec.Spec, in
	}
	if spec == cur && versionOf(rec.Status) == cur.version {
		same, err := sameStatus(rec.Status, cur.rec.Status)
		if err != nil {
			return nil, false, fmt.Errorf("merge rows of job %s: %w", cur.id, err)
		}
		if same {
			return cur, false, nil
		}
	}
	// Fields that are not known here go with the status that is the newer one.
	next = liveRow(rec, cur.raw)
	if in.version.writes(cur.version) > 0 {
		next.raw = in.raw
	}
	return next, true, nil
}

func sameStatus(a, b qos.Status) (bool, error) {
	x, err := json.Marshal(a)
	if err != nil {
		return false, err
	}
	y, err := json.Marshal(b)
	return bytes.Equal(x, y), err
}

// otherSpec says whether of two specs of one job, which a fault alone can make differ, all nodes keep b.
func otherSpec(a, b qos.Spec) (bool, error) {
	if a.Name == b.Name && a.Submitted.Equal(b.Submitted) && bytes.Equal(a.Source, b.Source) {
		return false, nil
	}
	x, err := json.Marshal(a)
	if err != nil {
		return false, fmt.Errorf("compare specs of job %s: %w", a.ID, err)
	}
	y, err := json.Marshal(b)
	if err != nil {
		return false, fmt.Errorf("compare specs of job %s: %w", a.ID, err)
	}
	return bytes.Compare(y, x) < 0, nil
}

// put takes in a write of node, which is this one. A version is never used twice: a write that differs from what is known under the same
// epoch, owner and sequence becomes the next in sequence. So does one of the job's own owner under an older sequence: it has come back
// with less than it had told. Of anybody else an older one is stale, and only what merging lets through counts. Nor is a duty used twice
// by the node that wrote it. It says whether everybody must be told at once.
func (t *table) put(rec qos.Record, node string, now time.Time) (stored qos.Record, tell, changed bool, err error) {
	if err := checkRecord(rec); err != nil {
		return qos.Record{}, false, false, fmt.Errorf("put job %.80q: %w", rec.Spec.ID, err)
	}
	rec = clone(rec)
	id := rec.Spec.ID
	cur := t.rows[id]
	var raw json.RawMessage
	if cur != nil {
		raw = cur.raw
	}
	if err := fits(rec, raw, maxRow); err != nil {
		return qos.Record{}, false, false, fmt.Errorf("put job %s: %w", id, err)
	}
	if cur == nil {
		before := t.news[id].version
		if rec.Status.Epoch == before.Epoch && rec.Status.Owner == before.Owner && rec.Status.Seq <= before.Seq {
			rec.Status.Seq = before.Seq + 1
		}
		_, err := t.merge(liveRow(rec, nil), now)
		return rec, rec.Status.Owner != "" || rec.Status.Phase.Terminal(), err == nil, err
	}
	if cur.grave != nil {
		return qos.Record{}, false, false, fmt.Errorf("put job %s: %w", id, ErrRemoved)
	}
	was, _ := t.view(id)
	st := &rec.Status
	t.unmix(st, cur, node)
	again := st.Seq == was.Status.Seq || st.Seq < was.Status.Seq && st.Owner == node
	if st.Epoch == was.Status.Epoch && st.Owner == was.Status.Owner && again && !sameWrite(*st, cur.rec.Status) {
		st.Seq = was.Status.Seq + 1
	}
	if own := cur.rec.Status.Steward; st.Steward.By == node && own.By == node && st.Steward.Duty == own.Duty && st.Steward.Compare(own) != 0 {
		st.Steward.Duty++
	}
	changed, err = t.merge(liveRow(rec, cur.raw), now)
	if err != nil {
		return qos.Record{}, false, false, fmt.Errorf("put job %s: %w", id, err)
	}
	is, _ := t.view(id)
	return is, worthTelling(was.Status, is.Status), changed, nil
}

// unmix takes out of a write what it only passes through from a view that showed news: news lacks the rest of what belongs to its version,
// and the mixture must not stand for that version.
func (t *table) unmix(st *qos.Status, cur *row, node string) {
	n, ok := t.news[cur.id]
	if !ok {
		return
	}
	v := versionOf(*st)
	if n.version.duties(cur.version) > 0 && v.Duty == n.version.Duty && v.By == "" {
		st.Steward = cur.rec.Status.Steward.Clone()
	}
	if n.version.writes(cur.version) <= 0 || v.writes(n.version) != 0 || st.Owner == node {
		return
	}
	mixed := *st
	*st = clone(cur.rec).Status
	st.Steward = mixed.Steward
	if mixed.Intent == qos.IntentCancel {
		st.Intent = qos.IntentCancel
	}
	if e, m := st.Execution, mixed.Execution; e != nil && m != nil && e.Index == m.Index {
		live := e.Account.Live
		e.Account = e.Account.Merge(m.Account)
		e.Account.Live = live
	}
}

// sameWrite says whether two statuses differ in nothing that a sequence counts.
func sameWrite(a, b qos.Status) bool {
	return bytes.Equal(writePart(a), writePart(b))
}

func writePart(s qos.Status) []byte {
	s.Seq, s.Steward = 0, qos.Stewardship{}
	if s.Intent == qos.IntentCancel {
		s.Intent = qos.IntentNone
	}
	if s.Execution != nil {
		e := *s.Execution
		e.Account = qos.Account{Live: e.Account.Live}
		s.Execution = &e
	}
	b, err := json.Marshal(s)
	if err != nil { // a figure that is no number: the merge will say so
		return nil
	}
	return b
}

// worthTelling says whether the step is one that everybody must know of: a claim, an end, a checkpoint's place, a duty, a cancel.
func worthTelling(was, is qos.Status) bool {
	saved := func(s *qos.Saved) string {
		if s == nil {
			return ""
		}
		return fmt.Sprintf("%s %d", s.Node, s.Sequence)
	}
	return was.Epoch != is.Epoch || was.Owner != is.Owner || was.Steward.Duty != is.Steward.Duty ||
		saved(was.Saved) != saved(is.Saved) || was.Phase != is.Phase && is.Phase.Terminal() ||
		was.Intent != is.Intent && is.Intent == qos.IntentCancel
}

// sweep forgets tombstones whose time is over, and retires those whose time is nearly over. It returns the forgotten ones.
func (t *table) sweep(now time.Time) []string {
	var gone []string
	if t.graves == 0 {
		return nil
	}
	for id, r := range t.rows {
		switch {
		case r.grave == nil:
		case r.grave.old(now) >= tombstoneTTL:
			t.toggle(r)
			delete(t.rows, id)
			delete(t.retired, id)
			t.graves--
			gone = append(gone, id)
		case !t.retired[id] && r.retired(now):
			t.toggle(r)
			t.retired[id] = true
		}
	}
	return gone
}

// groups is the hash of each group of buckets.
func (t *table) groups() [numGroups]uint64 {
	var g [numGroups]uint64
	for i, h := range t.buckets {
		g[i/perGroup] ^= h
	}
	return g
}
