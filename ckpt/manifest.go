package ckpt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"qosctl/cgroup"
)

// Bounds of what is read from a checkpoint, which may come from elsewhere.
const (
	formatVersion = 1
	maxManifest   = 1 << 20
	maxFiles      = 100_000
	maxName       = 4 << 10
	maxResident   = 1 << 48 // bytes
)

// stage is how far a checkpoint's making has come.
type stage string

const (
	begun   stage = "begun"   // nothing was done to the container
	dumping stage = "dumping" // it is frozen, or CRIU is at work, or it is gone and its layer is not copied
	dumped  stage = "dumped"  // images and layer are complete
)

// plan is the file plan.json of a checkpoint that is not sealed: all that is known of it so far, and what a Keeper that finds it needs to
// end or to undo it.
type plan struct {
	State    stage         `json:"state"`
	Manifest Manifest      `json:"manifest"`          // without Files
	Group    cgroup.Group  `json:"group"`             // whose counter is read
	Limit    time.Duration `json:"limit,omitempty"`   // of the dump
	Boot     string        `json:"boot,omitempty"`    // of the machine, in which it is being made
	Written  int64         `json:"written,omitempty"` // bytes of images and layer when they were complete
}

// encode is v as it stands in its file.
func encode(v any) ([]byte, error) {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	if b = append(b, '\n'); len(b) > maxManifest {
		return nil, fmt.Errorf("%w: its description has %d bytes, more than %d", ErrRefused, len(b), maxManifest)
	}
	return b, nil
}

// decode reads one JSON value and nothing after it.
func decode(b []byte, v any) error {
	if len(b) > maxManifest {
		return fmt.Errorf("%w: more than %d bytes", ErrDamaged, maxManifest)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

// parseManifest reads a manifest and checks all that can be checked without its files.
func parseManifest(b []byte) (m Manifest, err error) {
	if err = decode(b, &m); err != nil {
		return m, err
	}
	if err = m.check(); err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return m, nil
}

// parsePlan reads a plan.
func parsePlan(b []byte) (p plan, err error) {
	if err = decode(b, &p); err != nil {
		return p, err
	}
	if err = p.Manifest.check(); err != nil {
		return plan{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if p.State != begun && p.State != dumping && p.State != dumped {
		return plan{}, fmt.Errorf("%w: state %q is none", ErrDamaged, p.State)
	}
	if p.Limit < 0 {
		return plan{}, fmt.Errorf("%w: limit %s", ErrDamaged, p.Limit)
	}
	return p, nil
}

// check finds what can't be in a manifest of ours.
func (m Manifest) check() error {
	if m.Version != formatVersion {
		return fmt.Errorf("format %d is not known, %d is", m.Version, formatVersion)
	}
	if err := m.ref().check(); err != nil {
		return err
	}
	if m.CPU < 0 || m.Counter < 0 || m.Resident < 0 || m.Bytes < 0 {
		return fmt.Errorf("a figure is negative")
	}
	if m.Container.ID == "" || len(m.Container.ID) > 128 || strings.ContainsAny(m.Container.ID, "/\x00") {
		return fmt.Errorf("%q is no container's id", m.Container.ID)
	}
	if m.Resident > maxResident {
		return fmt.Errorf("%d bytes are said to be resident", m.Resident)
	}
	for target, name := range m.Container.Volumes { // they are mounted at a restore: none that somebody has named, and no path
		if !anonymousName.MatchString(name) || !path.IsAbs(target) || path.Clean(target) != target || len(target) > maxName || strings.ContainsAny(target, ":\x00") {
			return fmt.Errorf("%.80q at %.80q is no volume without a name", name, target)
		}
	}
	return checkFiles(m.Files, m.Bytes)
}

func checkFiles(files []File, total int64) error {
	if len(files) > maxFiles {
		return fmt.Errorf("%d files, more than %d", len(files), maxFiles)
	}
	var sum int64
	for i, f := range files {
		if !ours(f.Name) {
			return fmt.Errorf("%q is no file of a checkpoint", f.Name)
		}
		if i > 0 && files[i-1].Name >= f.Name {
			return fmt.Errorf("file %q is out of order", f.Name)
		}
		if raw, err := hex.DecodeString(f.SHA256); err != nil || len(raw) != sha256.Size {
			return fmt.Errorf("file %q has no digest", f.Name)
		}
		if f.Size < 0 || f.Size > total-sum {
			return fmt.Errorf("file %q has %d bytes, more than all together", f.Name, f.Size)
		}
		sum += f.Size
	}
	if len(files) > 0 && sum != total {
		return fmt.Errorf("the files have %d bytes together, not %d", sum, total)
	}
	return nil
}

// ours says whether a checkpoint may have a file of this name.
func ours(name string) bool {
	if len(name) > maxName || !filepath.IsLocal(name) || path.Clean(name) != name || strings.ContainsRune(name, 0) {
		return false
	}
	return name == layerName || strings.HasPrefix(name, imagesName+"/") || strings.HasPrefix(name, workName+"/")
}

func (m Manifest) ref() Ref { return Ref{Job: m.Job, Sequence: m.Sequence} }

// isOf says whether the manifest is that of r.
func (m Manifest) isOf(r Ref) error {
	if m.ref() != r {
		return fmt.Errorf("%w: the manifest of %s stands in the directory of %s", ErrDamaged, m.ref(), r)
	}
	return nil
}

// digest is the SHA-256 of b in hexadecimal.
func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// sumLine is what the file beside the manifest says: sha256sum -c understands it.
func sumLine(manifest []byte) []byte { return []byte(digest(manifest) + "  " + manifestName + "\n") }

// damage makes ErrDamaged of an error of reading a file, unless the error is of this process and not of the file: what is damaged may be removed.
func damage(err error) error {
	for _, passing := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EINTR, syscall.EACCES, syscall.EPERM, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, passing) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// readManifest reads the manifest of r from its directory. All that is wrong with it is ErrDamaged; an error that passes is not.
func readManifest(d *os.Root, r Ref) (m Manifest, sum string, err error) {
	b, err := readSmall(d, manifestName, maxManifest)
	if err != nil {
		return m, "", fmt.Errorf("checkpoint %s: %w", r, damage(err))
	}
	line, err := readSmall(d, sumName, 128)
	if err != nil {
		return m, "", fmt.Errorf("checkpoint %s: %w", r, damage(err))
	}
	if !bytes.Equal(line, sumLine(b)) {
		return m, "", fmt.Errorf("checkpoint %s: %w: %s does not have the digest that %s says", r, ErrDamaged, manifestName, sumName)
	}
	if m, err = parseManifest(b); err == nil {
		err = m.isOf(r)
	}
	if err != nil {
		return Manifest{}, "", fmt.Errorf("checkpoint %s: %s: %w", r, manifestName, err)
	}
	return m, digest(b), nil
}

// readPlan reads the plan of r from its directory.
func readPlan(d *os.Root, r Ref) (p plan, err error) {
	b, err := readSmall(d, planName, maxManifest)
	if err != nil {
		return p, fmt.Errorf("checkpoint %s: %w", r, err)
	}
	if p, err = parsePlan(b); err == nil {
		err = p.Manifest.isOf(r)
	}
	if err != nil {
		return plan{}, fmt.Errorf("checkpoint %s: %s: %w", r, planName, err)
	}
	return p, nil
}

// writePlan writes the plan into its directory.
func writePlan(d *os.Root, p plan) error {
	b, err := encode(p)
	if err != nil {
		return err
	}
	return writeWhole(d, planName, b)
}
