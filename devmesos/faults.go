package devmesos

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"sync"
	"time"
)

// Fault is a misbehaviour that can be switched on for the next requests to one of the APIs.
type Fault struct {
	ID     int    `json:"id,omitempty"`
	Target string `json:"target"`           // marathon, chronos, mesos (the agents), master
	Kind   string `json:"kind"`             // one of faultKinds
	Count  int    `json:"count,omitempty"`  // requests that are hit; 0: until cleared
	Method string `json:"method,omitempty"` // "": all
	Path   string `json:"path,omitempty"`   // regular expression; "": all
	Delay  string `json:"delay,omitempty"`  // of kind slow: "2s"

	path  *regexp.Regexp
	delay time.Duration
}

// The kinds: an answer of that status instead of the request's; "html": 200 with a page; "lost": the request is carried out, but the
// connection is cut before the answer; "slow": it waits first; "drop": the connection is cut, nothing is done; "noleader" and "standby": Marathon has
// lost its leader, or is another's stand-by; so with the master, whose stand-by redirects with 307.
var (
	faultKinds   = []string{"500", "503", "422", "409", "401", "403", "html", "lost", "slow", "drop", "noleader", "standby"}
	faultTargets = []string{"marathon", "chronos", "mesos", "master"}
)

func (f *Fault) compile() (err error) {
	if !slices.Contains(faultTargets, f.Target) {
		return fmt.Errorf("target: want one of %v (got %q)", faultTargets, f.Target)
	}
	if !slices.Contains(faultKinds, f.Kind) {
		return fmt.Errorf("kind: want one of %v (got %q)", faultKinds, f.Kind)
	}
	if f.Count < 0 {
		return fmt.Errorf("count: must be >= 0 (got %d)", f.Count)
	}
	if f.path, err = regexp.Compile(f.Path); err != nil {
		return fmt.Errorf("path: %w", err)
	}
	f.delay = 2 * time.Second
	if f.Delay != "" {
		if f.delay, err = time.ParseDuration(f.Delay); err != nil || f.delay < 0 {
			return fmt.Errorf("delay: want a duration with a unit (got %q)", f.Delay)
		}
	}
	return nil
}

// faults are those that are switched on.
type faults struct {
	mu   sync.Mutex
	last int
	list []*Fault
}

func (fs *faults) add(f *Fault) error {
	if err := f.compile(); err != nil {
		return err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	const most = 1000
	if len(fs.list) >= most {
		return errors.New("too many faults: clear some")
	}
	fs.last++
	f.ID = fs.last
	fs.list = append(fs.list, f)
	return nil
}

// take finds the first fault that a request meets, and uses it up.
func (fs *faults) take(target string, r *http.Request) *Fault {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for i, f := range fs.list {
		if f.Target != target || (f.Method != "" && f.Method != r.Method) || !f.path.MatchString(r.URL.Path) {
			continue
		}
		hit := *f
		if f.Count == 1 {
			fs.list = slices.Delete(fs.list, i, i+1)
		} else if f.Count > 1 {
			f.Count--
		}
		return &hit
	}
	return nil
}

// wrap puts the faults of a target before its handler.
func (fs *faults) wrap(target string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := fs.take(target, r)
		if f == nil {
			next.ServeHTTP(w, r)
			return
		}
		switch f.Kind {
		case "slow":
			t := time.NewTimer(f.delay)
			defer t.Stop()
			select {
			case <-t.C:
				next.ServeHTTP(w, r)
			case <-r.Context().Done():
			}
		case "lost":
			next.ServeHTTP(&deaf{header: http.Header{}}, r)
			panic(http.ErrAbortHandler) // cuts the connection
		case "drop":
			panic(http.ErrAbortHandler)
		case "html":
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<html><body><h1>Welcome to the proxy</h1></body></html>\n")
		case "401":
			unauthorized(w, "Mesosphere")
		case "403":
			w.WriteHeader(http.StatusForbidden)
		case "noleader":
			noLeader(w, r, target)
		case "standby":
			if target == "master" {
				w.Header().Set("Location", "//"+r.Host+r.URL.RequestURI())
				w.WriteHeader(http.StatusTemporaryRedirect)
				return
			}
			http.Redirect(w, r, "http://"+r.Host+r.URL.RequestURI(), http.StatusFound)
		default:
			answerFault(w, f.Kind)
		}
	})
}

// noLeader is what Marathon's proxy to the leader, or a master, says when there is none.
func noLeader(w http.ResponseWriter, r *http.Request, target string) {
	if target == "master" {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, "No leader elected")
		return
	}
	if r.URL.Path == "/v2/leader" {
		say(w, http.StatusNotFound, map[string]string{"message": "There is no leader"})
		return
	}
	http.Error(w, "Could not determine the current leader", http.StatusBadGateway)
}

func answerFault(w http.ResponseWriter, kind string) {
	status := map[string]int{"500": 500, "503": 503, "422": 422, "409": 409}[kind]
	body := map[string]any{"message": "fault " + kind + " switched on by /dev/faults"}
	switch kind {
	case "422":
		body = map[string]any{"message": "Object is not valid", "details": []any{map[string]any{"path": "/cpus", "errors": []string{"fault 422 switched on by /dev/faults"}}}}
	case "409":
		body = map[string]any{
			"message":     "App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'.",
			"deployments": []any{map[string]string{"id": "00000000-0000-4000-8000-000000000000"}},
		}
	}
	say(w, status, body)
}

// deaf is an answer that nobody hears.
type deaf struct{ header http.Header }

func (d *deaf) Header() http.Header         { return d.header }
func (d *deaf) Write(b []byte) (int, error) { return len(b), nil }
func (d *deaf) WriteHeader(int)             {}
