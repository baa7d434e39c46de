package secretstest

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func zipped(t *testing.T, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tarred(t *testing.T, name string, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func packed(t *testing.T, name string, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A secret is found in each form that it may have, and nothing is found where it is not.
func TestSecretsAreFoundInAllForms(t *testing.T) {
	t.Parallel()
	s := New()
	a, b := s.Plant("a"), s.Plant("b")
	odd := []byte{0, 1, 2, 3, 250, 251, 252, 253, 62, 63, '/', '+', '&', ' '}
	s.Add("c", odd)
	s.Add("short", []byte("password"))
	for where, text := range map[string][]byte{
		"as it is":          []byte("x=" + a + "&"),
		"hexadecimal":       []byte(hex.EncodeToString([]byte("x" + a + "y"))),
		"HEXADECIMAL":       []byte(strings.ToUpper(hex.EncodeToString([]byte("x" + a + "y")))),
		"basic, 0":          []byte("Basic " + base64.StdEncoding.EncodeToString([]byte("abc"+a+":"))),
		"basic, 1":          []byte("Basic " + base64.StdEncoding.EncodeToString([]byte("user"+a))),
		"basic, 2":          []byte("Basic " + base64.URLEncoding.EncodeToString([]byte("users"+a+"xy"))),
		"gzip":              zipped(t, []byte("x"+a)),
		"tar.gz":            zipped(t, tarred(t, "x", []byte("x"+a))),
		"a file's name":     tarred(t, a, nil),
		"zip":               packed(t, "x", []byte(a)),
		"zip in tar in zip": packed(t, "x", tarred(t, "y", packed(t, "z", []byte(a)))),
		"gzip, cut off":     zipped(t, []byte(a+strings.Repeat(b[:5]+"x", 1e5)+string(odd)))[:200],
	} {
		if got := s.Find(text); !slices.Equal(got, []string{"a"}) {
			t.Errorf("%s: found %v", where, got)
		}
	}
	for where, text := range map[string][]byte{"bytes": odd, "a URL": []byte("?k=" + url.QueryEscape(string(odd))), "a path": []byte("/" + url.PathEscape(string(odd)))} {
		if got := s.Find(text); !slices.Equal(got, []string{"c"}) {
			t.Errorf("%s: found %v", where, got)
		}
	}
	for where, text := range map[string][]byte{"nothing": nil, "a part": []byte(a[:20]), "the short one": []byte("password"), "another": []byte(New().Plant("x"))} {
		if got := s.Find(text); len(got) > 0 {
			t.Errorf("%s: found %v", where, got)
		}
	}
}
