package monasca

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// Defaults of Options.
const (
	DefaultTimeout  = 10 * time.Second
	DefaultMaxBytes = 256 << 20
	DefaultMaxAge   = 72 * time.Hour
	DefaultBatch    = 1000
)

// LongestAge is the greatest Options.MaxAge: Monasca's Java API refuses what is older than 14 days.
const LongestAge = 13 * 24 * time.Hour

// LeastBytes is the least Options.MaxBytes.
const LeastBytes = 1 << 20

// maxQueue bounds the measurements that wait for the spool.
const maxQueue = 1 << 16

// Options are what a Sender is made of.
type Options struct {
	Dir         string            // of the spool
	Credentials string            // path of the credentials file; read again before each token
	URL         string            // Monasca's address; "": the credentials file's, else that of Keystone's catalogue
	Region      string            // of the catalogue; "": any
	CAFile      string            // PEM; "": the system's
	Timeout     time.Duration     // of one request, its answer included; 0: DefaultTimeout
	MaxBytes    int64             // of the spool; 0: DefaultMaxBytes
	MaxAge      time.Duration     // of a measurement that is sent; 0: DefaultMaxAge
	Batch       int               // measurements in one request; 0: DefaultBatch
	Logger      *slog.Logger      // nil: nothing is logged
	Transport   http.RoundTripper // nil: the network
}

// check fills in what is left out, and names every fault.
func (o *Options) check() error {
	o.Timeout = orDefault(o.Timeout, DefaultTimeout)
	o.MaxBytes = orDefault(o.MaxBytes, DefaultMaxBytes)
	o.MaxAge = orDefault(o.MaxAge, DefaultMaxAge)
	o.Batch = orDefault(o.Batch, DefaultBatch)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(o.Dir != "", "a directory for the spool must be given")
	check(o.Credentials != "", "a credentials file must be given")
	check(o.Timeout > 0, "timeout must be > 0 (got %s)", o.Timeout)
	check(o.MaxBytes >= LeastBytes, "the spool must be allowed at least %d bytes (got %d)", LeastBytes, o.MaxBytes)
	check(o.MaxAge > 0 && o.MaxAge <= LongestAge, "the greatest age must be > 0 and at most %s (got %s)", LongestAge, o.MaxAge)
	check(o.Batch > 0 && o.Batch <= DefaultBatch, "a batch must have 1 to %d measurements (got %d)", DefaultBatch, o.Batch)
	if o.URL != "" {
		u, err := cleanURL(o.URL, "/metrics", "/v2.0")
		check(err == nil, "url: %w", err)
		o.URL = u
	}
	return errors.Join(errs...)
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Sender brings measurements to Monasca.
type Sender struct {
	o       Options
	log     *slog.Logger
	spool   *spool
	session *session
	offered chan struct{} // has something when there is something in the queue

	mu      sync.Mutex
	queue   []Measurement
	storing bool  // what was in the queue is on its way to the spool
	stats   Stats // its counters and state

	// Of the goroutine that sends:
	limit    int // measurements in a request: less than Batch after a 413
	failures int // in a row, in the present state
	renewed  bool
	blind    bool // this user may not look up what arrived
}

// New opens the spool and reads the credentials. It connects to nobody.
func New(o Options) (*Sender, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("monasca: %w", err)
	}
	creds, err := LoadCredentials(o.Credentials)
	if err != nil {
		return nil, err
	}
	client, err := newHTTP(o)
	if err != nil {
		return nil, fmt.Errorf("monasca: %w", err)
	}
	log := o.Logger.With("pkg", "monasca")
	spool, err := openSpool(o.Dir, o.MaxBytes, log)
	if err != nil {
		return nil, fmt.Errorf("monasca: %w", err)
	}
	s := &Sender{o: o, log: log, spool: spool, offered: make(chan struct{}, 1), limit: o.Batch}
	s.session = &session{http: client, override: o.URL, region: o.Region, creds: creds, load: s.loadCredentials}
	s.stats = Stats{State: Idle, Dropped: make(map[Reason]int)}
	return s, nil
}

// Offer hands measurements over. It never waits: what the queue has no room for is dropped and counted.
func (s *Sender) Offer(list []Measurement) {
	s.mu.Lock()
	room := max(maxQueue-len(s.queue), 0)
	if n := len(list) - room; n > 0 {
		s.stats.Dropped[QueueFull] += n
		list = list[:room]
	}
	s.queue = append(s.queue, list...)
	s.mu.Unlock()
	select {
	case s.offered <- struct{}{}:
	default:
	}
}

// Stored says whether all that was offered is on the disk, as far as it was not dropped: an agent that is killed now loses none of it.
func (s *Sender) Stored() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue) == 0 && !s.storing && s.stats.DiskFault == ""
}

// Run writes what is offered to the spool and sends it, until ctx ends. What was offered by then is in the spool; a request that is
// under way is given a moment to be answered.
func (s *Sender) Run(ctx context.Context) error {
	var writer sync.WaitGroup
	writer.Go(func() { s.write(ctx) })
	s.send(ctx)
	writer.Wait()
	s.store() //nolint:contextcheck // what was offered is kept at the end too
	s.session.http.CloseIdleConnections()
	if err := s.spool.close(); err != nil {
		return fmt.Errorf("monasca: %w", err)
	}
	return nil
}

// diskRetry is how often a disk is tried again that took nothing.
const diskRetry = 10 * time.Second

// write moves measurements from the queue to the spool.
func (s *Sender) write(ctx context.Context) {
	retry := time.NewTicker(diskRetry)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.offered:
			s.store() //nolint:contextcheck // what was offered is kept at the end too
		case <-retry.C:
			s.disk(s.spool.retry())
		}
	}
}

// store writes what is in the queue to the spool.
func (s *Sender) store() {
	s.mu.Lock()
	list := s.queue
	s.queue, s.storing = nil, true
	s.mu.Unlock()
	now := time.Now()
	cutoff := now.Add(-s.o.MaxAge)
	var errs []error
	for len(list) > 0 {
		n := min(len(list), s.o.Batch)
		var lines [][]byte
		oldest, newest := now.UnixMilli(), cutoff.UnixMilli()
		for _, m := range list[:n] {
			line, err := m.encode(now)
			switch {
			case err != nil:
				s.invalid(err)
			case m.At.Before(cutoff):
				s.drop(Expired, 1)
			default:
				lines = append(lines, line)
				oldest, newest = min(oldest, m.At.UnixMilli()), max(newest, min(m.At.UnixMilli(), now.UnixMilli()))
			}
		}
		if list = list[n:]; len(lines) > 0 {
			errs = append(errs, s.spool.append(lines, oldest, newest))
		}
	}
	s.disk(errors.Join(append(errs, s.spool.sync())...))
}

// invalid drops a measurement by our own check; the first one is said loudly.
func (s *Sender) invalid(err error) {
	level := slog.LevelDebug
	if s.drop(Invalid, 1) == 1 {
		level = slog.LevelWarn
	}
	s.log.Log(context.Background(), level, "a measurement is not sent", "err", err)
}

// disk says once that the spool can't be written, and once that it can again.
func (s *Sender) disk(err error) {
	s.mu.Lock()
	before := s.stats.DiskFault
	s.stats.DiskFault = ""
	if err != nil {
		s.stats.DiskFault = oneLine(err.Error())
	}
	s.storing = false
	now := s.stats.DiskFault
	s.mu.Unlock()
	switch {
	case before == "" && now != "":
		s.log.Error("the spool of Monasca can't be written; a few megabytes are kept in memory", "err", err)
	case before != "" && now == "":
		s.log.Info("the spool of Monasca can be written again")
	}
}

// drop counts measurements that Monasca does not get, and returns how many there were for this reason in all.
func (s *Sender) drop(why Reason, n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Dropped[why] += n
	return s.stats.Dropped[why]
}

// loadCredentials reads the credentials file again; it may be being replaced right now.
func (s *Sender) loadCredentials() (Credentials, bool) {
	c, err := LoadCredentials(s.o.Credentials)
	if err != nil {
		s.log.Warn("the credentials of Monasca are used as they were", "err", err)
		return Credentials{}, false
	}
	return c, true
}
