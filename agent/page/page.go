// Package page is the agent's page for people: jobs and nodes of the cluster, and what happened to a job over time, live.
//
// It is files alone, kept in the binary: markup, style and scripts as they are served, and uPlot (uplot/, MIT), which draws. The figures come
// from the agent's API, by server-sent events. Nothing is loaded from elsewhere, and the policy that is sent with each file forbids it; all
// that is shown of a job is set as text, never as markup.
package page

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"sync"
)

//go:embed static
var files embed.FS

// policy lets the page use its own files and its agent, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// file is one of ours, as it is sent.
type file struct {
	body []byte
	kind string
	tag  string
}

// Handler serves the page at /, a job's at /jobs/{job}, and their files below /static/; next has all other requests.
func Handler(next http.Handler) http.Handler {
	all := loaded()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/static/")
		if job, ok := strings.CutPrefix(r.URL.Path, "/jobs/"); r.URL.Path == "/" || ok && job != "" && !strings.Contains(job, "/") {
			name = "index.html"
		}
		f, ok := all[name]
		if !ok || r.Method != http.MethodGet && r.Method != http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		f.serve(w, r)
	})
}

func (f file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache") // asked for each time, sent when it is another one
	h.Set("ETag", f.tag)
	if r.Header.Get("If-None-Match") == f.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", f.kind)
	if r.Method == http.MethodHead {
		return
	}
	_, _ = w.Write(f.body) // the client has gone: nobody to tell
}

// kinds are those that the page's files have; a machine's own table may differ.
var kinds = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}

// loaded are the files by name; they are hashed once.
var loaded = sync.OnceValue(load)

func load() map[string]file {
	all := map[string]file{}
	_ = fs.WalkDir(files, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		kind, ok := kinds[path.Ext(name)]
		if !ok {
			kind = mime.FormatMediaType("text/plain", map[string]string{"charset": "utf-8"})
		}
		sum := sha256.Sum256(body)
		all[strings.TrimPrefix(name, "static/")] = file{body, kind, `"` + hex.EncodeToString(sum[:12]) + `"`}
		return nil
	}) // of files in the binary: it can't fail
	return all
}
