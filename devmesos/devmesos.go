package devmesos

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"qosctl/devmesos/chronos"
	"qosctl/devmesos/marathon"
	"qosctl/devmesos/master"
	"qosctl/devmesos/node"
)

// Server is a development scheduler.
type Server struct {
	o         Options
	log       *slog.Logger
	lock      *os.File
	master    *master.Master
	nodes     []*member
	marathon  *marathon.Scheduler
	chronos   *chronos.Scheduler
	faults    *faults
	listeners [3]net.Listener // marathon, chronos, master
}

// New opens the listeners and the directory, ends what a former life's own nodes left running, and loads its apps and jobs. Run must follow.
func New(o Options) (_ *Server, err error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	s := &Server{o: o, log: o.Logger.With("pkg", "devmesos"), faults: &faults{}}
	defer func() {
		if err != nil {
			s.closeAll()
		}
	}()
	if s.lock, err = openDir(o.Dir); err != nil {
		return nil, err
	}
	for i, addr := range []string{o.Marathon, o.Chronos, o.Master} {
		if s.listeners[i], err = net.Listen("tcp", addr); err != nil {
			return nil, fmt.Errorf("devmesos: %w", err)
		}
	}
	s.master, err = master.New(master.Options{
		Dir: filepath.Join(o.Dir, "master"), PingTimeout: o.PingTimeout, Token: o.Token, NoOperators: o.NoOperators, Logger: s.log,
	})
	if err != nil {
		return nil, fmt.Errorf("devmesos: %w", err)
	}
	for _, l := range o.Nodes {
		m, err := newMember(o, l, "", s.log)
		if err != nil {
			return nil, fmt.Errorf("devmesos: %w", err)
		}
		s.nodes = append(s.nodes, m)
	}
	return s, s.frameworks()
}

// frameworks makes Marathon and Chronos. They are registered with closures, since they need the master to be made and the master needs their
// functions.
func (s *Server) frameworks() (err error) {
	m := s.master
	m.Register("marathon", true, func(st node.Status) { s.marathon.Status(st) }, func() { s.marathon.Offer() })
	m.Register("chronos", false, func(st node.Status) { s.chronos.Status(st) }, func() { s.chronos.Offer() })
	s.marathon, err = marathon.New(marathon.Options{
		Cluster: m, Dir: s.o.Dir, Version: s.o.MarathonVersion, Leader: s.listeners[0].Addr().String(), FrameworkID: m.FrameworkID("marathon"), Logger: s.log,
	})
	if err != nil {
		return fmt.Errorf("devmesos: %w", err)
	}
	s.chronos, err = chronos.New(chronos.Options{
		Cluster: m, Dir: s.o.Dir, Prefix: s.o.ChronosPrefix, Leader: s.listeners[1].Addr().String(), Logger: s.log,
	})
	if err != nil {
		return fmt.Errorf("devmesos: %w", err)
	}
	return nil
}

// openDir makes the directory and locks it: two schedulers in one would end each other's tasks.
func openDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("devmesos: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("devmesos: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // it was never ours
		return nil, fmt.Errorf("devmesos: %s is used by another development scheduler: %w", dir, err)
	}
	return f, nil
}

func (s *Server) closeAll() {
	for _, l := range s.listeners {
		if l != nil {
			_ = l.Close() // closed already, at worst
		}
	}
	for _, m := range s.nodes {
		_ = m.listener.Close() // as above
	}
	unlock(s.lock)
}

// unlock lets a directory go. A process that is just being forked has the file open too, until its exec: closing alone would leave the
// lock with it.
func unlock(f *os.File) {
	if f != nil {
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
		_ = f.Close() // nothing was written
	}
}

// Addrs are the addresses that are listened on; mesos is the first node's, "" if there is none.
func (s *Server) Addrs() (marathon, chronos, mesos string) {
	if len(s.nodes) > 0 {
		mesos = s.nodes[0].addr()
	}
	return s.listeners[0].Addr().String(), s.listeners[1].Addr().String(), mesos
}

// MasterAddr is where the Mesos master's API is.
func (s *Server) MasterAddr() string { return s.listeners[2].Addr().String() }

// NodeAddrs are where the APIs of this process' agents are.
func (s *Server) NodeAddrs() []string {
	list := make([]string, 0, len(s.nodes))
	for _, m := range s.nodes {
		list = append(list, m.addr())
	}
	return list
}

// Run serves until ctx ends. Then it launches nothing more, ends all tasks of its own nodes (SIGTERM, at most 5 s of grace, SIGKILL), removes
// their cgroups, and returns when all its goroutines have ended. Tasks of nodes of other processes run on.
func (s *Server) Run(ctx context.Context) error {
	defer s.closeAll()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		// nodes outlive the frameworks, so that these don't take the end of all tasks for failures, and the master outlives the nodes
		nodeCtx, stopNodes := context.WithCancel(context.WithoutCancel(ctx))
		masterCtx, stopMaster := context.WithCancel(context.WithoutCancel(ctx))
		var nodes, frameworks, m errgroup.Group
		m.Go(func() error { return s.master.Run(masterCtx) })
		for _, n := range s.nodes {
			nodes.Go(func() error { return n.run(nodeCtx, s.master, false) })
		}
		frameworks.Go(func() error { return s.marathon.Run(ctx) })
		frameworks.Go(func() error { return s.chronos.Run(ctx) })
		err := frameworks.Wait()
		stopNodes()
		err = errors.Join(err, nodes.Wait())
		stopMaster()
		return errors.Join(err, m.Wait())
	})
	s.serve(ctx, g, s.listeners[0], "marathon", "Mesosphere", s.marathon.Handler())
	s.serve(ctx, g, s.listeners[1], "chronos", "Mesosphere", s.chronos.Handler())
	s.serve(ctx, g, s.listeners[2], "master", "mesos-master-readwrite", s.master.Handler())
	for _, n := range s.nodes {
		s.serve(ctx, g, n.listener, "mesos", "mesos-agent-readonly", n.node.Handler())
	}
	return g.Wait()
}

// serve answers at a listener until ctx ends.
func (s *Server) serve(ctx context.Context, g *errgroup.Group, l net.Listener, name, realm string, h http.Handler) {
	wrapped := s.authenticated(realm, s.admin(s.faults.wrap(name, h)))
	if name == "master" { // nodes have a token of their own
		mux := http.NewServeMux()
		mux.Handle("POST "+node.ExchangePath, h)
		mux.Handle("/", wrapped)
		wrapped = mux
	}
	serve(ctx, g, l, guard(wrapped, s.o.Open), s.log)
}

// serve answers at a listener until ctx ends.
func serve(ctx context.Context, g *errgroup.Group, l net.Listener, h http.Handler, log *slog.Logger) {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	g.Go(func() error {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("devmesos: serve at %s: %w", l.Addr(), err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(stop) != nil { // a stream or a slow request is still open
			return srv.Close()
		}
		return nil
	})
}

// guard refuses what a web page in a browser on this machine may send: requests across origins, and those to a name that the page's
// owner has pointed at loopback. Where others may reach it, the latter can't be told.
func guard(next http.Handler, open bool) http.Handler {
	next = http.NewCrossOriginProtection().Handler(next)
	if open {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if ip := net.ParseIP(strings.Trim(host, "[]")); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, "the development scheduler answers to loopback addresses and localhost only", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// authenticated asks for the credentials, if there are any. Both are hashed so that the comparison tells nothing of their length.
func (s *Server) authenticated(realm string, next http.Handler) http.Handler {
	if s.o.HTTPCredentials == "" {
		return next
	}
	user, password, _ := strings.Cut(s.o.HTTPCredentials, ":")
	same := func(a, b string) bool {
		x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
		return subtle.ConstantTimeCompare(x[:], y[:]) == 1
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, p, ok := r.BasicAuth()
		if !same(u, user) || !same(p, password) || !ok {
			unauthorized(w, realm)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// unauthorized is Jetty's answer: HTML, no JSON.
func unauthorized(w http.ResponseWriter, realm string) {
	w.Header().Set("WWW-Authenticate", `Basic realm="`+realm+`"`)
	w.Header().Set("Content-Type", "text/html;charset=iso-8859-1")
	w.WriteHeader(http.StatusUnauthorized)
	fmt.Fprint(w, "<html><head><title>Error 401 Unauthorized</title></head><body><h2>HTTP ERROR 401</h2></body></html>\n")
}
