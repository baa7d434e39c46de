package agent

import (
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"qosctl/gossip"
)

// What the table of the cluster and marks keep in the store.

var bucketMarks = []byte("marks")

// drop takes a row out that another node has now; it may come back.
func (s *store) drop(id string) error {
	s.usageMu.Lock()
	defer s.usageMu.Unlock()
	delete(s.used, id) // it comes back without what was booked here
	return s.db.Update(func(tx *bolt.Tx) error {
		delete(s.written, id)
		return errors.Join(tx.Bucket(bucketJobs).Delete([]byte(id)), tx.Bucket(bucketHistory).Delete([]byte(id)))
	})
}

// marks are those of an agent that is alone.
func (s *store) marks() map[string]string {
	m := map[string]string{}
	_ = s.db.View(func(tx *bolt.Tx) error { // it was opened, and the bucket made
		return tx.Bucket(bucketMarks).ForEach(func(k, v []byte) error {
			m[string(k)] = string(v)
			return nil
		})
	})
	return m
}

func (s *store) mark(key, value string) error {
	return s.update(func(tx *bolt.Tx) error {
		if value == "" {
			return tx.Bucket(bucketMarks).Delete([]byte(key))
		}
		return tx.Bucket(bucketMarks).Put([]byte(key), []byte(value))
	})
}

// bucketOwed has the accounts that owners of jobs have not taken yet.
var bucketOwed = []byte("owed")

// owe keeps an account until it is paid; one of the same execution is merged.
func (s *store) owe(o owed) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucketOwed)
		if err != nil {
			return fmt.Errorf("write the store: %w", err)
		}
		var old owed
		if v := b.Get([]byte(o.key())); v != nil && open(v, &old) == nil {
			o.Account, o.Sequence, o.Deposit = o.Account.Merge(old.Account), max(o.Sequence, old.Sequence), o.Deposit && old.Deposit
		} else if v == nil && b.Stats().KeyN >= maxOwed {
			return errOwed
		}
		v, err := seal(o)
		if err != nil {
			return err
		}
		return b.Put([]byte(o.key()), v)
	})
}

// owing lists what is owed. What can't be read is left out.
func (s *store) owing() (list []owed, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketOwed)
		if b == nil {
			return nil
		}
		return b.ForEach(func(_, v []byte) error {
			var o owed
			if open(v, &o) == nil {
				list = append(list, o)
			}
			return nil
		})
	})
	return list, err
}

// paid forgets what is owed, unless it has become more meanwhile.
func (s *store) paid(o owed) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketOwed)
		var now owed
		if v := b.Get([]byte(o.key())); v != nil && open(v, &now) == nil && (now.Account.Consumed() > o.Account.Consumed() || now.Sequence > o.Sequence) {
			return nil
		}
		return b.Delete([]byte(o.key()))
	})
}

// gossip is the part of the store that the table has.
func (s *store) gossip() gossip.Store { return meshStore{s.db} }

type meshStore struct{ db *bolt.DB }

// meshBucket keeps the table's buckets apart from the store's own.
func meshBucket(name string) []byte { return []byte("mesh/" + name) }

// Each calls f for every item of a bucket.
func (m meshStore) Each(bucket string, f func(key string, value []byte) error) error {
	return m.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(meshBucket(bucket))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error { return f(string(k), append([]byte(nil), v...)) })
	})
}

// Write writes all items or none.
func (m meshStore) Write(items []gossip.Item) error {
	err := m.db.Update(func(tx *bolt.Tx) error {
		for _, i := range items {
			b, err := tx.CreateBucketIfNotExists(meshBucket(i.Bucket))
			if err == nil && i.Value == nil {
				err = b.Delete([]byte(i.Key))
			} else if err == nil {
				err = b.Put([]byte(i.Key), i.Value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write the store: %w", err)
	}
	return nil
}
