package peer

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"qosctl/agent/pki"
)

func TestAuthorityIsTheSameEverywhere(t *testing.T) {
	t.Parallel()
	a, err := derive(key(1))
	if err != nil {
		t.Fatal(err)
	}
	b, err := derive(key(1))
	if err != nil || !bytes.Equal(a.cert.Raw, b.cert.Raw) {
		t.Errorf("two derivations differ: %v", err)
	}
	// What other versions derive: a change of this cuts a cluster in two while it is upgraded.
	const want = "27f966948a504752"
	if a.id != want {
		t.Errorf("key 01…01 has the id %s, not %s", a.id, want)
	}
	const public = "b093bc3c0830ffad"
	if got := hex.EncodeToString(a.key.Public().(ed25519.PublicKey))[:16]; got != public {
		t.Errorf("its authority has the key %s…, not %s…", got, public)
	}
	if bytes.Contains(a.cert.Raw, key(1)) {
		t.Error("the certificate has the key in it")
	}
	c, err := derive(key(2))
	if err != nil || c.id == a.id || c.cert.Subject.String() == a.cert.Subject.String() {
		t.Errorf("another key has the same authority: %v", err)
	}
	for _, bad := range [][]byte{nil, key(1)[:31], append(key(1), 1)} {
		if _, err := derive(bad); err == nil {
			t.Errorf("a key of %d bytes", len(bad))
		}
	}
}

func TestBadIdentitiesAreRefused(t *testing.T) {
	t.Parallel()
	many := [][]byte{}
	for n := range maxKeys + 1 {
		many = append(many, key(byte(n)))
	}
	for name, o := range map[string]IdentityOptions{
		"no name":      {Keys: [][]byte{key(1)}},
		"long name":    {Node: strings.Repeat("x", 256), Keys: [][]byte{key(1)}},
		"no text":      {Node: "a\x00", Keys: [][]byte{key(1)}},
		"no keys":      {Node: "a"},
		"too many":     {Node: "a", Keys: many},
		"one twice":    {Node: "a", Keys: [][]byte{key(1), key(1)}},
		"short":        {Node: "a", Keys: [][]byte{key(1), {1}}},
		"keys, files":  {Node: "a", Keys: [][]byte{key(1)}, Files: Files{CA: "x"}},
		"missing file": {Node: "a", Files: Files{CA: "/nowhere", Cert: "/nowhere", Key: "/nowhere"}},
	} {
		if _, err := NewIdentity(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	i := identity(t, "a", key(1))
	before := i.current()
	if err := i.SetKeys(nil); err == nil || i.current() != before {
		t.Errorf("a ring without keys: %v", err)
	}
}

func TestCertificatesAreRenewedAndBearClocksThatDiffer(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		now := start
		a, err := NewIdentity(IdentityOptions{Node: "a", Keys: [][]byte{key(1)}})
		if err != nil {
			t.Fatal(err)
		}
		a.now = func() time.Time { return now }
		if err = a.SetKeys([][]byte{key(1)}); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(-int64(60*24*time.Hour), int64(60*24*time.Hour)).Draw(t, "jump")))
			c := a.current()
			skew := time.Duration(rapid.Int64Range(-int64(24*time.Hour), int64(24*time.Hour)).Draw(t, "skew"))
			names, err := c.verify([]*x509.Certificate{c.leaf.Leaf}, "", x509.ExtKeyUsageClientAuth, now.Add(skew))
			if err != nil || !slices.Equal(names, []string{"a"}) {
				t.Fatalf("at %s, seen by a clock %s off: %q %v", now, skew, names, err)
			}
		}
	})
}

func TestNamesComeBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringOfN(rapid.Rune(), 1, 60, maxName).Draw(t, "name")
		if checkName(name) != nil {
			return
		}
		u := pki.NodeURI(name)
		if got, ok := nameOf(u); !ok || got != name {
			t.Fatalf("%q came back as %q, %t (%s)", name, got, ok, u)
		}
	})
	for _, name := range []string{"a", "a/b", "..", "a%2fb", "a?b#c", "ü", "%"} {
		a, err := derive(key(1))
		if err != nil {
			t.Fatal(err)
		}
		cert, err := a.issue(name, time.Now())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := namesOf(cert.Leaf); !slices.Equal(got, []string{name}) {
			t.Errorf("%q stands in a certificate as %q", name, got)
		}
	}
}

// writeFiles writes the files of an authority.
func writeFiles(t *testing.T, dir string, a *authority, node string) Files {
	t.Helper()
	cert, err := a.issue(node, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	f := Files{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	for name, b := range map[string]*pem.Block{
		f.CA: {Type: "CERTIFICATE", Bytes: a.cert.Raw}, f.Cert: {Type: "CERTIFICATE", Bytes: cert.Certificate[0]}, f.Key: {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func TestAuthorityOfTheSite(t *testing.T) {
	t.Parallel()
	site, err := derive(key(50))
	if err != nil {
		t.Fatal(err)
	}
	fa, fb := writeFiles(t, t.TempDir(), site, "a"), writeFiles(t, t.TempDir(), site, "b")
	a, err := NewIdentity(IdentityOptions{Node: "a", Files: fa})
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewIdentity(IdentityOptions{Node: "b", Files: fb})
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, Options{Identity: b})
	if you, err := hello(t, client(t, a), s.to("b")); err != nil || you != "a" {
		t.Errorf("%q %v", you, err)
	}
	if _, err := hello(t, client(t, identity(t, "a", key(1))), s.to("b")); err == nil {
		t.Error("a cluster key does where an authority's certificate is asked for")
	}
	if _, err := NewIdentity(IdentityOptions{Node: "c", Files: fa}); err == nil || !strings.Contains(err.Error(), "node c") {
		t.Errorf("another node's certificate: %v", err)
	}
	if err := a.SetKeys([][]byte{key(1)}); err == nil {
		t.Error("keys where there are files")
	}
	// Files that were changed are read again; what can't be read changes nothing.
	clock := time.Now()
	a.now = func() time.Time { return clock }
	first := a.current()
	if err := os.WriteFile(fa.Cert, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(2 * lookAgain)
	if a.current() != first {
		t.Error("half a file was used")
	}
	writeFiles(t, filepath.Dir(fa.Cert), site, "a")
	clock = clock.Add(2 * lookAgain)
	second := a.current()
	if second.leaf == first.leaf || second.version == first.version {
		t.Error("a new certificate is not used")
	}
	writeFiles(t, filepath.Dir(fa.Cert), site, "a")
	if err := a.Reload(); err != nil || a.current().leaf == second.leaf {
		t.Errorf("told to read it: %v", err)
	}
}

// The end of a certificate that nobody renews is told, and logged once a day from two weeks before it.
func TestTheEndOfACertificateIsTold(t *testing.T) {
	t.Parallel()
	site, err := derive(key(50))
	if err != nil {
		t.Fatal(err)
	}
	log := &lines{}
	a, err := NewIdentity(IdentityOptions{Node: "a", Files: writeFiles(t, t.TempDir(), site, "a"), Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	end := a.current().leaf.Leaf.NotAfter
	clock := end.Add(-20 * 24 * time.Hour)
	a.now = func() time.Time { return clock }
	if got := a.Expires(); !got.Equal(end) || len(log.all()) != 0 {
		t.Errorf("twenty days before its end, %s: %s, logged %v", end, got, log.all())
	}
	clock = end.Add(-10 * 24 * time.Hour)
	for range 3 {
		a.current()
		clock = clock.Add(2 * lookAgain)
	}
	if got := log.all(); len(got) != 1 || !strings.Contains(got[0], "ends soon") {
		t.Errorf("ten days before its end: logged %v", got)
	}
	clock = clock.Add(pki.NoticeEvery)
	if a.current(); len(log.all()) != 2 {
		t.Errorf("a day later: logged %v", log.all())
	}
	if got := identity(t, "a", key(1)).Expires(); !got.IsZero() {
		t.Errorf("that of a key ends at %s", got)
	}
}

// otherwise is a certificate of an authority that does not know of our roles.
func otherwise(t *testing.T, a *authority, dns []string, units ...string) *tls.Certificate {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "x", OrganizationalUnit: units}, DNSNames: dns, NotBefore: caFrom, NotAfter: caUntil,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, a.cert, public, a.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private, Leaf: leaf}
}

// A certificate of another kind of authority may name a host in several ways. Whichever is the node's, it is known by that one.
func TestACertificateWithSeveralNames(t *testing.T) {
	t.Parallel()
	a := identity(t, "a", key(1))
	a.leaf = otherwise(t, a.primary, []string{"a.example.org", "a"})
	b := identity(t, "b", key(1))
	b.leaf = otherwise(t, b.primary, []string{"b.example.org", "b"})
	s := serve(t, Options{Identity: b})
	if you, err := hello(t, client(t, a), s.to("b")); err != nil || you != "a" {
		t.Errorf("%q %v", you, err)
	}
	c := identity(t, "c", key(1)) // it says so
	c.leaf = otherwise(t, c.primary, []string{"a.example.org", "a"})
	var refused *StatusError
	if you, err := hello(t, client(t, c), s.to("b")); !errors.As(err, &refused) || refused.Status != http.StatusForbidden {
		t.Errorf("who says that it is another one: %q %v", you, err)
	}
}

// Certificates that `qosctl tls` issues to others than nodes are of no use among peers, whichever hosts they name.
func TestOthersOfTheAuthorityAreNoPeers(t *testing.T) {
	t.Parallel()
	for _, unit := range []string{"qosctl-server", "qosctl-operator", "qosctl-tenant"} {
		a, b := identity(t, "a", key(1)), identity(t, "b", key(1))
		a.leaf, b.leaf = otherwise(t, a.primary, []string{"a"}, unit), otherwise(t, b.primary, []string{"b"}, unit)
		if _, err := hello(t, client(t, identity(t, "a", key(1))), serve(t, Options{Identity: b}).to("b")); !errors.Is(err, ErrRefused) {
			t.Errorf("a %s takes the place of a node: %v", unit, err)
		}
		if _, err := hello(t, client(t, a), serve(t, Options{Identity: identity(t, "b", key(1))}).to("b")); !errors.Is(err, ErrRefused) {
			t.Errorf("a %s asks as a node: %v", unit, err)
		}
	}
}

// What is no authority's is not trusted, though it stands in the file of authorities.
func TestALeafIsNoAuthority(t *testing.T) {
	t.Parallel()
	site, err := derive(key(50))
	if err != nil {
		t.Fatal(err)
	}
	f := writeFiles(t, t.TempDir(), site, "a")
	ca, err := os.ReadFile(f.CA)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := os.ReadFile(f.Cert)
	if err == nil {
		err = os.WriteFile(f.CA, append(ca, leaf...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewIdentity(IdentityOptions{Node: "a", Files: f}); err == nil || !strings.Contains(err.Error(), "no authority") {
		t.Errorf("a node's certificate among the authorities: %v", err)
	}
}
