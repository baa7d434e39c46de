package agent

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// gateBounds are of one listener's connections: in all, of one caller (an address, or a user), and of those that wait.
type gateBounds struct {
	all, each, waiting int
	perSecond          int // new ones of an address; 0: any number. A handshake costs more than a request
}

// Bounds of connections. What waits is somebody whom nobody knows yet: with most headers it takes 64 KiB. More than the stand-ins of a full node
// nobody has.
var (
	networkBounds = gateBounds{all: 512, each: 64, waiting: 384, perSecond: 100}
	adminBounds   = gateBounds{all: 1024, each: 512, waiting: 384}
	standinBounds = gateBounds{all: 8192, each: 4096, waiting: 512}
)

const (
	largeBodies = 16 // at once: with what decoding takes, less than 100 MB
	largeEach   = 8

	pieceTime = 20 * time.Second // in which a piece of an answer must go out
	pieceSize = 64 << 10
	stuckTime = 2 * time.Second // a connection whose client has not read for so long makes room for others, if there is none else
)

// gate accepts connections within bounds. It never keeps anybody waiting: when too many are open, the one that has said nothing that could be
// answered for the longest time is closed for the new one, first of the same caller's. So who asks at once is heard, however many others say
// nothing, or one byte after the other.
type gate struct {
	net.Listener
	most  gateBounds
	rates *rates  // of new connections; nil: any number
	large *shares // of bodies that are more than small

	mu      sync.Mutex
	open    map[*gateConn]struct{}
	waiting *list.List // of *gateConn, who has waited longest first
	by      map[string]*callerConns
	closed  uint64 // for others, or at once
}

// callerConns are the connections of an address, or of a user.
type callerConns struct {
	open    int
	waiting *list.List
}

func newGate(l net.Listener, most gateBounds) *gate {
	g := &gate{Listener: l, most: most, large: newShares(largeBodies, largeEach), open: map[*gateConn]struct{}{}, waiting: list.New(), by: map[string]*callerConns{}}
	if most.perSecond > 0 {
		g.rates = newRates(most.perSecond, most.all)
	}
	return g
}

// Accept returns the next connection that there is room for.
func (g *gate) Accept() (net.Conn, error) {
	for {
		raw, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		who := callerOfConn(raw)
		if g.rates == nil || g.rates.allow(who) {
			c, others := g.admit(raw, who)
			for _, o := range others {
				_ = o.Conn.Close() // it had its time
			}
			if c != nil {
				return c, nil
			}
		}
		g.mu.Lock()
		g.closed++
		g.mu.Unlock()
		_ = raw.Close() // nothing was said on it
	}
}

// admit takes a connection in; nil: there is no room. The others are to be closed.
func (g *gate) admit(raw net.Conn, who string) (c *gateConn, others []*gateConn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	mine := g.by[who]
	if mine != nil && mine.open >= g.most.each {
		o := oldest(mine.waiting)
		if o == nil {
			return nil, nil
		}
		others = append(others, g.drop(o))
	}
	for g.waiting.Len() >= g.most.waiting || len(g.open) >= g.most.all {
		o := oldest(g.waiting)
		if o == nil {
			o = g.stuck(time.Now())
		}
		if o == nil {
			return nil, others
		}
		others = append(others, g.drop(o))
	}
	if mine = g.by[who]; mine == nil {
		mine = &callerConns{waiting: list.New()}
		g.by[who] = mine
	}
	mine.open++
	c = &gateConn{Conn: raw, gate: g, who: who}
	g.open[c] = struct{}{}
	g.queue(c)
	return c, others
}

func oldest(l *list.List) *gateConn {
	if e := l.Front(); e != nil {
		return e.Value.(*gateConn)
	}
	return nil
}

// stuck is the connection whose client has not read for the longest time. The caller holds g.mu.
func (g *gate) stuck(now time.Time) (worst *gateConn) {
	for c := range g.open {
		if !c.writing.IsZero() && now.Sub(c.writing) >= stuckTime && (worst == nil || c.writing.Before(worst.writing)) {
			worst = c
		}
	}
	return worst
}

// queue puts a connection behind those that wait. The caller holds g.mu.
func (g *gate) queue(c *gateConn) {
	c.inAll, c.inMine = g.waiting.PushBack(c), g.by[c.who].waiting.PushBack(c)
}

// unqueue takes a connection from those that wait. The caller holds g.mu.
func (g *gate) unqueue(c *gateConn) {
	if c.inAll == nil {
		return
	}
	g.waiting.Remove(c.inAll)
	g.by[c.who].waiting.Remove(c.inMine)
	c.inAll, c.inMine = nil, nil
}

// drop forgets a connection, which is still to be closed. The caller holds g.mu.
func (g *gate) drop(c *gateConn) *gateConn {
	if _, ok := g.open[c]; !ok {
		return c
	}
	g.unqueue(c)
	delete(g.open, c)
	mine := g.by[c.who]
	if mine.open--; mine.open == 0 {
		delete(g.by, c.who)
	}
	g.closed++
	return c
}

// gateConn is a connection of a gate.
type gateConn struct {
	net.Conn
	gate *gate
	who  string

	inAll, inMine *list.Element // nil: a request is being answered; the gate's lock is theirs
	writing       time.Time     // since when a piece is on its way; likewise
	limited       bool          // who answers has set a time of its own; likewise
}

// serve says that a request has come in whole, as far as its headers go: the connection is not closed for others now.
func (c *gateConn) serve() {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	c.gate.unqueue(c)
}

// wait says that the connection waits for its client.
func (c *gateConn) wait() {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	if _, ok := c.gate.open[c]; ok && c.inAll == nil {
		c.gate.queue(c)
	}
}

// Close gives the connection's place to another.
func (c *gateConn) Close() error {
	g := c.gate
	g.mu.Lock()
	if _, ok := g.open[c]; ok {
		g.drop(c)
		g.closed-- // by itself
	}
	g.mu.Unlock()
	return c.Conn.Close()
}

// SetWriteDeadline sets a time for all that is written; without one each piece has its own.
func (c *gateConn) SetWriteDeadline(t time.Time) error {
	c.gate.mu.Lock()
	c.limited = !t.IsZero()
	c.gate.mu.Unlock()
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *gateConn) SetDeadline(t time.Time) error {
	if err := c.SetWriteDeadline(t); err != nil {
		return err
	}
	return c.SetReadDeadline(t)
}

// Write writes in pieces, each in its time: who does not read is not waited for.
func (c *gateConn) Write(b []byte) (n int, err error) {
	for first := true; err == nil && (first || len(b) > 0); first = false {
		piece := b[:min(len(b), pieceSize)]
		b = b[len(piece):]
		var done int
		done, err = c.piece(piece)
		n += done
	}
	return n, err
}

func (c *gateConn) piece(b []byte) (int, error) {
	now := time.Now()
	c.gate.mu.Lock()
	c.writing = now
	limited := c.limited
	c.gate.mu.Unlock()
	defer func() {
		c.gate.mu.Lock()
		c.writing = time.Time{}
		c.gate.mu.Unlock()
	}()
	if !limited {
		if err := c.Conn.SetWriteDeadline(now.Add(pieceTime)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(b)
}

// callerOfConn is the address, or the user, at the other end.
func callerOfConn(c net.Conn) string {
	if cred, ok := peerCred(c); ok {
		return "uid " + strconv.Itoa(int(cred.Uid))
	}
	return callerAt(c.RemoteAddr().String())
}

// callerAt is whom an address counts as: of version 6 everybody has 2^64 of them.
func callerAt(address string) string {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return address
	}
	ip := a.Addr().Unmap()
	if p, err := ip.Prefix(64); ip.Is6() && err == nil {
		return p.String()
	}
	return ip.String()
}

// peerCred is who made a connection to a unix socket (SO_PEERCRED).
func peerCred(c net.Conn) (*unix.Ucred, bool) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, false
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil || credErr != nil {
		return nil, false
	}
	return cred, true
}

type gateKey struct{}

// gateConnOf is the gate's connection below another one; nil: there is none.
func gateConnOf(c net.Conn) *gateConn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	g, _ := c.(*gateConn)
	return g
}

// gated tells the gate which connections have a request that is answered now.
func gated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := r.Context().Value(gateKey{}).(*gateConn)
		if c != nil {
			c.serve()
			defer c.wait()
		}
		if r.Body != http.NoBody { // also of a request that is refused: what comes behind is thrown away, and is not waited for
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime)) // not every writer can: tests
		}
		next.ServeHTTP(w, r)
	})
}

// waits has a request's connection count as one that waits for its client, until done is called: its body is read.
func waits(ctx context.Context) (done func()) {
	c, _ := ctx.Value(gateKey{}).(*gateConn)
	if c == nil {
		return func() {}
	}
	c.wait()
	return c.serve
}

// large takes a place for a body that is more than small.
func large(ctx context.Context) (leave func(), ok bool) {
	c, _ := ctx.Value(gateKey{}).(*gateConn)
	if c == nil {
		return func() {}, true
	}
	return c.gate.large.take(ctx, c.who, 0)
}
