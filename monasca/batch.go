package monasca

import (
	"bytes"
	"errors"
)

// batch is the spool's oldest record, as far as it is not settled. Segment 0 of its place is memory, the offset its number.
type batch struct {
	at     position
	newest int64 // ms since 1970
	lines  [][]byte
}

// holds says whether a batch is still the oldest, and not all of it from before cutoff (ms since 1970).
func (s *spool) holds(b *batch, cutoff int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.newest < cutoff {
		return false
	}
	s.follow(b)
	if b.at.Segment == 0 {
		return len(s.memory) > 0 && s.memory[0].id == b.at.Offset
	}
	return s.onDisk() && s.head == b.at
}

// follow notes when a batch in memory has reached the disk after all.
func (s *spool) follow(b *batch) {
	if b.at.Segment == 0 && b.at.Offset == s.lent.id && s.lent.at.Segment != 0 {
		b.at = s.lent.at
	}
	s.skipDone()
}

// skipDone removes files all of which is settled. One that was just made, and has nothing in it, stays.
func (s *spool) skipDone() {
	for len(s.segments) > 0 && s.head.Offset >= s.segments[0].size && (len(s.segments) > 1 || s.active == nil || s.segments[0].size > 0) {
		s.dropFirst("")
	}
}

// onDisk says whether the oldest record is on disk.
func (s *spool) onDisk() bool { return len(s.segments) > 0 && s.head.Offset < s.segments[0].size }

// oldestBatch returns the oldest record; nil if there is none. Records all of which are from before cutoff (ms since 1970) are dropped,
// and so are those that cannot be read.
func (s *spool) oldestBatch(cutoff int64) (*batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		s.skipDone()
		if !s.onDisk() {
			return s.fromMemory(cutoff)
		}
		h, lines, err := s.codec.readRecord(s.dir, s.head.Segment, s.head.Offset)
		switch first := s.segments[0]; {
		case errors.Is(err, errTorn) && h.length == 0: // not even its length is known
			s.log.Error("a spool file was changed; what is left of it is lost", "file", segmentPath(s.dir, first.id), "measurements", first.left)
			s.lost[Corrupt] += first.left
			s.settleCount(first, first.left)
			s.head.Offset, s.head.Skip = first.size, 0
		case errors.Is(err, errTorn):
			s.log.Error("a batch in the spool was changed; it is lost", "file", segmentPath(s.dir, first.id), "measurements", h.count-s.head.Skip)
			s.pass(h, Corrupt)
		case err != nil:
			return nil, err
		case h.newest < cutoff:
			s.pass(h, Expired)
		case s.head.Skip >= len(lines):
			s.pass(h, "")
		default:
			s.oldest = h.oldest
			return &batch{at: s.head, newest: h.newest, lines: lines[s.head.Skip:]}, nil
		}
	}
}

// pass goes on to the next record. Measurements of this one that are not settled are lost for a reason.
func (s *spool) pass(h header, why Reason) {
	left := max(h.count-s.head.Skip, 0)
	if why != "" {
		s.lost[why] += left
	}
	s.settleCount(s.segments[0], left)
	s.head.Offset, s.head.Skip = s.head.Offset+h.size(), 0
}

// fromMemory is oldestBatch for what the disk did not take.
func (s *spool) fromMemory(cutoff int64) (*batch, error) {
	for len(s.memory) > 0 {
		m := s.memory[0]
		lines, err := s.codec.decode(m.h, m.raw[headerSize:])
		switch {
		case err != nil:
			s.dropMemory(Corrupt)
		case m.h.newest < cutoff:
			s.dropMemory(Expired)
		default:
			s.oldest, s.lent = m.h.oldest, lent{id: m.id}
			return &batch{at: position{Offset: m.id}, newest: m.h.newest, lines: lines}, nil
		}
	}
	return nil, nil
}

// settle notes that the first n measurements of a batch need no more sending, and takes them off it. A batch that was dropped meanwhile
// is none of the spool's business any more.
func (s *spool) settle(b *batch, n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = min(n, len(b.lines))
	b.lines = b.lines[n:]
	s.follow(b)
	if b.at.Segment == 0 {
		return s.settleMemory(b)
	}
	if len(s.segments) == 0 || s.head != b.at {
		return nil
	}
	h, err := headerAt(s.dir, s.head)
	if err != nil {
		return err
	}
	s.settleCount(s.segments[0], n)
	if s.head.Skip += n; s.head.Skip >= h.count {
		s.head.Offset, s.head.Skip = s.head.Offset+h.size(), 0
	}
	b.at = s.head
	err = saveCursor(s.dir, s.head)
	s.skipDone()
	return err
}

// settleMemory is settle for what the disk did not take.
func (s *spool) settleMemory(b *batch) error {
	if len(s.memory) == 0 || s.memory[0].id != b.at.Offset {
		return nil
	}
	m := &s.memory[0]
	if len(b.lines) == 0 {
		s.dropMemory("")
		return nil
	}
	s.left -= m.h.count - len(b.lines)
	s.memBytes -= int64(len(m.raw))
	var err error
	m.raw, m.h, err = s.codec.encode(b.lines, m.h.oldest, m.h.newest)
	s.memBytes += int64(len(m.raw))
	return err
}

// join makes a JSON array of lines.
func join(lines [][]byte) []byte {
	size := 2
	for _, l := range lines {
		size += len(l) + 1
	}
	b := bytes.NewBuffer(make([]byte, 0, size))
	b.WriteByte('[')
	for i, l := range lines {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(l)
	}
	b.WriteByte(']')
	return b.Bytes()
}
