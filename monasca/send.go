package monasca

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Waits of the sending side.
const (
	lookDelay   = 5 * time.Second  // until what Monasca took may be found in its database
	maxLooks    = 3                // for a batch whose answer was lost
	lastGrace   = 3 * time.Second  // for the answer of a request, when the agent stops
	credsPoll   = 10 * time.Second // between two looks at the credentials file while they don't help
	manyRefused = 16               // refusals of one batch from which its parts are sent slowly
	refusedWait = time.Second
)

// delivery is a batch on its way.
type delivery struct {
	*batch

	doubt    int  // measurements at its front of which it is not known whether they arrived
	prefix   bool // so many of them, or less
	looks    int
	suspect  int // measurements at its front of which at least one is refused
	refusals int
}

// send brings the spool to Monasca, oldest first, until ctx ends.
func (s *Sender) send(ctx context.Context) {
	found := true // what an agent before us sent last may have arrived without its knowing
	for ctx.Err() == nil {
		b, err := s.spool.oldestBatch(s.cutoff())
		switch {
		case err != nil:
			s.fail(Retrying, err)
			s.wait(ctx, diskRetry)
			continue
		case b == nil:
			found = false
			select {
			case <-ctx.Done():
			case <-s.spool.fresh:
			}
			continue
		}
		d := &delivery{batch: b}
		if found {
			d.doubt, d.prefix, found = len(b.lines), true, false
		}
		for len(d.lines) > 0 && ctx.Err() == nil && s.spool.holds(d.batch, s.cutoff()) {
			s.wait(ctx, s.step(ctx, d))
		}
	}
}

// cutoff is when what is sent must be younger than, in ms since 1970.
func (s *Sender) cutoff() int64 { return time.Now().Add(-s.o.MaxAge).UnixMilli() }

// step does the next thing for a batch, one request of Monasca's API at most, and returns how long to wait before the one after it.
func (s *Sender) step(ctx context.Context, d *delivery) time.Duration {
	ctx, stop := lingering(ctx, s.o.Timeout)
	defer stop()
	err := s.session.open(ctx)
	s.count(func(v *Stats) { v.Tokens = s.session.fetched })
	if err != nil {
		return s.noLogin(err)
	}
	if d.doubt > 0 && d.looks < maxLooks && !s.blind {
		return s.look(ctx, d)
	}
	n := min(len(d.lines), s.limit)
	if d.suspect > 0 {
		n = min(max(d.suspect/2, 1), s.limit)
	}
	again := min(n, d.doubt)
	if d.prefix { // whether anything of it was ever sent is not known
		again = 0
	}
	s.count(func(v *Stats) { v.Requests++; v.Resent += again })
	d.doubt, d.looks, d.prefix = 0, 0, false
	return s.answered(d, n, s.session.post(ctx, join(d.lines[:n]))) //nolint:contextcheck // what is put aside is put aside at the end too
}

// answered draws the consequences of Monasca's answer for the first n measurements of a batch.
func (s *Sender) answered(d *delivery, n int, a answer) time.Duration {
	switch a.verdict {
	case taken:
		s.went(d, n)
	case refused:
		return s.refused(d, n, a)
	case tooLarge:
		if n == 1 {
			return s.refused(d, n, a)
		}
		s.limit = max(n/2, 1)
		s.log.Info("batches are too large for something before Monasca: smaller ones are sent", "measurements", s.limit)
	case expired:
		if s.renewed { // a token that was just fetched is not taken either
			a.verdict = denied
			return s.denied(a)
		}
		s.session.drop()
		s.renewed = true
	case denied:
		return s.denied(a)
	case wrong:
		return s.fail(Address, s.fault(a))
	default:
		if a.lost {
			d.doubt = n
		}
		wait := s.failAfter(Retrying, s.fault(a), a.after)
		if a.lost && !s.blind {
			wait = max(wait, lookDelay)
		}
		return wait
	}
	return 0
}

// went notes that Monasca took the first n measurements.
func (s *Sender) went(d *delivery, n int) {
	s.recovered()
	s.count(func(v *Stats) { v.Sent += n; v.LastSent = time.Now() })
	s.settle(d, n)
}

// refused narrows down which of n measurements Monasca does not take, by halves, and drops it.
func (s *Sender) refused(d *delivery, n int, a answer) time.Duration {
	s.recovered()
	if d.suspect = n; n == 1 {
		s.log.Log(context.Background(), refusalLevel(d), "monasca refuses a measurement; it is dropped", "measurement", oneLine(string(d.lines[0])), "status", a.status, "reason", a.text)
		s.drop(Refused, 1)
		s.settle(d, 1)
		d.suspect = 0 // of the others nothing is known
	}
	if d.refusals++; d.refusals > manyRefused {
		return refusedWait
	}
	return 0
}

// refusalLevel is that of a log entry about a refused measurement: the first few of a batch say enough.
func refusalLevel(d *delivery) slog.Level {
	if d.refusals < manyRefused {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// settle takes measurements off a batch.
func (s *Sender) settle(d *delivery, n int) {
	d.suspect = max(d.suspect-n, 0)
	d.doubt = max(d.doubt-n, 0)
	if err := s.spool.settle(d.batch, n); err != nil {
		s.log.Warn("what was sent can't be noted in the spool; after a restart it may be sent again", "err", err)
	}
}

// denied is how long to wait after Monasca refused the user. The next try is made with another token: a new role is not in this one.
func (s *Sender) denied(a answer) time.Duration {
	f := s.fault(a)
	s.session.drop()
	return s.fail(Permission, f)
}

// fault is an answer of Monasca as an error.
func (s *Sender) fault(a answer) *fault {
	f := &fault{answer: a, at: "Monasca", who: s.session.who()}
	if s.session.client != nil {
		f.at += " at " + s.session.client.Endpoint
	}
	if a.status == 0 {
		f.err = errors.New(a.text)
	}
	return f
}

// noLogin is how long to wait after Keystone gave no token.
func (s *Sender) noLogin(err error) time.Duration {
	state, after := Retrying, time.Duration(0)
	if f, ok := errors.AsType[*fault](err); ok {
		after = f.after
		switch f.verdict {
		case badLogin:
			state = BadLogin
		case wrong:
			state = Address
		}
	}
	return s.failAfter(state, err, after)
}

func (s *Sender) fail(state State, err error) time.Duration { return s.failAfter(state, err, 0) }

// failAfter notes a fault, says it once, and returns how long to wait.
func (s *Sender) failAfter(state State, err error, after time.Duration) time.Duration {
	s.mu.Lock()
	before := s.stats.State
	s.stats.State, s.stats.Fault = state, err.Error()
	s.mu.Unlock()
	if before != state {
		s.failures = 0
	}
	s.failures++
	wait := backoff(state, s.failures, after, jitter())
	if before != state {
		s.log.Warn("nothing goes to Monasca; it is kept in the spool", "state", string(state), "err", err, "next_try", wait)
	} else {
		s.log.Debug("still nothing goes to Monasca", "state", string(state), "err", err, "next_try", wait)
	}
	return wait
}

// recovered notes that Monasca takes what is sent.
func (s *Sender) recovered() {
	s.mu.Lock()
	before := s.stats.State
	s.stats.State, s.stats.Fault = Sending, ""
	s.mu.Unlock()
	s.failures, s.renewed = 0, false
	if before != Sending && before != Idle {
		s.log.Info("monasca takes measurements again", "spooled", s.Stats().Spooled)
	}
}

func (s *Sender) count(f func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.stats)
}

// wait waits, but no longer than until the credentials file has changed, if that may help.
func (s *Sender) wait(ctx context.Context, d time.Duration) {
	end := time.Now().Add(d)
	for left := d; left > 0; left = time.Until(end) {
		t := time.NewTimer(min(left, credsPoll))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		if s.failures > 0 && s.session.reload() {
			s.log.Info("the credentials file of Monasca has changed: it is tried")
			s.failures, s.renewed, s.blind = 0, false, false
			return
		}
	}
}

// lingering is a context for one exchange with the servers: it outlives its parent by a moment, so that what was sent is answered.
func lingering(ctx context.Context, timeout time.Duration) (context.Context, func()) {
	inner, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*timeout)
	stop := context.AfterFunc(ctx, func() {
		t := time.AfterFunc(lastGrace, cancel)
		context.AfterFunc(inner, func() { t.Stop() })
	})
	return inner, func() { stop(); cancel() }
}
