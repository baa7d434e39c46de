package gossip

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// The store's buckets, and the first byte of each value.
const (
	rowBucket   = "gossip.rows"
	markBucket  = "gossip.marks"
	peerBucket  = "gossip.peers"
	asideBucket = "gossip.aside" // rows that could not be read
	storeFormat = 1
)

const (
	keepEvery  = 200 * time.Millisecond // what peers tell is stored together
	sweepEvery = time.Minute
	agesEvery  = time.Hour // tombstones' ages are stored anew
	maxBatch   = 1000      // rows in one write
)

// forgetful is the store of a Mesh without one.
type forgetful struct{}

func (forgetful) Each(string, func(string, []byte) error) error { return nil }
func (forgetful) Write([]Item) error                            { return nil }

// load takes in what the store remembers.
func (m *Mesh) load() error {
	now := time.Now()
	var bad []Item
	err := m.opts.Store.Each(rowBucket, func(key string, value []byte) error {
		r, err := storedRow(value, now)
		if err == nil && r.id != key {
			err = malformed("the row of job %.80q", r.id)
		}
		if err == nil {
			_, err = m.table.merge(r, now)
		}
		if errors.Is(err, errMalformed) && !errors.Is(err, errFormat) {
			m.log.Error("a row of the store can't be read; it is kept aside, and peers are asked for it", "job", key, "err", err, "kept", asideBucket)
			bad = append(bad, Item{asideBucket, key, value}, Item{rowBucket, key, nil})
			return nil
		}
		return wrapStored("row", key, err)
	})
	if err == nil && len(bad) > 0 {
		err = m.opts.Store.Write(bad)
	}
	if err != nil {
		return fmt.Errorf("gossip: read the store: %w", err)
	}
	err = m.opts.Store.Each(markBucket, func(key string, value []byte) error {
		r := storedReader(value)
		k := r.mark(now)
		if err := r.done(); err != nil {
			return wrapStored("mark", key, err)
		}
		m.marks.merge(k, now)
		return nil
	})
	if err != nil {
		return fmt.Errorf("gossip: read the store: %w", err)
	}
	err = m.opts.Store.Each(peerBucket, func(key string, value []byte) error {
		r := storedReader(value)
		address := r.text(maxName)
		if err := r.done(); err != nil {
			return wrapStored("peer", key, err)
		}
		m.roster.remember(key, address)
		return nil
	})
	if err != nil {
		return fmt.Errorf("gossip: read the store: %w", err)
	}
	m.root.Store(m.table.root)
	m.mark.Store(m.marks.hash)
	m.dropEvicted()
	return nil
}

func wrapStored(what, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %.140q: %w", what, key, err)
}

// errFormat says that another version of the program has written it: nothing is wrong with it, and it is not this one's to set aside.
var errFormat = errors.New("stored in format")

func storedReader(value []byte) *reader {
	r := &reader{b: value}
	if f := r.byte(); r.err == nil && f != storeFormat {
		r.err, r.b = fmt.Errorf("%w: %w %d, not %d", errMalformed, errFormat, f, storeFormat), nil
	}
	return r
}

func storedRow(value []byte, now time.Time) (*row, error) {
	r := storedReader(value)
	row, bad := r.row(now)
	if err := r.done(); err != nil {
		return nil, err
	}
	if bad != nil {
		return nil, bad.err
	}
	return row, nil
}

// flush stores what has changed. When it returns nil, all that was changed before the call is on disk.
func (m *Mesh) flush() error {
	m.storing.Lock()
	defer m.storing.Unlock()
	for {
		items, undo, err := m.unsaved()
		if err != nil {
			undo()
			return fmt.Errorf("store: %w", err)
		}
		if len(items) == 0 {
			return nil
		}
		if err := m.opts.Store.Write(items); err != nil {
			undo()
			return fmt.Errorf("store: %w", err)
		}
	}
}

// unsaved takes the next items to be written; undo puts them back.
func (m *Mesh) unsaved() (items []Item, undo func(), err error) {
	now := time.Now()
	keep, gone := m.roster.takeDirty()
	for _, p := range keep {
		items = append(items, Item{peerBucket, p.Name, appendString([]byte{storeFormat}, p.Address)})
	}
	for _, name := range gone {
		items = append(items, Item{peerBucket, name, nil})
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	rows, marks := firstOf(m.unstored, maxBatch), firstOf(m.unkept, maxBatch)
	undo = func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, id := range rows {
			m.unstored[id] = true
		}
		for _, key := range marks {
			m.unkept[key] = true
		}
		m.roster.soil(keep, gone)
	}
	for _, id := range rows {
		delete(m.unstored, id)
		r := m.table.rows[id]
		if r == nil {
			items = append(items, Item{rowBucket, id, nil})
			continue
		}
		b, err := r.append([]byte{storeFormat}, now)
		if err != nil {
			return nil, undo, err
		}
		items = append(items, Item{rowBucket, id, b})
	}
	for _, key := range marks {
		delete(m.unkept, key)
		k, ok := m.marks.all[key]
		if !ok {
			items = append(items, Item{markBucket, key, nil})
			continue
		}
		items = append(items, Item{markBucket, key, k.append([]byte{storeFormat}, now)})
	}
	return items, undo, nil
}

func firstOf(set map[string]bool, n int) []string {
	all := slices.Collect(maps.Keys(set))
	return all[:min(n, len(all))]
}

// keepLoop stores what peers tell, and forgets what is old.
func (m *Mesh) keepLoop(ctx context.Context) {
	keep, sweep, ages := time.NewTicker(keepEvery), time.NewTicker(sweepEvery), time.NewTicker(agesEvery)
	defer keep.Stop()
	defer sweep.Stop()
	defer ages.Stop()
	broken := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-keep.C:
			err := m.flush()
			if err != nil && !broken {
				m.log.Error("what peers tell cannot be stored; it is tried again", "err", err)
			}
			broken = err != nil
		case <-sweep.C:
			m.sweep(time.Now(), false)
		case <-ages.C:
			m.sweep(time.Now(), true)
		}
	}
}

// sweep forgets what is old; with ages, the tombstones that stay are stored anew, since they grow older only while an agent runs.
func (m *Mesh) sweep(now time.Time, ages bool) {
	m.roster.sweep(now)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range m.table.sweep(now) {
		m.unstored[id] = true
	}
	for _, key := range m.marks.sweep(now) {
		m.unkept[key] = true
	}
	m.root.Store(m.table.root)
	m.mark.Store(m.marks.hash)
	if !ages {
		return
	}
	for id, r := range m.table.rows {
		if r.grave != nil {
			m.unstored[id] = true
		}
	}
	for key, k := range m.marks.all {
		if k.unset != nil {
			m.unkept[key] = true
		}
	}
}
