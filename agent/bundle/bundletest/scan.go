// Package bundletest looks into debug bundles for tests.
package bundletest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"os"
	"path"
	"strings"
	"testing"
)

// Open reads a bundle: its files, by their names below the directory in it.
func Open(t testing.TB, file string) map[string][]byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return Read(t, f)
}

// Read is Open for a bundle that is open already.
func Read(t testing.TB, r io.Reader) map[string][]byte {
	t.Helper()
	unpacked, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for archive := tar.NewReader(unpacked); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if h.Mode != 0o600 || strings.Contains(h.Name, "..") || path.IsAbs(h.Name) {
			t.Errorf("%s has mode %o", h.Name, h.Mode)
		}
		_, name, _ := strings.Cut(h.Name, "/")
		files[name] = text
	}
}

// Scan fails the test for each planted secret that is in a text, in whatever form it may travel.
func Scan(t testing.TB, where string, text []byte, planted map[string]string) {
	t.Helper()
	for what, secret := range planted {
		quoted, err := json.Marshal(secret)
		if err != nil {
			t.Fatal(err)
		}
		for form, v := range map[string]string{
			"as it is": secret, "for JSON": strings.Trim(string(quoted), `"`), "for a URL": url.QueryEscape(secret),
			"in base64": base64.StdEncoding.EncodeToString([]byte(secret)), "in base64 of URLs": base64.RawURLEncoding.EncodeToString([]byte(secret)),
		} {
			if i := bytes.Index(text, []byte(v)); i >= 0 {
				t.Errorf("%s has %s %s: …%s…", where, what, form, text[max(0, i-60):min(len(text), i+len(v)+20)])
			}
		}
	}
}
