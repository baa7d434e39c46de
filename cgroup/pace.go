package cgroup

import "time"

// ResizeEvery is the least time between two writes of a changed quota to one cgroup: each write gives away up to one quota.
// No raise ever waits longer than it, however urgent, because the wait counts from the last write. ForeignEvery is the same for setting a
// value again that somebody else has changed.
const (
	ResizeEvery  = time.Second
	ForeignEvery = 10 * time.Second
)

// Pace holds writes apart. It is a value of the caller's, one for each cgroup and kind of write; the zero Pace allows the first write at once.
type Pace struct{ last time.Time }

// Wait is how long the next write must wait at now; 0: it may be done. A clock that stepped back holds nothing up.
func (p Pace) Wait(now time.Time, every time.Duration) time.Duration {
	since := now.Sub(p.last)
	if p.last.IsZero() || since < 0 || since >= every {
		return 0
	}
	return every - since
}

// Done notes that a value was written at now. An unchanged value that was not written needs no note.
func (p *Pace) Done(now time.Time) { p.last = now }
