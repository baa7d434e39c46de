package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener of connections in memory.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// fromConn is a connection of somebody.
type fromConn struct {
	net.Conn
	from net.Addr
}

func (c fromConn) RemoteAddr() net.Addr { return c.from }

// dial connects from an address, and returns both ends: the client's, and the gate's, nil if it was turned away.
func (p *pipes) dial(g *gate, from string, got chan net.Conn) (client net.Conn, served *gateConn) {
	client, server := net.Pipe()
	p.conns <- fromConn{server, &net.TCPAddr{IP: net.ParseIP(from), Port: 1}}
	synctest.Wait()
	select {
	case c := <-got:
		return client, c.(*gateConn)
	default:
		return client, nil
	}
}

// gateOf is a gate that is being accepted from.
func gateOf(t *testing.T, most gateBounds) (*gate, *pipes, chan net.Conn) {
	t.Helper()
	p := newPipes()
	g, got := newGate(p, most), make(chan net.Conn, 1)
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			c, err := g.Accept()
			if err != nil {
				return
			}
			got <- c
		}
	})
	t.Cleanup(func() {
		_ = p.Close()
		wait.Wait()
	})
	return g, p, got
}

func isCut(c net.Conn) bool {
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := c.Read(make([]byte, 1))
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// Who says nothing makes room for who comes: of the same address first, then the one that has waited longest. Whose request is answered stays.
func TestWhoSaysNothingMakesRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, p, got := gateOf(t, gateBounds{all: 4, each: 2, waiting: 3})
		defer func() { _ = p.Close(); synctest.Wait() }()
		a1, _ := p.dial(g, "192.0.2.1", got)
		b1, served := p.dial(g, "192.0.2.2", got)
		served.serve()
		a2, _ := p.dial(g, "192.0.2.1", got)
		a3, _ := p.dial(g, "192.0.2.1", got) // the third of one address
		if !isCut(a1) || isCut(a2) || isCut(a3) || isCut(b1) {
			t.Error("of an address with too many connections the first is to go")
		}
		b2, second := p.dial(g, "192.0.2.2", got)
		second.serve()
		if b3, third := p.dial(g, "192.0.2.2", got); third != nil || !isCut(b3) || isCut(b1) || isCut(b2) {
			t.Error("what is answered was cut, or a third one taken")
		}
		c1, _ := p.dial(g, "192.0.2.3", got) // the fifth in all
		if !isCut(a2) || isCut(a3) || isCut(c1) {
			t.Error("in all, the one that waited longest is to go")
		}
		second.wait() // now it waits as well, behind the others
		d1, _ := p.dial(g, "192.0.2.4", got)
		if !isCut(a3) || isCut(b2) || isCut(d1) {
			t.Error("its wait began when it was answered")
		}
		for _, c := range []net.Conn{b2, c1, d1, b1} {
			_ = c.Close()
		}
		if len(g.open) != 4 || g.by["192.0.2.2"].open != 2 || g.waiting.Len() != 3 {
			t.Errorf("%d open, %d wait", len(g.open), g.waiting.Len())
		}
		for c := range g.open {
			if err := errors.Join(c.Close(), c.Close()); err != nil {
				t.Error(err)
			}
		}
		if len(g.open) != 0 || len(g.by) != 0 || g.waiting.Len() != 0 {
			t.Errorf("left: %v, %v", g.open, g.by)
		}
	})
}

// A client that does not read makes room when there is no other, and is not waited for without an end.
func TestWhoDoesNotReadMakesRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, p, got := gateOf(t, gateBounds{all: 1, each: 1, waiting: 1})
		defer func() { _ = p.Close(); synctest.Wait() }()
		_, slow := p.dial(g, "192.0.2.1", got)
		slow.serve()
		wrote := make(chan error, 1)
		var wait sync.WaitGroup
		defer wait.Wait()
		wait.Go(func() { _, err := slow.Write(make([]byte, 3*pieceSize)); wrote <- err })
		if _, c := p.dial(g, "192.0.2.2", got); c != nil {
			t.Error("cut too soon")
		}
		time.Sleep(stuckTime)
		_, next := p.dial(g, "192.0.2.2", got)
		if err := <-wrote; err == nil || next == nil {
			t.Fatalf("not cut: %v", err)
		}
		next.serve()
		begin := time.Now()
		if _, err := next.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != pieceTime {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
		if err := next.SetDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		begin = time.Now()
		if _, err := next.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("with a time of its own: %v after %s", err, time.Since(begin))
		}
		_ = next.Close()
	})
}

func TestNewConnectionsHaveARate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, p, got := gateOf(t, gateBounds{all: 8, each: 8, waiting: 8, perSecond: 1})
		defer func() { _ = p.Close(); synctest.Wait() }()
		taken := 0
		for range 20 {
			c, served := p.dial(g, "192.0.2.1", got)
			if served != nil {
				taken++
				_ = served.Close()
			}
			_ = c.Close()
		}
		if _, other := p.dial(g, "192.0.2.2", got); taken != 8 || other == nil {
			t.Errorf("%d taken; another address: %v", taken, other)
		} else {
			_ = other.Close()
		}
	})
}

func TestSharesAreFair(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShares(3, 2)
		leave, ok := s.take(t.Context(), "a", 0)
		_, ok2 := s.take(t.Context(), "a", 0)
		_, ok3 := s.take(t.Context(), "a", 0)
		_, ok4 := s.take(t.Context(), "b", 0)
		if !ok || !ok2 || ok3 || !ok4 {
			t.Fatal("two each, three in all")
		}
		if _, ok := s.take(t.Context(), "c", time.Second); ok {
			t.Error("a fourth")
		}
		time.AfterFunc(time.Second, leave)
		begin := time.Now()
		if _, ok := s.take(t.Context(), "c", time.Minute); !ok || time.Since(begin) != time.Second {
			t.Errorf("waited %s, %v", time.Since(begin), ok)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, ok := s.take(gone, "d", time.Minute); ok {
			t.Error("for one that has gone")
		}
	})
}

func TestWhoSharesAnAddress(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.1:7": "192.0.2.1", "[::ffff:192.0.2.1]:7": "192.0.2.1", "[2001:db8::1]:7": "2001:db8::/64", "[2001:db8::2]:8": "2001:db8::/64", "@": "@",
	} {
		if got := callerAt(address); got != want {
			t.Errorf("%s counts as %s, want %s", address, got, want)
		}
	}
}

// On the stand-ins' socket everybody is bounded by user, and what they send is read only while there is room.
func TestSocketsAreBoundedByUser(t *testing.T) {
	t.Parallel()
	l, err := listenUnix(t.Context(), filepath.Join(t.TempDir(), "s"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	g := newGate(l, gateBounds{all: 4, each: 2, waiting: 4})
	served := make(chan int, 1)
	srv := &http.Server{ConnContext: withCaller, ReadHeaderTimeout: time.Minute, Handler: gated(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var v any
		err := readBody(w, r, &v)
		served <- callerOf(r).uid
		if err != nil {
			answerError(w, err)
		}
	}))}
	var wait sync.WaitGroup
	wait.Go(func() { _ = srv.Serve(g) })
	defer wait.Wait()
	defer srv.Close()
	var silent []net.Conn
	for range 3 {
		c, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
	}
	if _, err := silent[0].Read(make([]byte, 1)); err == nil { // cut for the third
		t.Error("something was said")
	}
	if _, err := io.WriteString(silent[2], "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
		t.Fatal(err)
	}
	if uid := <-served; uid != os.Getuid() {
		t.Errorf("uid %d", uid)
	}
}

// So many large bodies are read at once.
func TestLargeBodiesNeedAPlace(t *testing.T) {
	t.Parallel()
	g := newGate(newPipes(), networkBounds)
	c := &gateConn{gate: g, who: "x"}
	ctx := context.WithValue(t.Context(), gateKey{}, c)
	for range largeEach {
		if _, ok := large(ctx); !ok {
			t.Fatal("no place")
		}
	}
	body := append([]byte{'"'}, make([]byte, smallBody)...)
	var v any
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", io.NopCloser(io.MultiReader(io.LimitReader(&endless{}, int64(len(body))))))
	err := readBody(httptest.NewRecorder(), r, &v)
	if ref := asRefusal(err); ref == nil || ref.body.Code != codeBusy {
		t.Errorf("a large body: %v", err)
	}
}
