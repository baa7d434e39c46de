package peer

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Options set a Server up. The zero value of a bound is its default.
type Options struct {
	Listen   string // host:port
	Identity *Identity
	Handler  http.Handler // asks Caller who it is
	Logger   *slog.Logger // nil: nothing is logged

	MaxConns      int           // of peers, in all; 512
	MaxHandshakes int           // under way, in all; 128
	MaxPerAddress int           // of these, of one address; 8
	HandshakeTime time.Duration // 5 s
	HeaderTime    time.Duration // 10 s
	BodyTime      time.Duration // from the headers to the last byte of a request; 60 s
	WriteTime     time.Duration // in which a piece of an answer must go out; 30 s
	IdleTime      time.Duration // between two requests; 2 min
	MaxHeader     int           // bytes; 16 KiB
	MaxBody       int64         // bytes of a request; 8 MiB
}

// defaults fills in what is not set.
func (o *Options) defaults() error {
	if o.Identity == nil || o.Handler == nil || o.Listen == "" {
		return errors.New("a server for peers needs an address, an identity and a handler")
	}
	if o.MaxConns < 0 || o.MaxHandshakes < 0 || o.MaxPerAddress < 0 || o.MaxHeader < 0 || o.MaxBody < 0 || min(o.HandshakeTime, o.HeaderTime, o.BodyTime, o.WriteTime, o.IdleTime) < 0 {
		return errors.New("a bound of a server for peers is negative")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.MaxConns, o.MaxHandshakes, o.MaxPerAddress = cmp.Or(o.MaxConns, 512), cmp.Or(o.MaxHandshakes, 128), cmp.Or(o.MaxPerAddress, 8)
	o.HandshakeTime, o.HeaderTime = cmp.Or(o.HandshakeTime, 5*time.Second), cmp.Or(o.HeaderTime, 10*time.Second)
	o.BodyTime, o.WriteTime = cmp.Or(o.BodyTime, time.Minute), cmp.Or(o.WriteTime, 30*time.Second)
	o.IdleTime, o.MaxHeader, o.MaxBody = cmp.Or(o.IdleTime, 2*time.Minute), cmp.Or(o.MaxHeader, 16<<10), cmp.Or(o.MaxBody, 8<<20)
	return nil
}

// shutdownTime is how long requests may go on after the end of Run's context.
const shutdownTime = 2 * time.Second

// Server answers peers.
type Server struct {
	o    Options
	l    *listener
	http *http.Server
	log  *slog.Logger
}

// NewServer listens; Run serves.
func NewServer(o Options) (*Server, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	raw, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for peers: %w", err)
	}
	s := &Server{o: o, log: o.Logger.With("pkg", "peer")}
	s.l = newListener(raw, o, s.log)
	s.http = &http.Server{
		Handler: s.guard(o.Handler), ReadHeaderTimeout: o.HeaderTime, IdleTimeout: o.IdleTime, MaxHeaderBytes: o.MaxHeader,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	return s, nil
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.l.Addr() }

// Close gives the address up of a server that is not run.
func (s *Server) Close() error { return s.l.Close() }

// Run serves until ctx ends, and returns when all of its goroutines have.
func (s *Server) Run(ctx context.Context) error {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = s.l.Close() // handshakes end at once
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
		defer cancel()
		if s.http.Shutdown(within) != nil {
			_ = s.http.Close() // what is still open has had its time
		}
	})
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	err := s.http.Serve(s.l)
	if !stop() {
		<-ended
	}
	err = errors.Join(err, s.l.wait())
	if ctx.Err() != nil && (errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed)) {
		return nil
	}
	return fmt.Errorf("serve peers: %w", err)
}

type (
	connKey   struct{}
	callerKey struct{}
)

// Caller is the name of the node that a request comes from.
func Caller(ctx context.Context) string {
	node, _ := ctx.Value(callerKey{}).(string)
	return node
}

// WithCaller is for tests of handlers: a context in which Caller says node.
func WithCaller(ctx context.Context, node string) context.Context {
	return context.WithValue(ctx, callerKey{}, node)
}

// guard names the caller, bounds the body, and turns away connections whose key was removed since their handshake.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tellClock(w)
		c, ok := r.Context().Value(connKey{}).(*conn)
		if !ok {
			Fail(w, http.StatusInternalServerError, "internal", "a connection that no handshake has led to")
			return
		}
		names, err := c.caller(s.o.Identity)
		if err != nil {
			s.l.refuse(c.RemoteAddr(), reasonOf(err))
			w.Header().Set("Connection", "close")
			Fail(w, http.StatusUnauthorized, "forbidden", "the key of this connection is no more in the key ring")
			return
		}
		node, ok := calledBy(names, r.Header)
		if !ok {
			Fail(w, http.StatusForbidden, "forbidden", "the certificate of this connection is not one of the node that asks")
			return
		}
		if r.Body != http.NoBody {
			rc := http.NewResponseController(w)
			if err := rc.SetReadDeadline(time.Now().Add(s.o.BodyTime)); err != nil {
				Fail(w, http.StatusInternalServerError, "internal", "a connection without deadlines")
				return
			}
			r.Body = &timedBody{ReadCloser: http.MaxBytesReader(w, r.Body, s.o.MaxBody), rc: rc}
		}
		next.ServeHTTP(w, r.WithContext(WithCaller(r.Context(), node)))
	})
}

// nameHeader says by which of its certificate's names a node asks, escaped. Older agents don't say: it is the first one then.
const nameHeader = "Qosctl-Node"

// calledBy is the node that asks; false: it says that it is one that its certificate does not name.
func calledBy(names []string, h http.Header) (node string, ok bool) {
	said := h.Get(nameHeader)
	if said == "" {
		return names[0], true
	}
	node, err := url.QueryUnescape(said)
	return node, err == nil && slices.Contains(names, node)
}

// timedBody lifts the deadline of a request's body at its end: an answer may take longer. The server's own ReadTimeout would go on, and end
// the contexts of streams.
type timedBody struct {
	io.ReadCloser
	rc *http.ResponseController
}

// Read reads the body.
func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		_ = b.rc.SetReadDeadline(time.Time{}) // it has been set before
	}
	return n, err
}

// conn is a connection of a peer.
type conn struct {
	*tls.Conn
	done    func()
	names   []string
	version uint64 // of the trust that it was last found good by; HTTP asks for one request after the other
}

// caller are the peer's names, as long as its certificate is trusted.
func (c *conn) caller(i *Identity) ([]string, error) {
	t := i.current()
	if t.version == c.version {
		return c.names, nil
	}
	names, err := t.verify(c.ConnectionState().PeerCertificates, "", x509.ExtKeyUsageClientAuth, i.now())
	if err != nil {
		return nil, err
	}
	c.names, c.version = names, t.version
	return names, nil
}

// Close ends the connection, and gives its place to another.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.done()
	return err
}
