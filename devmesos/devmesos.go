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
	"qosctl/devmesos/node"
)

// Server is a development scheduler.
type Server struct {
	o         Options
	log       *slog.Logger
	lock      *os.File
	node      *node.Node
	marathon  *marathon.Scheduler
	chronos   *chronos.Scheduler
	faults    *faults
	listeners [3]net.Listener // marathon, chronos, mesos
}

// New opens the listeners and the directory, ends what a former life left running, and loads its apps and jobs. Run must follow.
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
	if err := s.openDir(); err != nil {
		return nil, err
	}
	for i, addr := range []string{o.Marathon, o.Chronos, o.Mesos} {
		if s.listeners[i], err = net.Listen("tcp", addr); err != nil {
			return nil, fmt.Errorf("devmesos: %w", err)
		}
	}
	n, err := node.New(node.Options{
		Hostname: o.Hostname, Attributes: o.Attributes, CPUs: o.CPUs, MemMiB: o.MemMiB, DiskMiB: 100 << 10, FirstPort: 31000, Deploy: o.Deploy,
		Dir: o.Dir, CgroupRoot: o.CgroupRoot, Proc: o.Proc, Parent: o.CgroupParent, Images: o.Images, Docker: o.Docker, Logger: s.log,
	})
	if err != nil {
		return nil, fmt.Errorf("devmesos: %w", err)
	}
	s.node = n
	leader := s.listeners[0].Addr().String()
	// the frameworks are registered with closures, since they need the node to be made and the node needs their functions
	n.Register("marathon", func(st node.Status) { s.marathon.Status(st) }, func() { s.marathon.Offer() })
	n.Register("chronos", func(st node.Status) { s.chronos.Status(st) }, func() { s.chronos.Offer() })
	s.marathon, err = marathon.New(marathon.Options{
		Cluster: n, Dir: o.Dir, Version: o.MarathonVersion, Leader: leader, FrameworkID: n.FrameworkID("marathon"), Logger: s.log,
	})
	if err != nil {
		return nil, fmt.Errorf("devmesos: %w", err)
	}
	s.chronos, err = chronos.New(chronos.Options{
		Cluster: n, Dir: o.Dir, Prefix: o.ChronosPrefix, Leader: s.listeners[1].Addr().String(), Logger: s.log,
	})
	if err != nil {
		return nil, fmt.Errorf("devmesos: %w", err)
	}
	return s, nil
}

// openDir makes the directory and locks it: two schedulers in one would end each other's tasks.
func (s *Server) openDir() error {
	if err := os.MkdirAll(s.o.Dir, 0o755); err != nil {
		return fmt.Errorf("devmesos: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(s.o.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("devmesos: %w", err)
	}
	s.lock = f
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("devmesos: %s is used by another development scheduler: %w", s.o.Dir, err)
	}
	return nil
}

func (s *Server) closeAll() {
	for _, l := range s.listeners {
		if l != nil {
			_ = l.Close() // closed already, at worst
		}
	}
	if s.lock != nil {
		// a process that is just being forked has the file open too, until its exec: closing alone would leave the lock with it
		_ = unix.Flock(int(s.lock.Fd()), unix.LOCK_UN)
		_ = s.lock.Close() // nothing was written
	}
}

// Addrs are the addresses that are listened on.
func (s *Server) Addrs() (marathon, chronos, mesos string) {
	return s.listeners[0].Addr().String(), s.listeners[1].Addr().String(), s.listeners[2].Addr().String()
}

// Run serves until ctx ends. Then it launches nothing more, ends all tasks (SIGTERM, at most 5 s of grace, SIGKILL), removes their
// cgroups, and returns when all its goroutines have ended.
func (s *Server) Run(ctx context.Context) error {
	defer s.closeAll()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		// the node outlives the frameworks, so that they don't take the end of all tasks for failures
		nodeCtx, stopNode := context.WithCancel(context.WithoutCancel(ctx))
		var n, frameworks errgroup.Group
		n.Go(func() error { return s.node.Run(nodeCtx) })
		frameworks.Go(func() error { return s.marathon.Run(ctx) })
		frameworks.Go(func() error { return s.chronos.Run(ctx) })
		err := frameworks.Wait()
		stopNode()
		return errors.Join(err, n.Wait())
	})
	names := []string{"marathon", "chronos", "mesos"}
	for i, h := range []http.Handler{s.marathon.Handler(), s.chronos.Handler(), s.node.Handler()} {
		realm := map[string]string{"marathon": "Mesosphere", "chronos": "Mesosphere", "mesos": "mesos-agent-readonly"}[names[i]]
		srv := &http.Server{
			Handler:           local(s.authenticated(realm, s.admin(s.faults.wrap(names[i], h)))),
			ReadHeaderTimeout: 10 * time.Second,
			ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		}
		g.Go(func() error {
			if err := srv.Serve(s.listeners[i]); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("devmesos: serve %s: %w", names[i], err)
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
	return g.Wait()
}

// local refuses what a web page in a browser on this machine may send: requests across origins, and those to a name that the page's
// owner has pointed at loopback.
func local(next http.Handler) http.Handler {
	next = http.NewCrossOriginProtection().Handler(next)
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
