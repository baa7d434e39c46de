package agent

import (
	"bufio"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"qosctl/agent/api"
)

// Bounds of scrapes: at once, of these of one address, and in which the client must have read the page.
const (
	mostScrapes = 8
	eachScrapes = 3
	scrapeTime  = 10 * time.Second
)

// metricsPage serves /metrics: what client_golang collects, then the jobs. It is Prometheus' text format, whatever is asked for.
func (a *Agent) metricsPage() http.Handler { return a.metricsOf(a.shownAt) }

// metricsOf is metricsPage with the jobs that it is given.
func (a *Agent) metricsOf(jobs func(time.Time) []shown) http.Handler {
	own := promhttp.HandlerFor(a.metrics.registry, promhttp.HandlerOpts{DisableCompression: true})
	families, turns := jobFamilies(), newShares(mostScrapes, eachScrapes)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leave, ok := turns.take(r.Context(), callerAt(r.RemoteAddr), 0)
		if !ok {
			answer(w, http.StatusServiceUnavailable, api.Error{Status: http.StatusServiceUnavailable, Code: codeConflict, Text: "too many scrapes at once"})
			return
		}
		defer leave()
		defer limited(w, scrapeTime)()
		plain := r.Clone(r.Context())
		plain.Header.Del("Accept") // text
		page, closePage := zipped(w, r)
		out := bufio.NewWriterSize(page, 32<<10)
		own.ServeHTTP(&headed{ResponseWriter: w, body: out}, plain)
		writeJobs(out, families, jobs(time.Now()))
		_ = out.Flush() // the client has gone: nobody to tell
		_ = closePage() // likewise
	})
}

// headed lets a handler write its headers at once, and its body elsewhere.
type headed struct {
	http.ResponseWriter
	body io.Writer
}

// Write writes a part of the body.
func (h *headed) Write(b []byte) (int, error) { return h.body.Write(b) }

// zipped compresses for a client that takes it. The fastest level: a page shrinks to a twentieth by it already.
func zipped(w http.ResponseWriter, r *http.Request) (io.Writer, func() error) {
	if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		return w, func() error { return nil }
	}
	w.Header().Set("Content-Encoding", "gzip")
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil { // the level is a constant
		z = gzip.NewWriter(w)
	}
	return z, z.Close
}
