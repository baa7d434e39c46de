package page

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, method, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	Handler(http.NotFoundHandler()).ServeHTTP(w, r)
	return w
}

func TestEachFileIsServedUnderTheStrictPolicy(t *testing.T) {
	t.Parallel()
	paths := map[string]string{"/": "text/html", "/jobs/0000000a-0000-4000-8000-00000000000a": "text/html", "/jobs/%2Fa%2Fb": "text/html"}
	for name := range load() {
		kind := "text/javascript"
		switch {
		case strings.HasSuffix(name, ".html"):
			kind = "text/html"
		case strings.HasSuffix(name, ".css"):
			kind = "text/css"
		case strings.HasSuffix(name, ".svg"):
			kind = "image/svg+xml"
		case strings.HasSuffix(name, "LICENSE"):
			kind = "text/plain"
		}
		paths["/static/"+name] = kind
	}
	delete(paths, "/jobs/%2Fa%2Fb") // decoded it has slashes: jobs are linked by id
	for path, kind := range paths {
		w := get(t, http.MethodGet, path)
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), kind) || w.Body.Len() == 0 {
			t.Errorf("%s: %d, %s", path, w.Code, w.Header().Get("Content-Type"))
		}
		if got := w.Header().Get("Content-Security-Policy"); got != policy || strings.Contains(got, "unsafe") || strings.Contains(got, "http") {
			t.Errorf("%s: policy %q", path, got)
		}
		if w.Header().Get("X-Content-Type-Options") != "nosniff" || w.Header().Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: headers %v", path, w.Header())
		}
		again := get(t, http.MethodGet, path, "If-None-Match", w.Header().Get("ETag"))
		if again.Code != http.StatusNotModified || again.Body.Len() > 0 {
			t.Errorf("%s again: %d with %d bytes", path, again.Code, again.Body.Len())
		}
		if head := get(t, http.MethodHead, path); head.Code != http.StatusOK || head.Body.Len() > 0 {
			t.Errorf("HEAD %s: %d with %d bytes", path, head.Code, head.Body.Len())
		}
	}
}

func TestWhatIsNotThePageIsSomebodyElses(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/v1/none", "/static/", "/static/none.js", "/static/../page.go", "/jobs/", "/jobs/a/b", "/index.html"} {
		if w := get(t, http.MethodGet, path); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if w := get(t, http.MethodPost, "/"); w.Code != http.StatusNotFound {
		t.Errorf("POST /: %d", w.Code)
	}
}

// TestNothingIsInlineOrFromElsewhere: what the policy would block is not there, and nothing is set as markup.
func TestNothingIsInlineOrFromElsewhere(t *testing.T) {
	t.Parallel()
	forbidden := map[string]*regexp.Regexp{
		".html": regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|<script(>| type="module">)|javascript:|(src|href)="(https?:)?//`),
		".css":  regexp.MustCompile(`(?i)@import|url\((["']?)(https?:)?//`),
		".js":   regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|createContextualFragment|setHTML|import\(["'](https?:)?//`),
	}
	err := fs.WalkDir(files, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := files.ReadFile(name)
		for suffix, pattern := range forbidden {
			if hit := pattern.FindString(string(text)); strings.HasSuffix(name, suffix) && hit != "" {
				t.Errorf("%s has %q", name, hit)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestUPlotIsAsItWasPublished: version 1.6.32 of npm.
func TestUPlotIsAsItWasPublished(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f", "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04", "LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
	} {
		b, err := files.ReadFile("static/uplot/" + name)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("%s: SHA-256 %s, want %s", name, got, want)
		}
	}
}
