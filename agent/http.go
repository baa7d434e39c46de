package agent

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Bounds of what a client may send and how long it may take.
const (
	maxBody      = 2 << 20
	smallBody    = 64 << 10
	maxHeader    = 64 << 10
	headerTime   = 10 * time.Second
	bodyTime     = 30 * time.Second
	idleTime     = 2 * time.Minute
	shutdownTime = 2 * time.Second
	maxWait      = 60 * time.Second
)

// Sockets in the run directory.
const (
	adminSocket   = "qosctl.sock"
	standinSocket = "standin.sock"
)

// server is one listener with what it serves.
type server struct {
	l   net.Listener
	srv *http.Server
}

type callerKey struct{}

// listenAll opens the admin's socket, the stand-ins' socket and the TCP address.
func (a *Agent) listenAll(ctx context.Context) ([]*server, error) {
	var list []*server
	add := func(l net.Listener, h http.Handler) { list = append(list, a.newServer(l, h)) }
	for _, s := range []struct {
		name string
		mode os.FileMode
		most gateBounds
		h    http.Handler
	}{{adminSocket, 0o660, adminBounds, a.audited(waySocket, a.socketRoutes())}, {standinSocket, 0o666, standinBounds, a.standinRoutes()}} {
		l, err := listenUnix(ctx, filepath.Join(a.cfg.RunDir, s.name), s.mode)
		if err != nil {
			return nil, errors.Join(err, closeAll(list))
		}
		add(newGate(l, s.most), s.h)
	}
	if a.cfg.Listen == "" {
		return list, nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", a.cfg.Listen)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen: %w", err), closeAll(list))
	}
	l = newGate(l, networkBounds)
	if a.front != nil {
		l = tls.NewListener(l, a.front.config())
	}
	add(l, a.withThesis(a.audited(wayNetwork, a.guard(a.adminRoutes()))))
	return list, nil
}

// newServer is a listener with what it serves, and bounds of its requests.
func (a *Agent) newServer(l net.Listener, h http.Handler) *server {
	return &server{l: l, srv: &http.Server{
		Handler: gated(h), ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug), ConnContext: withCaller,
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1 alone
	}}
}

// listenUnix listens on a socket; one left by an agent that was killed is removed, a live one's is not.
func listenUnix(ctx context.Context, path string, mode os.FileMode) (net.Listener, error) {
	ask := net.Dialer{Timeout: time.Second}
	if c, err := ask.DialContext(ctx, "unix", path); err == nil {
		_ = c.Close() // only asked whether somebody answers
		return nil, fmt.Errorf("listen on %s: another agent answers there", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove a dead socket: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(fmt.Errorf("listen: %w", err), l.Close())
	}
	return l, nil
}

func closeAll(list []*server) error {
	var errs []error
	for _, s := range list {
		errs = append(errs, s.l.Close())
	}
	return errors.Join(errs...)
}

// run serves until ctx ends. Streams that are open then are cut: stand-ins attach again.
func (s *server) run(ctx context.Context) error {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
		defer cancel()
		if s.srv.Shutdown(ctx) != nil {
			_ = s.srv.Close() // what is still open has had its time
		}
	})
	s.srv.BaseContext = func(net.Listener) context.Context { return ctx }
	err := s.srv.Serve(s.l)
	if !stop() {
		<-ended // requests that were being answered
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// withCaller notes a connection of a gate, and who is at the other end of a unix socket.
func withCaller(ctx context.Context, c net.Conn) context.Context {
	g := gateConnOf(c)
	if g != nil {
		ctx, c = context.WithValue(ctx, gateKey{}, g), g.Conn
	}
	if cred, ok := peerCred(c); ok {
		ctx = context.WithValue(ctx, callerKey{}, caller{uid: int(cred.Uid), gid: int(cred.Gid)})
	}
	return ctx
}

// readBody decodes a bounded JSON body.
func readBody(w http.ResponseWriter, r *http.Request, v any) error {
	data, leave, err := readBytes(w, r, maxBody)
	if err != nil {
		return err
	}
	defer leave()
	if err := json.Unmarshal(data, v); err != nil {
		return refuse(codeInvalid, "the body is not what this route takes: %s", err)
	}
	return nil
}

// readBytes reads a body of at most so many bytes, within bodyTime. One that is larger than smallBody needs a place, until leave is called, so that
// all together take little memory. While it is read its connection counts as one that waits for its client.
func readBytes(w http.ResponseWriter, r *http.Request, most int64) (data []byte, leave func(), err error) {
	defer waits(r.Context())()
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime)) // not every writer can: tests
	body := http.MaxBytesReader(w, r.Body, most)
	leave = func() {}
	data, err = io.ReadAll(io.LimitReader(body, smallBody))
	if err == nil && len(data) == smallBody {
		give, ok := large(r.Context())
		if !ok {
			return nil, nil, refuse(codeBusy, "too many large requests at once")
		}
		leave = give
		var rest []byte
		rest, err = io.ReadAll(body)
		data = append(data, rest...)
	}
	if err != nil {
		leave()
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, nil, refuse(codeInvalid, "the body is larger than %d bytes", most)
		}
		return nil, nil, refuse(codeInvalid, "read the body: %s", err)
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return data, leave, nil
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // the client has gone: nobody to tell
}

func answerError(w http.ResponseWriter, err error) {
	r := asRefusal(err)
	answer(w, r.body.Status, r.body)
}
