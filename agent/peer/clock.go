package peer

import (
	"net/http"
	"strconv"
	"time"
)

// clockHeader is the server's wall clock when a request came in, in nanoseconds of Unix time.
const clockHeader = "Qosctl-Clock"

// tellClock lets a client see the server's clock.
func tellClock(w http.ResponseWriter) {
	w.Header().Set(clockHeader, strconv.FormatInt(time.Now().UnixNano(), 10))
}

// skewOf is how far a peer's clock is before ours, and how far off that may be: the request was under way from begin on, for took.
func skewOf(h http.Header, begin time.Time, took time.Duration) (skew, within time.Duration, ok bool) {
	n, err := strconv.ParseInt(h.Get(clockHeader), 10, 64)
	if err != nil {
		return 0, 0, false
	}
	return time.Unix(0, n).Sub(begin.Round(0).Add(took / 2)), took / 2, true
}
