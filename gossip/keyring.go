package gossip

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/memberlist"
)

// Bounds of a key ring.
const (
	keySize     = 32 // bytes: AES-256
	maxKeys     = 16
	maxKeyring  = 64 << 10 // bytes of the file
	keyringMode = 0o600
)

// Keyring is the cluster's keys: the first one encrypts, each decrypts. A key is exchanged by adding the new one everywhere, using it
// everywhere, and removing the old one everywhere. Keys are never shown, only their fingerprints.
type Keyring struct {
	path string // "": it lives in memory only

	mu   sync.Mutex
	keys [][]byte // the primary one first
	ring *memberlist.Keyring
}

// KeyInfo is what may be shown of a key.
type KeyInfo struct {
	Fingerprint string `json:"fingerprint"`
	Primary     bool   `json:"primary"`
}

// NewKey makes a key in the form that a key ring's file has.
func NewKey() string {
	key := make([]byte, keySize)
	rand.Read(key) // never fails
	return encodeKey(key)
}

func encodeKey(key []byte) string { return base64.StdEncoding.EncodeToString(key) }

// Fingerprint is what may be shown of a key in base64 or hex.
func Fingerprint(text string) (string, error) {
	key, err := parseKey(strings.TrimSpace(text))
	if err != nil {
		return "", err
	}
	return fingerprint(key), nil
}

// NewKeyring makes a key ring from keys in base64 or hex, the primary one first. Changes are kept in memory only.
func NewKeyring(keys ...string) (*Keyring, error) {
	return newKeyring("", []byte(strings.Join(keys, "\n")))
}

// LoadKeyring reads a key ring's file: a key a line, in base64 or hex, the primary one first; empty lines and those that begin with #
// are skipped. Nobody but its owner may read it.
func LoadKeyring(path string) (*Keyring, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read key ring: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("read key ring: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("read key ring: %s is no regular file", path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("read key ring: %s may be read by others (mode %04o): chmod 0600 it, and make new keys if others may have seen these", path, info.Mode().Perm())
	case info.Size() > maxKeyring:
		return nil, fmt.Errorf("read key ring: %s has %d bytes, more than %d", path, info.Size(), maxKeyring)
	}
	text := make([]byte, info.Size())
	n, err := f.Read(text)
	if err != nil && info.Size() > 0 {
		return nil, fmt.Errorf("read key ring: %w", err)
	}
	k, err := newKeyring(path, text[:n])
	if err != nil {
		return nil, fmt.Errorf("read key ring %s: %w", path, err)
	}
	return k, nil
}

func newKeyring(path string, text []byte) (*Keyring, error) {
	keys, err := parseKeys(text)
	if err != nil {
		return nil, err
	}
	ring, err := memberlist.NewKeyring(keys[1:], keys[0])
	if err != nil {
		return nil, fmt.Errorf("make key ring: %w", err)
	}
	return &Keyring{path: path, keys: keys, ring: ring}, nil
}

// parseKeys reads the lines of a key ring. Its errors never quote a line.
func parseKeys(text []byte) ([][]byte, error) {
	var keys [][]byte
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		for _, k := range keys {
			if bytes.Equal(k, key) {
				return nil, fmt.Errorf("line %d: key %s is there twice", i+1, fingerprint(key))
			}
		}
		if keys = append(keys, key); len(keys) > maxKeys {
			return nil, fmt.Errorf("more than %d keys: remove old ones", maxKeys)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("no key in it: make one with qosctl keyring generate")
	}
	return keys, nil
}

func parseKey(s string) ([]byte, error) {
	if len(s) == hex.EncodedLen(keySize) {
		if key, err := hex.DecodeString(s); err == nil {
			return key, nil
		}
	}
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if key, err := e.Strict().DecodeString(s); err == nil && len(key) == keySize {
			return key, nil
		}
	}
	return nil, fmt.Errorf("no key of %d bytes in base64 or hex", keySize)
}

func fingerprint(key []byte) string {
	sum := sha256.Sum256(append([]byte("qosctl key\x00"), key...))
	return hex.EncodeToString(sum[:6])
}

// List shows the keys' fingerprints, the primary one first.
func (k *Keyring) List() []KeyInfo {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make([]KeyInfo, len(k.keys))
	for i, key := range k.keys {
		all[i] = KeyInfo{fingerprint(key), i == 0}
	}
	return all
}

// Primary returns the key that encrypts, for what else is derived from the one secret of the cluster. It is the caller's to keep.
func (k *Keyring) Primary() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return bytes.Clone(k.keys[0])
}

// Keys returns all keys, the primary one first, for what else is derived from them.
func (k *Keyring) Keys() [][]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make([][]byte, len(k.keys))
	for i, key := range k.keys {
		all[i] = bytes.Clone(key)
	}
	return all
}

// Add takes a further key, in base64 or hex, that decrypts from now on. It returns its fingerprint; a key that is there already is fine.
func (k *Keyring) Add(text string) (string, error) {
	key, err := parseKey(strings.TrimSpace(text))
	if err != nil {
		return "", fmt.Errorf("add key: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.find(fingerprint(key)) >= 0 {
		return fingerprint(key), nil
	}
	if len(k.keys) >= maxKeys {
		return "", fmt.Errorf("add key: there are %d already: remove old ones", maxKeys)
	}
	if err := k.change(append(slices.Clip(k.keys), key)); err != nil {
		return "", fmt.Errorf("add key: %w", err)
	}
	return fingerprint(key), k.ring.AddKey(key)
}

// Use makes a key the one that encrypts.
func (k *Keyring) Use(mark string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := k.find(mark)
	if i < 0 {
		return fmt.Errorf("use key %.40q: no such key here: add it first", mark)
	}
	next := [][]byte{k.keys[i]}
	for j, key := range k.keys {
		if j != i {
			next = append(next, key)
		}
	}
	if err := k.change(next); err != nil {
		return fmt.Errorf("use key %s: %w", mark, err)
	}
	return k.ring.UseKey(k.keys[0])
}

// Remove forgets a key; not the one that encrypts.
func (k *Keyring) Remove(mark string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := k.find(mark)
	switch {
	case i < 0:
		return nil
	case i == 0:
		return fmt.Errorf("remove key %s: it encrypts: use another one first", mark)
	}
	key := k.keys[i]
	if err := k.change(append(k.keys[:i:i], k.keys[i+1:]...)); err != nil {
		return fmt.Errorf("remove key %s: %w", mark, err)
	}
	return k.ring.RemoveKey(key)
}

func (k *Keyring) find(mark string) int {
	for i, key := range k.keys {
		if fingerprint(key) == mark {
			return i
		}
	}
	return -1
}

// change writes the file, and only then counts.
func (k *Keyring) change(keys [][]byte) error {
	if k.path != "" {
		if err := writeKeys(k.path, keys); err != nil {
			return err
		}
	}
	k.keys = keys
	return nil
}

// writeKeys replaces the file as a whole, synced.
func writeKeys(path string, keys [][]byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".keyring-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write key ring: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write key ring: %w", err), f.Close(), os.Remove(f.Name()))
		}
	}()
	var b strings.Builder
	b.WriteString("# Keys of the cluster, the one that encrypts first. Written by qosctl keyring.\n")
	for _, key := range keys {
		b.WriteString(encodeKey(key) + "\n")
	}
	if _, err = f.WriteString(b.String()); err != nil {
		return err
	}
	if err = f.Chmod(keyringMode); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("sync its directory: %w", errors.Join(err, f.Close()))
	}
	return errors.Join(dir.Sync(), dir.Close(), f.Close())
}
