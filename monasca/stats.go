package monasca

import (
	"maps"
	"time"
)

// Reason is why a measurement was not brought to Monasca.
type Reason string

// The reasons.
const (
	QueueFull Reason = "queue_full" // more was offered than could be written
	Invalid   Reason = "invalid"    // it is none that Monasca takes, by our own check
	Refused   Reason = "refused"    // by Monasca
	Expired   Reason = "expired"    // older than the greatest age
	Overflow  Reason = "overflow"   // the spool was full
	Corrupt   Reason = "corrupt"    // its record on disk was changed
	Oversize  Reason = "oversize"   // its batch is larger than a record can be
)

// Reasons are all of them.
func Reasons() []Reason {
	return []Reason{QueueFull, Invalid, Refused, Expired, Overflow, Corrupt, Oversize}
}

// Stats say how sending goes.
type Stats struct {
	State     State
	Fault     string // what is wrong, with its remedy; "": nothing
	DiskFault string // why the spool can't be written; "": it can

	Queued     int       // measurements that are not in the spool yet
	Spooled    int       // measurements in the spool
	SpoolBytes int64     // of its files
	Oldest     time.Time // measurement in the spool, as far as is known; zero: the spool is empty

	Sent     int            // measurements that Monasca took
	Found    int            // of them, those whose answer was lost, and that were found there
	Resent   int            // measurements sent again after their answer was lost, since they were not found or could not be looked for
	Dropped  map[Reason]int // measurements
	Requests int            // POSTs
	Tokens   int            // fetched
	LastSent time.Time      // when Monasca took something last
}

// Stats returns how sending goes now.
func (s *Sender) Stats() Stats {
	s.mu.Lock()
	v := s.stats
	v.Dropped = maps.Clone(v.Dropped)
	v.Queued = len(s.queue)
	s.mu.Unlock()
	p := s.spool
	p.mu.Lock()
	defer p.mu.Unlock()
	v.Spooled, v.SpoolBytes = p.left, p.bytes
	for why, n := range p.lost {
		v.Dropped[why] += n
	}
	if p.left > 0 && p.oldest > 0 {
		v.Oldest = time.UnixMilli(p.oldest)
	}
	return v
}
