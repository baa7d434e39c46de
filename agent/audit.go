package agent

import (
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// The ways in that are audited. Who comes by the socket is known by the kernel's word.
const (
	waySocket  = "socket"
	wayNetwork = "network"
	wayThesis  = "thesis"
)

// audited logs every request that may change something (of those of strangers that were refused, some), when it has been answered: who asked, by
// which way, for what, and how it was answered. Neither tokens nor bodies are in it.
func (a *Agent) audited(way string, next http.Handler) http.Handler {
	log := a.log.With("pkg", "audit")
	var strangers refused
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		begin, s := time.Now(), &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(s, r)
		level := slog.LevelInfo
		if s.status >= http.StatusBadRequest {
			level = slog.LevelWarn
		}
		who, left := s.who, int64(0)
		if who == "" && way != waySocket && s.status >= http.StatusBadRequest {
			if left = strangers.note(); left < 0 {
				return
			}
		}
		if c, ok := r.Context().Value(callerKey{}).(caller); ok {
			log.Log(r.Context(), level, "audit", "way", way, "uid", c.uid, "method", r.Method, "path", r.URL.Path, "status", s.status, "took", time.Since(begin))
			return
		}
		log.Log(r.Context(), level, "audit", "way", way, "remote", r.RemoteAddr, "token", who, "method", r.Method, "path", r.URL.Path, "status", s.status, "took", time.Since(begin), "left_out", left)
	})
}

// strangersEach is how many refusals of strangers are logged in strangersTime: nobody fills the disk with them. The others are counted.
const (
	strangersEach = 100
	strangersTime = 10 * time.Second
)

// refused counts refusals of strangers. The zero value is ready.
type refused struct {
	mu      sync.Mutex
	since   time.Time
	n, left int64
}

// note says how many have been left out before this one; -1: it is to be left out.
func (r *refused) note() (left int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.since) > strangersTime {
		r.since, r.n = now, 0
	}
	if r.n++; r.n > strangersEach {
		r.left++
		return -1
	}
	left, r.left = r.left, 0
	return left
}

// statusWriter notes how a request was answered, and to whom.
type statusWriter struct {
	http.ResponseWriter
	status int
	who    string // name of the token
}

// WriteHeader notes the status.
func (s *statusWriter) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// noteWho tells the audit whose token a request had.
func noteWho(w http.ResponseWriter, who identity) {
	if s, ok := w.(*statusWriter); ok {
		s.who = who.name
	}
}
