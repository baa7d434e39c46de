package agent

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Bounds of what the network may ask for.
const (
	perSecond  = 50   // requests of one address
	burst      = 200  // of it at once
	maxClients = 4096 // addresses that are remembered
)

// rates bounds how often each caller may do something.
type rates struct {
	each  rate.Limit
	burst int

	mu sync.Mutex
	by map[string]*rate.Limiter
}

func newRates(perSecond, burst int) *rates {
	return &rates{each: rate.Limit(perSecond), burst: burst, by: map[string]*rate.Limiter{}}
}

// allow says whether a caller may now. When too many are known all are forgotten: memory is bounded, and nobody is locked out.
func (r *rates) allow(who string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.by[who]
	if l == nil {
		if len(r.by) >= maxClients {
			clear(r.by)
		}
		l = rate.NewLimiter(r.each, r.burst)
		r.by[who] = l
	}
	return l.Allow()
}

// shares are places that callers take, so many in all and so many each.
type shares struct {
	all, each int

	mu    sync.Mutex
	taken int
	by    map[string]int
	freed chan struct{} // closed when a place becomes free
}

func newShares(all, each int) *shares {
	return &shares{all: all, each: each, by: map[string]int{}, freed: make(chan struct{})}
}

// take takes a place for a caller, and waits for one at most so long. leave gives it back.
func (s *shares) take(ctx context.Context, who string, most time.Duration) (leave func(), ok bool) {
	var late <-chan time.Time
	if most > 0 {
		t := time.NewTimer(most)
		defer t.Stop()
		late = t.C
	}
	for {
		freed := s.try(who)
		switch {
		case freed == nil:
			return func() { s.leave(who) }, true
		case late == nil:
			return nil, false
		}
		select {
		case <-freed:
		case <-late:
			return nil, false
		case <-ctx.Done():
			return nil, false
		}
	}
}

// try takes a place, or returns what is closed when it is worth trying again.
func (s *shares) try(who string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken >= s.all || s.by[who] >= s.each {
		return s.freed
	}
	s.taken++
	s.by[who]++
	return nil
}

func (s *shares) leave(who string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	if s.by[who]--; s.by[who] == 0 {
		delete(s.by, who)
	}
	close(s.freed)
	s.freed = make(chan struct{})
}

// turns bound the requests over the network that are answered at once, of strangers and of those who are known each for themselves, and, apart from them, those that last: streams, and waiting for a
// change. Prometheus' scrapes have bounds of their own (metricsPage), so that they go on whatever else is asked.
type turns struct{ short, long *shares }

const (
	turnTime   = 5 * time.Second  // that a request waits for its turn
	answerTime = 60 * time.Second // in which a question must have been answered, and the client have read it
)

func newTurns() *turns { return &turns{short: newShares(64, 16), long: newShares(256, 32)} }

// lasting says whether a request is answered for as long as its client likes.
func lasting(r *http.Request) bool {
	p := r.URL.Path
	return strings.HasSuffix(p, "/events") || strings.HasSuffix(p, "/logs") || r.URL.Query().Has("wait")
}

// take takes a turn for a request.
func (t *turns) take(w http.ResponseWriter, r *http.Request) (leave func(), ok bool) {
	switch who := callerAt(r.RemoteAddr); {
	case r.URL.Path == "/metrics":
		return func() {}, true
	case lasting(r):
		return t.long.take(r.Context(), who, 0)
	default:
		give, ok := t.short.take(r.Context(), who, turnTime)
		if !ok {
			return nil, false
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			return give, true // what is to be done may take its time: a checkpoint
		}
		done := limited(w, answerTime)
		return func() { done(); give() }, true
	}
}

// limited gives an answer a time in which all of it must go out, until done is called.
func limited(w http.ResponseWriter, most time.Duration) (done func()) {
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(most)) // not every writer can: tests
	return func() { _ = rc.SetWriteDeadline(time.Time{}) }
}
