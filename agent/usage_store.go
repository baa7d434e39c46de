package agent

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"qosctl/agent/api"
	"qosctl/qos"
)

var bucketUsage = []byte("usage") // usageRow by day and job

const (
	usageDays  = 400    // kept
	mostUsage  = 50_000 // rows. Beyond it the jobs of the oldest days are added up by tenant; then the oldest days go
	pruneEvery = 100    // rows that were begun; so many more there may be
	foldedJob  = "~"    // stands before the tenant in the keys of what was added up
)

// usageRow is what a job's runs that ended on one day have used.
type usageRow struct {
	Tenant    string          `json:"tenant,omitempty"`
	Name      string          `json:"name,omitempty"` // "": jobs that were added up
	Framework qos.Framework   `json:"framework"`
	Sum       api.UsageCounts `json:"sum"`
}

// addUsage adds what a row's sum has grown by since it was written last.
func (s *store) addUsage(tx *bolt.Tx, spec *qos.Spec, u used) error {
	before := s.used[spec.ID]
	grown := u.Sum.Plus(before.Times(-1))
	if grown == (api.UsageCounts{}) || u.Day == "" {
		return nil
	}
	b, key := tx.Bucket(bucketUsage), []byte(u.Day+" "+spec.ID)
	v := b.Get(key)
	if err := addTo(b, key, usageRow{usageName(spec.Tenant), usageName(spec.Name), spec.Framework, grown}); err != nil {
		return err
	}
	if v != nil {
		return nil
	}
	if s.begun++; s.begun%pruneEvery != 1 { // counting them takes milliseconds
		return nil
	}
	return pruneUsage(b, u.Day, mostUsage)
}

// addTo adds to a row of the bucket.
func addTo(b *bolt.Bucket, key []byte, r usageRow) error {
	var old usageRow
	if v := b.Get(key); v != nil && open(v, &old) == nil {
		r.Sum = r.Sum.Plus(old.Sum)
	}
	v, err := seal(r)
	if err != nil {
		return err
	}
	return b.Put(key, v)
}

// pruneUsage keeps the bucket within its bounds when a day begins, or a job's row of it.
func pruneUsage(b *bolt.Bucket, today string, most int) error {
	now, err := time.Parse(time.DateOnly, today)
	if err != nil {
		return fmt.Errorf("prune what was used: %w", err)
	}
	oldest := []byte(now.AddDate(0, 0, -usageDays).Format(time.DateOnly))
	for k, _ := b.Cursor().First(); k != nil && bytes.Compare(k, oldest) < 0; k, _ = b.Cursor().First() {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	for b.Inspect().KeyN > most {
		if err := foldOldest(b, today); err != nil {
			return err
		}
	}
	return nil
}

// foldOldest adds the jobs of the oldest day that has any up by tenant; if all days are added up, the oldest goes.
func foldOldest(b *bolt.Bucket, today string) error {
	day := ""
	var jobs [][]byte
	c := b.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		d, job, _ := strings.Cut(string(k), " ")
		if strings.HasPrefix(job, foldedJob) || d >= today || day != "" && d != day {
			if day != "" && d != day {
				break
			}
			continue
		}
		day = d
		jobs = append(jobs, bytes.Clone(k))
	}
	if day == "" {
		k, _ := b.Cursor().First()
		return b.Delete(k)
	}
	for _, k := range jobs {
		var r usageRow
		if open(b.Get(k), &r) == nil {
			r.Name = ""
			if err := addTo(b, []byte(day+" "+foldedJob+string(r.Framework)+"/"+r.Tenant), r); err != nil {
				return err
			}
		}
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// usage adds the rows of some days up. What can't be read is left out.
func (s *store) usage(q usageQuery) (map[api.UsageKey]api.UsageCounts, error) {
	sums := map[api.UsageKey]api.UsageCounts{}
	err := s.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketUsage).Cursor()
		for k, v := c.Seek([]byte(q.since)); k != nil; k, v = c.Next() {
			day, _, _ := strings.Cut(string(k), " ")
			if day > q.until {
				return nil
			}
			var r usageRow
			if open(v, &r) != nil {
				continue
			}
			var key api.UsageKey
			switch q.by {
			case api.UsageByDay:
				key.Day = day
			case api.UsageByJob:
				key.Tenant, key.Job, key.Framework = r.Tenant, r.Name, r.Framework
			default:
				key.Tenant = r.Tenant
			}
			sums[key] = sums[key].Plus(r.Sum)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read what was used: %w", err)
	}
	return sums, nil
}
