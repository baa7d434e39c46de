package peer

import "time"

const (
	maxRefused = 1024 // addresses that are remembered
	quiet      = time.Hour
)

// refusals remember whose refusal was logged, so that a stranger is in the log once an hour. The zero value is ready.
type refusals struct {
	at   map[string]time.Time
	full time.Time // when it was last said that there are too many to remember
}

// note says whether a refusal of an address is news; more: it is not remembered, and that is news.
func (r *refusals) note(from string, now time.Time) (news, more bool) {
	if r.at == nil {
		r.at = map[string]time.Time{}
	}
	if last, ok := r.at[from]; ok && within(last, now) {
		return false, false
	}
	if len(r.at) >= maxRefused {
		for a, last := range r.at {
			if !within(last, now) {
				delete(r.at, a)
			}
		}
	}
	if len(r.at) < maxRefused {
		r.at[from] = now
		return true, false
	}
	if !r.full.IsZero() && within(r.full, now) {
		return false, false
	}
	r.full = now
	return false, true
}

// within says whether something is less than quiet ago; a clock that was set back makes it news again only after quiet.
func within(last, now time.Time) bool { return now.Sub(last).Abs() < quiet }
