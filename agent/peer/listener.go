package peer

import (
	"container/list"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"sync"
	"time"
)

// listener accepts connections, does their handshakes, and hands on those of peers.
type listener struct {
	net.Listener
	o     Options
	log   *slog.Logger
	ready chan *conn
	quit  chan struct{}
	stop  func()
	wg    sync.WaitGroup
	start sync.Once
	err   error // why accepting ended; after quit

	mu      sync.Mutex
	pending map[string]int // handshakes by address
	shaking *list.List     // of *handshake, who has begun first first
	conns   int
	refused refusals
	stats   Stats
}

// Stats count what came since the start.
type Stats struct {
	Conns     int               // open now
	Handshake uint64            // that led to a peer
	Refused   map[string]uint64 // by reason; all reasons are there
}

func newListener(raw net.Listener, o Options, log *slog.Logger) *listener {
	l := &listener{Listener: raw, o: o, log: log, ready: make(chan *conn), quit: make(chan struct{}), pending: map[string]int{}, shaking: list.New()}
	l.stop = sync.OnceFunc(func() { close(l.quit) })
	l.stats.Refused = map[string]uint64{}
	for _, r := range reasons() {
		l.stats.Refused[r] = 0
	}
	return l
}

// Accept waits for a peer.
func (l *listener) Accept() (net.Conn, error) {
	l.start.Do(func() { l.wg.Go(l.accept) })
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.quit:
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.err != nil {
			return nil, l.err
		}
		return nil, net.ErrClosed
	}
}

// Close ends accepting, and the handshakes that are under way.
func (l *listener) Close() error {
	l.stop()
	if err := l.Listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// wait ends accepting, and waits for the listener's goroutines.
func (l *listener) wait() error {
	err := l.Close()
	l.wg.Wait()
	return err
}

// accept takes connections from the kernel. When it can't for a moment, for want of file descriptors, it waits and goes on.
func (l *listener) accept() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l.wg.Go(func() {
		<-l.quit
		cancel()
	})
	wait := time.Duration(0)
	for {
		raw, err := l.Listener.Accept()
		if err == nil {
			wait = 0
			l.admit(ctx, raw)
			continue
		}
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			l.fail(err)
			return
		}
		wait = min(max(5*time.Millisecond, 2*wait), time.Second)
		l.log.Warn("accept a connection", "err", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

func (l *listener) fail(err error) {
	l.mu.Lock()
	l.err = err
	l.mu.Unlock()
	l.stop()
}

// admit begins a handshake, if there is a place for it.
func (l *listener) admit(ctx context.Context, raw net.Conn) {
	h, oldest := l.begin(raw)
	if oldest != nil {
		_ = oldest.raw.Close() // it had its time, and ends by that
	}
	if h == nil {
		l.refuse(raw.RemoteAddr(), reasonMany)
		_ = raw.Close() // nothing was said on it
		return
	}
	l.wg.Go(func() {
		c := l.shake(ctx, h)
		l.mu.Lock()
		l.end(h)
		l.mu.Unlock()
		if c == nil {
			return
		}
		select {
		case l.ready <- c:
		case <-l.quit:
			_ = c.Close() // nothing was said on it
		}
	})
}

// handshake is one that is under way.
type handshake struct {
	raw   net.Conn
	from  string
	place *list.Element // in listener.shaking; nil: it has none any more. The listener's lock is its
}

// begin takes a place for a handshake; nil: its address has too many. When too many are under way in all, the one that was begun first has to
// make room: however many strangers say nothing, a peer, who does at once, gets in.
func (l *listener) begin(raw net.Conn) (h, oldest *handshake) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h = &handshake{raw: raw, from: source(raw.RemoteAddr())}
	if l.pending[h.from] >= l.o.MaxPerAddress {
		return nil, nil
	}
	if l.shaking.Len() >= l.o.MaxHandshakes {
		oldest = l.shaking.Front().Value.(*handshake)
		l.end(oldest)
	}
	l.pending[h.from]++
	h.place = l.shaking.PushBack(h)
	return h, oldest
}

// end gives a handshake's place back. The caller holds l.mu.
func (l *listener) end(h *handshake) {
	if h.place == nil {
		return
	}
	l.shaking.Remove(h.place)
	h.place = nil
	if l.pending[h.from]--; l.pending[h.from] == 0 {
		delete(l.pending, h.from)
	}
}

// crowdedOut says whether a handshake had to make room for another one.
func (l *listener) crowdedOut(h *handshake) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return h.place == nil
}

// shake does a handshake; nil: it is over.
func (l *listener) shake(ctx context.Context, h *handshake) *conn {
	raw := h.raw
	within, cancel := context.WithTimeout(ctx, l.o.HandshakeTime)
	defer cancel()
	t := l.o.Identity.current()
	c := &conn{Conn: tls.Server(&timedConn{Conn: raw, write: l.o.WriteTime}, l.o.Identity.server())}
	err := c.HandshakeContext(within)
	if err == nil {
		c.names, err = t.verify(c.ConnectionState().PeerCertificates, "", x509.ExtKeyUsageClientAuth, l.o.Identity.now())
		c.version = t.version
	}
	reason := ""
	switch {
	case err != nil && l.crowdedOut(h):
		reason = reasonMany
	case err != nil && within.Err() != nil && ctx.Err() == nil:
		reason = reasonTime
	case err != nil:
		reason = reasonOf(err)
	case !l.enter():
		reason = reasonMany
	}
	if reason == "" {
		c.done = sync.OnceFunc(l.leave)
		return c
	}
	if ctx.Err() == nil {
		l.refuse(raw.RemoteAddr(), reason)
		hear(raw, l.o.HandshakeTime)
	}
	_ = raw.Close() // it was refused
	return nil
}

// hear lets a refused side read why: a connection closed with something unread in it is reset, and the alert lost.
func hear(raw net.Conn, most time.Duration) {
	t, ok := raw.(*net.TCPConn)
	if !ok || t.CloseWrite() != nil || raw.SetReadDeadline(time.Now().Add(min(most, time.Second))) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, raw, 64<<10) // whatever it says is of no interest
}

func (l *listener) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns >= l.o.MaxConns {
		return false
	}
	l.conns++
	l.stats.Handshake++
	return true
}

func (l *listener) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns--
}

// refuse counts a refusal, and logs it if it is news.
func (l *listener) refuse(from net.Addr, reason string) {
	l.mu.Lock()
	l.stats.Refused[reason]++
	news, more := l.refused.note(source(from), time.Now())
	l.mu.Unlock()
	switch {
	case news:
		l.log.Warn("a connection to the peers' address was refused; it is logged once an hour for an address", "address", source(from), "reason", reason)
	case more:
		l.log.Warn("connections from many more addresses are refused; they are only counted for an hour", "reason", reason)
	}
}

// Stats are the counts of now.
func (s *Server) Stats() Stats {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	out := Stats{Conns: s.l.conns, Handshake: s.l.stats.Handshake, Refused: make(map[string]uint64, len(s.l.stats.Refused))}
	maps.Copy(out.Refused, s.l.stats.Refused)
	return out
}

// source is whom an address counts as: of version 6 everybody has 2^64 of them.
func source(a net.Addr) string {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	ip := at.Addr().Unmap()
	if p, err := ip.Prefix(64); ip.Is6() && err == nil {
		return p.String()
	}
	return ip.String()
}

// timedConn gives each piece that is written its time: who doesn't read holds nobody up.
type timedConn struct {
	net.Conn
	write time.Duration
}

// Write writes within the connection's time.
func (c *timedConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.write)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
