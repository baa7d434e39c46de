// Package secretstest plants secrets, and looks for them where they must not be: in answers, logs, command lines, packets and archives. Each
// is found in the forms that programs give them: as it is, in base64 at any offset, in hexadecimal digits, as part of a URL, and within what
// gzip, tar and zip have packed.
//
//	s := secretstest.New()
//	password := s.Plant("the framework's password")
//	…
//	s.Check(t, "the log", text)
package secretstest

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net/url"
	"slices"
	"sync"
	"testing"
)

const (
	deepest  = 4        // archives within archives
	maxInner = 64 << 20 // bytes of one file in an archive
	shortest = 12       // bytes of a secret: a shorter one could be found by chance
)

// Secrets are those that were planted. Its methods may be called at once.
type Secrets struct {
	mu    sync.Mutex
	names []string
	forms map[string][][]byte // by name
}

// New is without secrets.
func New() *Secrets { return &Secrets{forms: map[string][][]byte{}} }

// Plant makes a secret that nothing else looks like, 26 letters and digits, and remembers it by a name.
func (s *Secrets) Plant(name string) string {
	secret := rand.Text()
	s.Add(name, []byte(secret))
	return secret
}

// Add remembers a secret that something else has made. One that is too short to be told from chance is not looked for.
func (s *Secrets) Add(name string, secret []byte) {
	if len(secret) < shortest {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.names, name) {
		s.names = append(s.names, name)
	}
	s.forms[name] = append(s.forms[name], formsOf(secret)...)
}

// formsOf are a secret as it may be written.
func formsOf(secret []byte) [][]byte {
	list := [][]byte{secret, []byte(hex.EncodeToString(secret)), bytes.ToUpper([]byte(hex.EncodeToString(secret)))}
	if escaped := []byte(url.QueryEscape(string(secret))); !bytes.Equal(escaped, secret) {
		list = append(list, escaped, []byte(url.PathEscape(string(secret))))
	}
	for offset := range 3 { // what stands before it shifts its bits
		for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := e.EncodeToString(append(make([]byte, offset), secret...))
			list = append(list, []byte(text[(offset*8+5)/6:len(text)-1])) // without the letters that neighbours have a part in
		}
	}
	slices.SortFunc(list, bytes.Compare)
	return slices.CompactFunc(list, bytes.Equal)
}

// Find names the secrets that are in a text, or in what is packed in it.
func (s *Secrets) Find(text []byte) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[string]bool{}
	s.look(text, 0, found)
	return slices.DeleteFunc(slices.Clone(s.names), func(name string) bool { return !found[name] })
}

func (s *Secrets) look(text []byte, depth int, found map[string]bool) {
	for _, name := range s.names {
		found[name] = found[name] || slices.ContainsFunc(s.forms[name], func(form []byte) bool { return bytes.Contains(text, form) })
	}
	if depth == deepest {
		return
	}
	for _, inner := range unpack(text) {
		s.look(inner, depth+1, found)
	}
}

// unpack is what is in an archive; nothing, if a text is none, and as much as can be read of one that is cut off.
func unpack(text []byte) (inner [][]byte) {
	keep := func(r io.Reader) error {
		b, err := io.ReadAll(io.LimitReader(r, maxInner))
		inner = append(inner, b)
		return err
	}
	if z, err := gzip.NewReader(bytes.NewReader(text)); err == nil {
		_ = keep(z) // cut off
		return inner
	}
	if z, err := zip.NewReader(bytes.NewReader(text), int64(len(text))); err == nil {
		for _, f := range z.File {
			inner = append(inner, []byte(f.Name), []byte(f.Comment))
			if r, err := f.Open(); err == nil {
				_ = errors.Join(keep(r), r.Close()) // likewise
			}
		}
		return inner
	}
	for t := tar.NewReader(bytes.NewReader(text)); ; {
		h, err := t.Next()
		if err != nil {
			return inner
		}
		inner = append(inner, []byte(h.Name), []byte(h.Linkname))
		if keep(t) != nil {
			return inner
		}
	}
}

// Check fails a test for each secret that is in a text. The text is not shown: it is where the secret is.
func (s *Secrets) Check(t testing.TB, where string, text []byte) {
	t.Helper()
	for _, name := range s.Find(text) {
		t.Errorf("%s tells %s", where, name)
	}
}
