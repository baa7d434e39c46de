package gossip

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Bounds of marks.
const (
	maxMarks     = 1024
	maxMarkKey   = 128 // bytes
	maxMarkValue = 256 // bytes
	maxMarkClock = 1 << 48
)

// ErrTooManyMarks says that no further mark can be set.
var ErrTooManyMarks = fmt.Errorf("there are %d marks, and no more can be set: unset some", maxMarks)

// mark is a small register that all nodes hold alike: of two writes the one with the greater clock is kept, then the greater node's,
// then the greater value. The clock is Lamport's: a write is above all that its writer has seen. Unset is a write too, remembered like
// a tombstone.
type mark struct {
	key, value string
	clock      uint64
	node       string
	unset      *grave // not nil exactly if value is ""
}

func (m mark) newer(o mark) bool {
	if m.clock != o.clock {
		return m.clock > o.clock
	}
	if m.node != o.node {
		return m.node > o.node
	}
	return m.value > o.value
}

func (m mark) hash() uint64 {
	b := appendString(nil, m.key)
	b = appendString(b, m.value)
	b = binary.AppendUvarint(b, m.clock)
	sum := sha256.Sum256(appendString(b, m.node))
	return binary.BigEndian.Uint64(sum[:])
}

func (m mark) retired(now time.Time) bool {
	return m.unset != nil && m.unset.old(now) >= tombstoneRetires
}

// marks is the set of registers of one node: pure, as table is.
type marks struct {
	all     map[string]mark
	clock   uint64
	hash    uint64   // of those that are not retired
	evicted []string // keys of those that others were put in the place of, until they are stored so
}

func newMarks() *marks { return &marks{all: map[string]mark{}} }

func checkMark(key, value string) error {
	switch {
	case key == "" || len(key) > maxMarkKey || !printable(key):
		return fmt.Errorf("mark %.140q: the key must have 1 to %d bytes of printable text", key, maxMarkKey)
	case len(value) > maxMarkValue || !printable(value):
		return fmt.Errorf("mark %s: the value must have at most %d bytes of printable text", key, maxMarkValue)
	}
	return nil
}

// set is this node's own write. It returns the mark to be told, or false if nothing changed.
func (s *marks) set(key, value, node string, now time.Time) (mark, bool, error) {
	if err := checkMark(key, value); err != nil {
		return mark{}, false, err
	}
	if s.all[key].value == value {
		return mark{}, false, nil
	}
	if s.clock >= maxMarkClock {
		return mark{}, false, errors.New("the marks' clock is worn out")
	}
	m := mark{key: key, value: value, clock: s.clock + 1, node: node}
	if value == "" {
		m.unset = &grave{at: now}
	}
	if !s.merge(m, now) {
		return mark{}, false, ErrTooManyMarks
	}
	return m, true, nil
}

// merge takes in a mark; it says whether it was news.
func (s *marks) merge(m mark, now time.Time) bool {
	old, had := s.all[m.key]
	if had && !m.newer(old) {
		return false
	}
	if !had && (m.retired(now) || len(s.all) >= maxMarks && !s.room(m)) {
		return false
	}
	s.clock = max(s.clock, m.clock)
	s.all[m.key] = m
	s.rehash(now)
	return true
}

// room forgets the mark that has been unset for longest, for one that comes. One that is unset itself, and for longer than all of them, finds
// none: else two nodes would bring each other for ever what both have no room for.
func (s *marks) room(coming mark) bool {
	var oldest mark
	for _, m := range s.all {
		if m.unset != nil && (oldest.unset == nil || m.before(oldest)) {
			oldest = m
		}
	}
	if oldest.unset == nil || coming.unset != nil && coming.before(oldest) {
		return false
	}
	delete(s.all, oldest.key)
	s.evicted = append(s.evicted, oldest.key)
	return true
}

// before orders marks of different keys by age, the same on all nodes.
func (m mark) before(o mark) bool {
	if m.newer(o) || o.newer(m) {
		return o.newer(m)
	}
	return m.key < o.key
}

// takeEvicted returns the keys that room was made of since it was asked last.
func (s *marks) takeEvicted() []string {
	keys := s.evicted
	s.evicted = nil
	return keys
}

// sweep forgets what was unset long ago; it returns the keys.
func (s *marks) sweep(now time.Time) []string {
	var gone []string
	for k, m := range s.all {
		if m.unset != nil && m.unset.old(now) >= tombstoneTTL {
			delete(s.all, k)
			gone = append(gone, k)
		}
	}
	s.rehash(now)
	return gone
}

func (s *marks) rehash(now time.Time) {
	s.hash = 0
	for _, m := range s.all {
		if !m.retired(now) {
			s.hash ^= m.hash()
		}
	}
}

// values is what is set.
func (s *marks) values() map[string]string {
	v := map[string]string{}
	for k, m := range s.all {
		if m.value != "" {
			v[k] = m.value
		}
	}
	return v
}

func (m mark) append(b []byte, now time.Time) []byte {
	b = appendString(b, m.key)
	b = appendString(b, m.value)
	b = binary.AppendUvarint(b, m.clock)
	b = appendString(b, m.node)
	if m.unset != nil {
		b = binary.AppendUvarint(b, uint64(min(m.unset.old(now), tombstoneTTL)/time.Second))
	}
	return b
}

func (r *reader) mark(now time.Time) mark {
	m := mark{key: r.text(maxMarkKey), value: r.text(maxMarkValue), clock: r.uvarint(maxMarkClock), node: r.text(maxName)}
	if m.value == "" {
		m.unset = &grave{age: time.Duration(r.uvarint(uint64(tombstoneTTL/time.Second))) * time.Second, at: now}
	}
	if m.key == "" {
		r.fail("has a mark without a key")
	}
	return m
}

// append encodes all marks that are not retired.
func (s *marks) append(b []byte, now time.Time) []byte {
	var live []mark
	for _, k := range slices.Sorted(maps.Keys(s.all)) {
		if m := s.all[k]; !m.retired(now) {
			live = append(live, m)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(live)))
	for _, m := range live {
		b = m.append(b, now)
	}
	return b
}

func (r *reader) marks(now time.Time) []mark {
	var all []mark
	for range r.uvarint(maxMarks) {
		if r.err != nil {
			return nil
		}
		all = append(all, r.mark(now))
	}
	return all
}
