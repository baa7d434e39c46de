package monasca

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
)

// Bounds of the spool's parts.
const (
	leastSegment = 64 << 10
	mostSegment  = 8 << 20
	maxMemory    = 4 << 20 // bytes of records that are held while the disk takes none
)

// spool keeps batches on disk in the order in which they came. Appending and settling may go on at once.
type spool struct {
	dir  string
	most int64 // bytes
	part int64 // bytes of a segment
	log  *slog.Logger

	mu       sync.Mutex
	codec    *codec
	segments []*segment // oldest first
	active   *os.File   // the last of them, being written; nil: the next record begins another
	next     uint64     // id of the next segment
	head     position   // oldest record that is not settled
	memory   []memory   // records that the disk did not take
	memBytes int64
	bytes    int64
	left     int            // measurements
	oldest   int64          // ms, of the record that was looked at last
	lost     map[Reason]int // measurements
	fresh    chan struct{}  // has something when records were added
	records  int64          // appended, in all
	lent     lent
}

// memory is a record that is not on disk.
type memory struct {
	id  int64
	raw []byte
	h   header
}

// lent is the record in memory that is being sent, and where it is on disk, if it was written there meanwhile.
type lent struct {
	id int64
	at position
}

// openSpool opens a spool, or makes one.
func openSpool(dir string, most int64, log *slog.Logger) (*spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the spool: %w", err)
	}
	c, err := newCodec()
	if err != nil {
		return nil, err
	}
	s := &spool{
		dir: dir, most: most, part: min(max(most/16, leastSegment), mostSegment), log: log, codec: c, next: 1,
		lost: make(map[Reason]int), fresh: make(chan struct{}, 1),
	}
	ids, err := listSegments(dir)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		seg, err := scan(dir, id)
		if err != nil {
			return nil, err
		}
		if seg.torn > 0 {
			log.Warn("the end of a spool file is torn: what was being written when the agent was ended is lost", "file", segmentPath(dir, id), "bytes", seg.torn)
		}
		s.segments = append(s.segments, &seg)
		s.bytes += seg.size + seg.torn
		s.left += seg.left
		s.next = id + 1
	}
	s.resume()
	s.shrink()
	s.signal()
	return s, nil
}

// resume takes up where the cursor says.
func (s *spool) resume() {
	p, err := loadCursor(s.dir)
	if err != nil {
		s.log.Warn("the spool is sent from its beginning; Monasca may get some of it again", "err", err)
	}
	s.next = max(s.next, p.Segment+1)
	for len(s.segments) > 0 && s.segments[0].id < p.Segment {
		s.dropFirst("")
	}
	if len(s.segments) == 0 {
		return
	}
	first := s.segments[0]
	s.head = position{Segment: first.id}
	if p.Segment != first.id {
		return
	}
	if _, ok := first.known[p.Offset]; !ok && p.Offset != first.size {
		s.log.Warn("the spool's cursor points at no record; its file is sent from its beginning", "file", segmentPath(s.dir, first.id))
		return
	}
	settled := p.Skip
	for at, count := range first.known {
		if at < p.Offset {
			settled += count
		}
	}
	s.head = p
	s.settleCount(first, settled)
}

// settleCount takes settled measurements of a segment off the sums.
func (s *spool) settleCount(seg *segment, n int) {
	n = min(n, seg.left)
	seg.left -= n
	s.left -= n
}

// append adds a batch. When the disk does not take it, it is held in memory, within bounds.
func (s *spool) append(lines [][]byte, oldest, newest int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	raw, h, err := s.codec.encode(lines, oldest, newest)
	if err != nil {
		s.lost[Oversize] += len(lines)
		return err
	}
	s.records++
	s.memory = append(s.memory, memory{id: s.records, raw: raw, h: h})
	s.memBytes += int64(len(raw))
	s.left += h.count
	err = s.flush()
	for s.memBytes > maxMemory && len(s.memory) > 1 {
		s.dropMemory(Overflow)
	}
	s.shrink()
	s.signal()
	return err
}

// retry writes to disk what is in memory, if anything is.
func (s *spool) retry() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flush()
}

// flush writes to disk what is in memory.
func (s *spool) flush() error {
	for len(s.memory) > 0 {
		m := s.memory[0]
		seg, err := s.room(int64(len(m.raw)))
		if err == nil {
			err = s.write(seg, m.raw)
		}
		if err != nil {
			return err
		}
		if m.id == s.lent.id {
			s.lent.at = position{Segment: seg.id, Offset: seg.size}
		}
		seg.size += int64(len(m.raw))
		seg.left += m.h.count
		s.bytes += int64(len(m.raw))
		s.memory = s.memory[1:]
		s.memBytes -= int64(len(m.raw))
	}
	return nil
}

// room returns the segment that a record is written to.
func (s *spool) room(n int64) (*segment, error) {
	if s.active != nil {
		if last := s.segments[len(s.segments)-1]; last.size == 0 || last.size+n <= s.part {
			return last, nil
		}
		if err := s.closeActive(); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(segmentPath(s.dir, s.next), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write the spool: %w", err)
	}
	s.active = f
	seg := &segment{id: s.next}
	s.next++
	s.segments = append(s.segments, seg)
	if s.head.Segment == 0 {
		s.head = position{Segment: seg.id}
	}
	return seg, nil
}

// write appends a record to the active file, or leaves it as it was.
func (s *spool) write(seg *segment, raw []byte) error {
	if _, err := s.active.Write(raw); err != nil {
		if again := s.active.Truncate(seg.size); again != nil { // another file is begun: this one's end is torn
			err = errors.Join(err, again, s.closeActive())
		}
		return fmt.Errorf("write the spool: %w", err)
	}
	return nil
}

func (s *spool) closeActive() error {
	f := s.active
	s.active = nil
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("close a spool file: %w", err)
	}
	return nil
}

// sync forces what was appended to the disk.
func (s *spool) sync() error {
	s.mu.Lock()
	f := s.active
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	if err := f.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("write the spool: %w", err)
	}
	return nil
}

// signal tells who waits that there is something to send.
func (s *spool) signal() {
	if s.left == 0 {
		return
	}
	select {
	case s.fresh <- struct{}{}:
	default:
	}
}

// shrink removes the oldest files while there is more than allowed.
func (s *spool) shrink() {
	for s.bytes > s.most && len(s.segments) > 1 {
		s.dropFirst(Overflow)
	}
}

// dropFirst removes the oldest file, for a reason if anything in it was not settled.
func (s *spool) dropFirst(why Reason) {
	first := s.segments[0]
	if why != "" {
		s.lost[why] += first.left
	}
	s.settleCount(first, first.left)
	if s.active != nil && len(s.segments) == 1 {
		_ = s.active.Close() // it goes
		s.active = nil
	}
	if err := os.Remove(segmentPath(s.dir, first.id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.log.Warn("remove a spool file", "err", err) // it is sent again after a restart at worst
	}
	s.bytes -= first.size + first.torn
	s.segments = s.segments[1:]
	s.head = position{}
	if len(s.segments) > 0 {
		s.head = position{Segment: s.segments[0].id}
	}
}

func (s *spool) dropMemory(why Reason) {
	m := s.memory[0]
	if why != "" {
		s.lost[why] += m.h.count
	}
	s.left -= m.h.count
	s.memory = s.memory[1:]
	s.memBytes -= int64(len(m.raw))
}

// close ends writing.
func (s *spool) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.flush()
	if s.active != nil {
		err = errors.Join(err, s.closeActive())
	}
	return err
}
