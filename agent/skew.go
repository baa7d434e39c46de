package agent

import (
	"sync"
	"time"

	"qosctl/agent/doctor"
)

const (
	skewKept = 10 * time.Minute       // a measurement counts for so long
	skewNear = 500 * time.Millisecond // one that may be further off says nothing
)

// skews is how far the clocks of other nodes are from this one's, as their answers show.
type skews struct {
	mu  sync.Mutex
	was map[string]skewSeen
}

type skewSeen struct {
	skew, within time.Duration
	at           time.Time
}

// note takes a measurement in.
func (s *skews) note(node string, skew, within time.Duration) {
	if within > skewNear {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.was == nil {
		s.was = map[string]skewSeen{}
	}
	s.was[node] = skewSeen{skew, within, time.Now()}
}

// worst is the greatest skew of those seen lately, with its sign; false: none was.
func (s *skews) worst(now time.Time) (worst time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for node, seen := range s.was {
		if now.Sub(seen.at) > skewKept {
			delete(s.was, node)
			continue
		}
		if !ok || seen.skew.Abs() > worst.Abs() {
			worst = seen.skew
		}
		ok = true
	}
	return worst, ok
}

// of is what was last seen of one node, and when.
func (s *skews) of(node string) (d doctor.Distance, at time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen, ok := s.was[node]
	return doctor.Distance{Skew: seen.skew, Within: seen.within}, seen.at, ok
}
