// Package monascatest has a Monasca API and a Keystone in memory that are as strict as the real ones were seen to be. They serve tests,
// over a network or (Wire) without one, in virtual time.
package monascatest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Point is a measurement that was taken.
type Point struct {
	Name       string
	Dimensions map[string]string
	At         time.Time
	Value      float64
}

// Fault is what an exchange goes wrong with.
type Fault struct {
	Status int    // answer
	Type   string // of the body; "": application/json
	Body   string
	Header map[string]string
	Drop   bool // the connection breaks instead of an answer
	Taken  bool // but what was sent is taken before
}

// Monasca is the API: POST /v2.0/metrics and GET /v2.0/metrics/measurements.
type Monasca struct {
	// Role says what a token may do; nil: everything.
	Role func(token string) Role
	// Strict is the check of the Java API on top: of times.
	Strict bool
	// MaxBody is the size from which a proxy refuses bodies; 0: none.
	MaxBody int
	// OnPoint is told of each point that is taken, in order, instead of Points; nil: they are kept.
	OnPoint func(Point)

	mu       sync.Mutex
	fault    func(r *http.Request) *Fault
	points   []Point
	requests []string
}

// Role is what the user of a token may do.
type Role string

// The roles: an agent may send, a reader may read, a user both; a stranger has a good token and no role. Unknown is when Keystone could
// not be asked.
const (
	Unknown  Role = "?"
	Invalid  Role = ""
	Agent    Role = "monasca-agent"
	Reader   Role = "monasca-read-only-user"
	User     Role = "monasca-user"
	Stranger Role = "member"
)

// Break lets exchanges go wrong as f says, which returns nil for those that do not; nil ends it.
func (m *Monasca) Break(f func(r *http.Request) *Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = f
}

// Points are those that were taken.
func (m *Monasca) Points() []Point {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Point(nil), m.points...)
}

// Requests are the method and path of each, in order, with the answer's status.
func (m *Monasca) Requests() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.requests...)
}

// ServeHTTP answers a request.
func (m *Monasca) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := &status{ResponseWriter: w, code: http.StatusOK}
	m.mu.Lock()
	fault := m.fault
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.requests) < 10_000 {
			m.requests = append(m.requests, fmt.Sprintf("%s %s %d", r.Method, r.URL.Path, rec.code))
		}
	}()
	var f *Fault
	if fault != nil {
		f = fault(r)
	}
	if f == nil {
		m.serve(rec, r)
		return
	}
	if f.Taken {
		m.serve(&status{ResponseWriter: discard{http.Header{}}}, r)
	}
	if f.Drop {
		rec.code = 0
		panic(http.ErrAbortHandler)
	}
	f.write(rec)
}

func (f *Fault) write(w http.ResponseWriter) {
	kind := f.Type
	if kind == "" {
		kind = "application/json"
	}
	w.Header().Set("Content-Type", kind)
	for k, v := range f.Header {
		w.Header().Set(k, v)
	}
	w.WriteHeader(f.Status)
	fmt.Fprint(w, f.Body)
}

// status remembers an answer's status.
type status struct {
	http.ResponseWriter

	code int
}

// WriteHeader begins the answer.
func (s *status) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// discard is an answer that nobody gets.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

func (m *Monasca) serve(w http.ResponseWriter, r *http.Request) {
	role := User
	if m.Role != nil {
		role = m.Role(r.Header.Get("X-Auth-Token"))
	}
	if role == Invalid { // keystonemiddleware's answer
		w.Header().Set("WWW-Authenticate", `Keystone uri="http://keystone"`)
		answer(w, http.StatusUnauthorized, `{"error":{"code":401,"title":"Unauthorized","message":"The request you have made requires authentication."}}`)
		return
	}
	if role == Unknown { // likewise
		(&Fault{Status: http.StatusServiceUnavailable, Type: "text/html", Body: "The Keystone service is temporarily unavailable."}).write(w)
		return
	}
	may := map[string][]Role{http.MethodPost: {Agent, User}, http.MethodGet: {Reader, User}}[r.Method]
	switch {
	case !strings.HasPrefix(r.URL.Path, "/v2.0/"):
		answer(w, http.StatusNotFound, `{"title":"Not Found"}`)
	case !has(may, role): // the policy's, also 401
		answer(w, http.StatusUnauthorized, `{"title":"Forbidden","description":"The request does not have access to this service"}`)
	case r.Method == http.MethodPost && r.URL.Path == "/v2.0/metrics":
		m.post(w, r)
	case r.Method == http.MethodGet && r.URL.Path == "/v2.0/metrics/measurements":
		m.measurements(w, r)
	default:
		answer(w, http.StatusNotFound, `{"title":"Not Found"}`)
	}
}

func has(roles []Role, role Role) bool {
	return slices.Contains(roles, role)
}

func answer(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	fmt.Fprint(w, body)
}

// refuse is an error of the API's own.
func refuse(w http.ResponseWriter, code int, title, format string, args ...any) {
	body, _ := json.Marshal(map[string]string{"title": title, "description": fmt.Sprintf(format, args...)})
	answer(w, code, string(body))
}

// measurements answers a query for the points of one series, by all of its dimensions.
func (m *Monasca) measurements(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	start, err := time.Parse(time.RFC3339Nano, q.Get("start_time"))
	if err != nil || q.Get("name") == "" {
		refuse(w, http.StatusUnprocessableEntity, "Unprocessable Entity", "Missing start time")
		return
	}
	end, err := time.Parse(time.RFC3339Nano, q.Get("end_time"))
	if err != nil {
		end = time.Now()
	}
	want := map[string]string{}
	for pair := range strings.SplitSeq(q.Get("dimensions"), ",") {
		k, v, _ := strings.Cut(pair, ":")
		want[k] = v
	}
	rows := [][]any{}
	for _, p := range m.Points() {
		if p.Name == q.Get("name") && !p.At.Before(start) && p.At.Before(end) && covers(p.Dimensions, want) {
			rows = append(rows, []any{p.At.UTC().Format("2006-01-02T15:04:05.000Z"), p.Value, map[string]any{}})
		}
	}
	elements := []any{}
	if len(rows) > 0 {
		elements = append(elements, map[string]any{"name": q.Get("name"), "columns": []string{"timestamp", "value", "value_meta"}, "measurements": rows})
	}
	body, _ := json.Marshal(map[string]any{"links": []any{}, "elements": elements})
	answer(w, http.StatusOK, string(body))
}

func covers(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}
