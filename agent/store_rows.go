package agent

import (
	"bytes"
	"sync"

	bolt "go.etcd.io/bbolt"

	"qosctl/qos"
)

// sealedRow is a row as it goes to disk.
type sealedRow struct {
	version  uint64
	spec     *qos.Spec
	used     used
	from, to int // in the buffer that it was encoded into
}

// batch collects rows for one transaction. They are encoded as they are added, so that a job goes on as soon as its row is, and nothing of it
// need be copied before.
type batch struct {
	buf  *bytes.Buffer
	rows []sealedRow
}

// batchBuffers are buffers of batches that were written: a row is two kilobytes, and each is written every ten seconds.
var batchBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func newBatch(rows int) *batch {
	b := &batch{buf: batchBuffers.Get().(*bytes.Buffer), rows: make([]sealedRow, 0, rows)}
	b.buf.Reset()
	return b
}

// mostBuffer is the size of a buffer, in bytes, beyond which it is not kept.
const mostBuffer = 1 << 20

// free ends the use of a batch, and of what was encoded into it.
func (b *batch) free() {
	if b.buf.Cap() <= mostBuffer {
		batchBuffers.Put(b.buf)
	}
	*b = batch{}
}

// add encodes a row.
func (b *batch) add(r *row) error {
	from := b.buf.Len()
	if err := sealTo(b.buf, r); err != nil {
		b.buf.Truncate(from)
		return err
	}
	b.rows = append(b.rows, sealedRow{r.version, &r.Record.Spec, r.Local.Used, from, b.buf.Len()})
	return nil
}

// put writes rows in one transaction: all or none, on disk when it returns.
func (s *store) put(rows ...row) error {
	b := newBatch(len(rows))
	defer b.free()
	for i := range rows {
		if err := b.add(&rows[i]); err != nil {
			return err
		}
	}
	return s.write(b)
}

// write is put of rows that are encoded.
func (s *store) write(list *batch) error {
	s.usageMu.Lock()
	defer s.usageMu.Unlock()
	put := make([]sealedRow, 0, len(list.rows))
	all := list.buf.Bytes()
	err := s.update(func(tx *bolt.Tx) error {
		put = put[:0]
		b := tx.Bucket(bucketJobs)
		for _, r := range list.rows {
			if r.version < s.written[r.spec.ID] {
				continue
			}
			if err := b.Put([]byte(r.spec.ID), all[r.from:r.to:r.to]); err != nil {
				return err
			}
			s.written[r.spec.ID] = r.version // of a transaction that fails after all, a newer one is on its way
			if err := s.addUsage(tx, r.spec, r.used); err != nil {
				return err
			}
			put = append(put, r)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, r := range put {
		s.used[r.spec.ID] = r.used.Sum
	}
	return nil
}
