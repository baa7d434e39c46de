package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Files of an authority's directory.
const (
	CAFile    = "ca.crt" // whom to trust: the authority that issues, and, during an exchange, the other one
	CAKeyFile = "ca.key"
)

// ErrRotating says that an exchange of the authority is under way, ErrNotRotating that none is.
var (
	ErrRotating    = errors.New("the authority is being exchanged already")
	ErrNotRotating = errors.New("the authority is not being exchanged")
)

// InUseError says that certificates of the old authority are still there.
type InUseError struct{ Names []string }

// Error names them.
func (e *InUseError) Error() string {
	return "certificates of the old authority are still in the directory: " + strings.Join(e.Names, ", ")
}

// Dir is an authority's directory.
type Dir struct {
	path      string
	Authority *Authority          // that issues
	Others    []*x509.Certificate // that are trusted too
}

// Init makes a directory with a new authority. One that is there is replaced only by force: all that it has signed is worth nothing then.
func Init(path, name string, life time.Duration, now time.Time, force bool) (*Dir, error) {
	if life <= 0 {
		return nil, fmt.Errorf("an authority must be valid for some time (got %s)", life)
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, err
	}
	d := &Dir{path: path}
	for _, f := range []string{CAFile, CAKeyFile} {
		if _, err := os.Lstat(d.file(f)); err == nil && !force {
			return nil, fmt.Errorf("%s: %w", d.file(f), os.ErrExist)
		}
	}
	a, err := NewAuthority(name, life, now)
	if err != nil {
		return nil, err
	}
	d.Authority = a
	return d, d.write(force)
}

// Open reads a directory.
func Open(path string) (*Dir, error) {
	d := &Dir{path: path}
	certs, err := ReadCertificates(d.file(CAFile))
	if err != nil {
		return nil, err
	}
	key, err := readKey(d.file(CAKeyFile))
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.file(CAKeyFile), err)
	}
	for _, c := range certs {
		if d.Authority == nil && c.IsCA && bytes.Equal(c.RawSubjectPublicKeyInfo, public) {
			d.Authority = &Authority{Cert: c, key: key}
			continue
		}
		d.Others = append(d.Others, c)
	}
	if d.Authority == nil {
		return nil, fmt.Errorf("%s is the key of none of the authorities in %s", d.file(CAKeyFile), d.file(CAFile))
	}
	return d, nil
}

func (d *Dir) file(name string) string { return filepath.Join(d.path, name) }

// write writes the certificates first: whatever happens in between, the key is that of one of them.
func (d *Dir) write(force bool) error {
	key, err := keyPEM(d.Authority.key)
	if err != nil {
		return fmt.Errorf("write the authority's key: %w", err)
	}
	if err := d.writeCerts(force); err != nil {
		return err
	}
	return writeFile(d.file(CAKeyFile), key, keyMode, force)
}

func (d *Dir) writeCerts(force bool) error {
	text := certPEM(d.Authority.Cert)
	for _, c := range d.Others {
		text = append(text, certPEM(c)...)
	}
	return writeFile(d.file(CAFile), text, certMode, force)
}

// Issue makes NAME.crt and NAME.key in a directory ("": the authority's own; one that is not there is made, for nobody else to look into), with
// the authority's certificate nowhere in them.
func (d *Dir) Issue(r Request, out string, now time.Time, force bool) (*Pair, error) {
	if r.Name+".crt" == CAFile {
		return nil, fmt.Errorf("the name %q is the authority's own", r.Name)
	}
	p, err := d.Authority.Issue(r, now)
	if err != nil {
		return nil, err
	}
	if out == "" {
		out = d.path
	} else if err := os.MkdirAll(out, 0o700); err != nil {
		return nil, err
	}
	cert, key := filepath.Join(out, r.Name+".crt"), filepath.Join(out, r.Name+".key")
	for _, f := range []string{cert, key} {
		if _, err := os.Lstat(f); err == nil && !force {
			return nil, fmt.Errorf("%s: %w", f, os.ErrExist)
		}
	}
	if err := writeFile(key, p.KeyPEM, keyMode, force); err != nil {
		return nil, err
	}
	return p, writeFile(cert, p.CertPEM, certMode, force)
}

// Rotate puts a new authority before the old one, which is trusted on, and issues nothing more.
func (d *Dir) Rotate(name string, life time.Duration, now time.Time) error {
	if len(d.Others) > 0 {
		return ErrRotating
	}
	if life <= 0 {
		return fmt.Errorf("an authority must be valid for some time (got %s)", life)
	}
	a, err := NewAuthority(name, life, now)
	if err != nil {
		return err
	}
	d.Authority, d.Others = a, []*x509.Certificate{d.Authority.Cert}
	return d.write(true)
}

// Finish forgets the old authority. While certificates that it issued are in the directory, that takes force.
func (d *Dir) Finish(now time.Time, force bool) error {
	if len(d.Others) == 0 {
		return ErrNotRotating
	}
	left, err := d.issuedBy(d.Others, now)
	if err != nil {
		return err
	}
	if len(left) > 0 && !force {
		return &InUseError{left}
	}
	d.Others = nil
	return d.writeCerts(true)
}

// issuedBy names the certificates in the directory that are valid and signed by one of these.
func (d *Dir) issuedBy(authorities []*x509.Certificate, now time.Time) ([]string, error) {
	files, err := os.ReadDir(d.path) // no pattern: the path may have what patterns are made of
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".crt") || f.Name() == CAFile {
			continue
		}
		list, err := ReadCertificates(d.file(f.Name()))
		if err != nil || now.After(list[0].NotAfter) {
			continue // a file of somebody else's is no certificate of ours
		}
		if slices.ContainsFunc(authorities, func(a *x509.Certificate) bool { return list[0].CheckSignatureFrom(a) == nil }) {
			names = append(names, f.Name())
		}
	}
	return names, nil
}
