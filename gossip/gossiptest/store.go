package gossiptest

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"sync"

	"qosctl/gossip"
)

// ErrBroken is what a broken store says.
var ErrBroken = errors.New("gossiptest: the store is broken")

// Store is a gossip.Store in memory. What is in it survives the Mesh.
type Store struct {
	mu      sync.Mutex
	buckets map[string]map[string][]byte
	broken  bool
	writes  int
}

// Break makes writes fail, or mends them.
func (s *Store) Break(broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = broken
}

// Writes is how many there were.
func (s *Store) Writes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes
}

// Each is gossip.Store's.
func (s *Store) Each(bucket string, f func(key string, value []byte) error) error {
	s.mu.Lock()
	all := maps.Clone(s.buckets[bucket])
	s.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if err := f(k, bytes.Clone(all[k])); err != nil {
			return err
		}
	}
	return nil
}

// Write is gossip.Store's.
func (s *Store) Write(items []gossip.Item) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return ErrBroken
	}
	s.writes++
	if s.buckets == nil {
		s.buckets = map[string]map[string][]byte{}
	}
	for _, i := range items {
		if s.buckets[i.Bucket] == nil {
			s.buckets[i.Bucket] = map[string][]byte{}
		}
		if i.Value == nil {
			delete(s.buckets[i.Bucket], i.Key)
			continue
		}
		s.buckets[i.Bucket][i.Key] = bytes.Clone(i.Value)
	}
	return nil
}

// CopyBucket takes over what another store has in a bucket.
func (s *Store) CopyBucket(from *Store, bucket string) {
	from.mu.Lock()
	all := maps.Clone(from.buckets[bucket])
	from.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buckets == nil {
		s.buckets = map[string]map[string][]byte{}
	}
	s.buckets[bucket] = all
}
