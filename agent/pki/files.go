package pki

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// maxPEM bounds a file, in bytes.
const maxPEM = 1 << 20

// A certificate that ends within noticeTime is to be replaced: it is said every NoticeEvery.
const (
	noticeTime  = 14 * 24 * time.Hour
	NoticeEvery = 24 * time.Hour
)

// EndsSoon says whether a certificate that is valid until a time is to be replaced now.
func EndsSoon(until, now time.Time) bool { return until.Sub(now) < noticeTime }

// ReadFile reads a file of certificates or of a key.
func ReadFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > maxPEM {
		return nil, fmt.Errorf("%s is longer than %d bytes", name, maxPEM)
	}
	return b, nil
}

// Stamp says, by being another one, that files have changed.
func Stamp(names ...string) (string, error) {
	var b strings.Builder
	for _, name := range names {
		if name == "" {
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%d %d\n", info.Size(), info.ModTime().UnixNano())
	}
	return b.String(), nil
}

// ReadCertificates reads all certificates of a file; none is an error.
func ReadCertificates(name string) ([]*x509.Certificate, error) {
	text, err := ReadFile(name)
	if err != nil {
		return nil, err
	}
	var list []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s holds no certificate", name)
	}
	return list, nil
}

// ReadPool is a file of authorities' certificates.
func ReadPool(name string) (*x509.CertPool, error) {
	list, err := ReadCertificates(name)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range list {
		if !c.IsCA {
			return nil, fmt.Errorf("%s holds a certificate of %q, who is no authority", name, c.Subject)
		}
		pool.AddCert(c)
	}
	return pool, nil
}

// readKey reads an authority's key. One that others may read is not used.
func readKey(name string) (crypto.Signer, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s may be read by others (mode %04o): chmod 0600 it, and make a new authority if others may have seen it", name, info.Mode().Perm())
	}
	text, err := ReadFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no key", name)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s holds no key that can be read", name) // the parser's own words may say what is in it
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s holds no key that signs", name)
	}
	return signer, nil
}

const (
	keyMode  = 0o600
	certMode = 0o644 // a certificate is no secret
)

// writeFile makes a file whole or not at all. One that is there is replaced only by force.
func writeFile(name string, text []byte, mode os.FileMode, force bool) (err error) {
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, ".tls-")
	if err != nil {
		return err
	}
	defer func() {
		if rmErr := os.Remove(f.Name()); rmErr != nil && !errors.Is(rmErr, os.ErrNotExist) {
			err = errors.Join(err, rmErr)
		}
	}()
	_, err = f.Write(text)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if force {
		err = os.Rename(f.Name(), name)
	} else {
		err = os.Link(f.Name(), name) // refused if it is there
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
