package pki

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const year = 365 * 24 * time.Hour

func newDir(t *testing.T) *Dir {
	t.Helper()
	d, err := Init(filepath.Join(t.TempDir(), "tls [of *]"), "qosctl", 10*year, time.Now(), false)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// trusts says for what a certificate of the directory is good, to somebody who has the directory's ca.crt as it is in a file.
func trusts(t *testing.T, ca, cert string, use x509.ExtKeyUsage, name string) error {
	t.Helper()
	pool, err := ReadPool(ca)
	if err != nil {
		t.Fatal(err)
	}
	list, err := ReadCertificates(cert)
	if err != nil {
		t.Fatal(err)
	}
	_, err = list[0].Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{use}, DNSName: name})
	return err
}

func TestWhatIsIssuedIsGoodForItsRoleAlone(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	const client, server = x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth
	for _, c := range []struct {
		r              Request
		client, server bool
		holder         Holder
	}{
		{Request{Role: Node, Name: "Node_1.lab", DNS: []string{"host.example"}, IPs: []net.IP{net.ParseIP("192.0.2.1")}}, true, true, Holder{}},
		{Request{Role: Server, Name: "api", DNS: []string{"host.example"}}, false, true, Holder{}},
		{Request{Role: Operator, Name: "alice@example.org"}, true, false, Holder{Name: "alice@example.org", Operator: true}},
		{Request{Role: Tenant, Name: "team", Tenant: "/team a/ü"}, true, false, Holder{Name: "team", Tenant: "/team a/ü"}},
	} {
		c.r.Life = year
		p, err := d.Issue(c.r, "", time.Now(), false)
		if err != nil {
			t.Fatal(err)
		}
		cert, key := d.file(c.r.Name+".crt"), d.file(c.r.Name+".key")
		if err := trusts(t, d.file(CAFile), cert, client, ""); (err == nil) != c.client {
			t.Errorf("%s as a client: %v", c.r.Role, err)
		}
		name := ""
		if c.server {
			name = "host.example"
		}
		if err := trusts(t, d.file(CAFile), cert, server, name); (err == nil) != c.server {
			t.Errorf("%s as a server: %v", c.r.Role, err)
		}
		h, err := HolderOf(p.Cert)
		if h != c.holder || errors.Is(err, ErrNobody) != (c.holder == Holder{}) {
			t.Errorf("%s is held by %+v, %v", c.r.Role, h, err)
		}
		if got := RoleOf(p.Cert); got != c.r.Role {
			t.Errorf("a %s is taken for a %q", c.r.Role, got)
		}
		if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
			t.Error(err)
		}
		for file, mode := range map[string]os.FileMode{cert: certMode, key: keyMode, d.file(CAKeyFile): keyMode} {
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != mode {
				t.Errorf("%s: mode %v, %v", file, info.Mode(), err)
			}
		}
		before, err := os.ReadFile(key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Issue(c.r, "", time.Now(), false); !errors.Is(err, os.ErrExist) {
			t.Errorf("overwritten: %v", err)
		}
		if after, err := os.ReadFile(key); err != nil || string(after) != string(before) {
			t.Errorf("the key was changed: %v", err)
		}
		if _, err := d.Issue(c.r, "", time.Now(), true); err != nil {
			t.Errorf("by force: %v", err)
		}
	}
	files, err := os.ReadDir(d.path)
	if err != nil || slices.ContainsFunc(files, func(f os.DirEntry) bool { return strings.HasPrefix(f.Name(), ".tls-") }) {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

// A directory that certificates are to go to, and that is not there, is made, and nobody else looks into it.
func TestTheDirectoryOfACertificateIsMade(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	out := filepath.Join(t.TempDir(), "to", "team-a")
	if _, err := d.Issue(Request{Role: Tenant, Name: "team-a", Tenant: "/team-a", Life: year}, out, time.Now(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := tls.LoadX509KeyPair(filepath.Join(out, "team-a.crt"), filepath.Join(out, "team-a.key")); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
}

// What somebody else's authority may have written into a certificate opens nothing by chance.
func TestHoldersWithoutOneRoleAreNobody(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]pkix.Name{
		"no unit":             {CommonName: "x", Organization: []string{"/t"}},
		"another's unit":      {CommonName: "x", OrganizationalUnit: []string{"operator"}},
		"a node":              {CommonName: "x", OrganizationalUnit: []string{"qosctl-node"}},
		"two roles":           {CommonName: "x", OrganizationalUnit: []string{"qosctl-operator", "qosctl-tenant"}, Organization: []string{"/t"}},
		"a tenant of nothing": {CommonName: "x", OrganizationalUnit: []string{"qosctl-tenant"}},
		"a tenant of two":     {CommonName: "x", OrganizationalUnit: []string{"qosctl-tenant"}, Organization: []string{"/t", "/u"}},
		"a tenant of \"\"":    {CommonName: "x", OrganizationalUnit: []string{"qosctl-tenant"}, Organization: []string{""}},
		"upper case":          {CommonName: "x", OrganizationalUnit: []string{"QOSCTL-OPERATOR"}},
	} {
		if h, err := HolderOf(&x509.Certificate{Subject: s}); !errors.Is(err, ErrNobody) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
	serial, err := newSerial()
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "a\nb", OrganizationalUnit: []string{"qosctl-operator", "staff"}}}
	if h, err := HolderOf(c); err != nil || h.Name != Serial(c) || !h.Operator {
		t.Errorf("a name that is no text: %+v, %v", h, err)
	}
}

func TestFaultyRequestsAreRefused(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]Request{
		"name":                {Role: Operator, Name: "../x", Life: year},
		"1 to 64":             {Role: Operator, Name: strings.Repeat("x", 65), Life: year},
		"is for a node":       {Role: "king", Name: "x", Life: year},
		"no other, names":     {Role: Tenant, Name: "x", Life: year},
		"and no other":        {Role: Operator, Name: "x", Tenant: "/t", Life: year},
		"has no names":        {Role: Operator, Name: "x", DNS: []string{"a"}, Life: year},
		"needs the DNS":       {Role: Server, Name: "x", Life: year},
		"for some time":       {Role: Operator, Name: "x"},
		`"a b" is no DNS`:     {Role: Server, Name: "x", DNS: []string{"a b"}, Life: year},
		`"192.0.2.1" is no D`: {Role: Server, Name: "x", DNS: []string{"192.0.2.1"}, Life: year},
	} {
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", r, err, want)
		}
	}
	d := newDir(t)
	if _, err := d.Issue(Request{Role: Operator, Name: "ca", Life: year}, "", time.Now(), true); err == nil {
		t.Error("the authority's own files would be replaced")
	}
	p, err := d.Authority.Issue(Request{Role: Operator, Name: "x", Life: 20 * year}, time.Now())
	if err != nil || !p.Shortened() || !p.Cert.NotAfter.Equal(d.Authority.Cert.NotAfter) {
		t.Errorf("longer than the authority: %v", err)
	}
	if _, err := d.Authority.Issue(Request{Role: Operator, Name: "x", Life: year}, time.Now().Add(11*year)); err == nil {
		t.Error("an authority whose time has ended has signed")
	}
}

// While the authority is exchanged certificates of both are good to whoever has the new ca.crt; an old ca.crt knows the old ones alone.
func TestRotationKeepsTheOldUntilItIsFinished(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	issue := func(name string) {
		t.Helper()
		if _, err := d.Issue(Request{Role: Operator, Name: name, Life: year}, "", time.Now(), true); err != nil {
			t.Fatal(err)
		}
	}
	good := func(ca, name string) bool {
		return trusts(t, ca, d.file(name+".crt"), x509.ExtKeyUsageClientAuth, "") == nil
	}
	issue("a")
	if err := d.Finish(time.Now(), false); !errors.Is(err, ErrNotRotating) {
		t.Errorf("finished before it began: %v", err)
	}
	text, err := os.ReadFile(d.file(CAFile))
	if err != nil {
		t.Fatal(err)
	}
	oldCA := filepath.Join(t.TempDir(), "old.crt")
	if err := os.WriteFile(oldCA, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Rotate("qosctl", 10*year, time.Now()); err != nil {
		t.Fatal(err)
	}
	if d, err = Open(d.path); err != nil || len(d.Others) != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	issue("b")
	if !good(d.file(CAFile), "a") || !good(d.file(CAFile), "b") || !good(oldCA, "a") || good(oldCA, "b") {
		t.Error("trust while it is exchanged")
	}
	if err := d.Rotate("qosctl", year, time.Now()); !errors.Is(err, ErrRotating) {
		t.Errorf("twice: %v", err)
	}
	inUse := &InUseError{}
	if err := d.Finish(time.Now(), false); !errors.As(err, &inUse) || !slices.Equal(inUse.Names, []string{"a.crt"}) {
		t.Errorf("a is of the old one still: %v", err)
	}
	issue("a")
	if err := d.Finish(time.Now(), false); err != nil {
		t.Fatal(err)
	}
	if d, err = Open(d.path); err != nil || len(d.Others) != 0 || !good(d.file(CAFile), "a") {
		t.Errorf("%+v, %v", d, err)
	}
}

// Whatever moment a rotation was cut off at, the directory can be read, and finished.
func TestHalfARotationCanBeFinished(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	next, err := NewAuthority("qosctl", year, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	half := &Dir{path: d.path, Authority: next, Others: []*x509.Certificate{d.Authority.Cert}}
	if err := half.writeCerts(true); err != nil { // and the key was not
		t.Fatal(err)
	}
	d2, err := Open(d.path)
	if err != nil || !d2.Authority.Cert.Equal(d.Authority.Cert) {
		t.Fatalf("%v", err)
	}
	if err := errors.Join(d2.Finish(time.Now(), false), d2.Rotate("qosctl", year, time.Now())); err != nil {
		t.Error(err)
	}
}

func TestDirectoriesThatCanNotBeUsed(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	if _, err := Init(d.path, "qosctl", year, time.Now(), false); !errors.Is(err, os.ErrExist) {
		t.Errorf("an authority was replaced: %v", err)
	}
	if err := os.Chmod(d.file(CAKeyFile), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(d.path); err == nil || !strings.Contains(err.Error(), "may be read by others") {
		t.Errorf("a key for all to read: %v", err)
	}
	if err := os.WriteFile(d.file(CAKeyFile), []byte("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(d.file(CAKeyFile), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(d.path); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("no key: %v", err)
	}
	if _, err := Init(d.path, "qosctl", year, time.Now(), true); err != nil {
		t.Errorf("by force: %v", err)
	}
	if _, err := Open(d.path); err != nil {
		t.Error(err)
	}
	if _, err := Open(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty directory: %v", err)
	}
}
