package ckpt

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// Seal hashes, syncs and names what Take has taken; digest is the SHA-256 of the manifest. One that is sealed is only looked at.
func (k *Keeper) Seal(ctx context.Context, r Ref) (m Manifest, digest string, err error) {
	release, err := k.locks.sealing(ctx, r)
	if err != nil {
		return m, "", err
	}
	defer release()
	name, sealed, err := k.store.find(r)
	if err != nil {
		return m, "", err
	}
	dir, err := k.store.open(name)
	if err != nil {
		return m, "", err
	}
	defer dir.Close() //nolint:errcheck // each write was synced
	if sealed {
		return readManifest(dir, r)
	}
	if m, err = k.describe(ctx, dir, r); err != nil {
		return m, "", err
	}
	own, err := k.locks.own(ctx, r) // restores from it go on until they are done
	if err != nil {
		return m, "", err
	}
	defer own()
	if err := k.finish(r); err != nil {
		return m, "", err
	}
	b, err := encode(m)
	if err != nil {
		return m, "", err
	}
	k.log.Debug("checkpoint sealed", "checkpoint", r.String(), "bytes", m.Bytes, "files", len(m.Files))
	return m, sum(b), nil
}

// sum is digest under a name that Seal's result does not hide.
func sum(b []byte) string { return digest(b) }

// describe writes the manifest of a checkpoint whose images are complete.
func (k *Keeper) describe(ctx context.Context, dir *os.Root, r Ref) (m Manifest, err error) {
	p, err := readPlan(dir, r)
	if errors.Is(err, fs.ErrNotExist) { // it was described, and the seal was cut off before it had its name
		m, _, err = readManifest(dir, r)
		return m, err
	}
	if err != nil {
		return m, err
	}
	if p.State != dumped {
		return m, fmt.Errorf("checkpoint %s: %w: its images are not complete", r, ErrNone)
	}
	if err = k.torn(dir, p); err != nil {
		return m, err
	}
	m = p.Manifest
	if err = tidy(dir); err != nil {
		return m, err
	}
	if m.Files, m.Bytes, err = hashAll(ctx, dir, &k.pace); err != nil {
		return m, err
	}
	b, err := encode(m)
	if err != nil {
		return m, err
	}
	if err := writeWhole(dir, manifestName, b); err != nil {
		return m, err
	}
	if err := writeWhole(dir, sumName, sumLine(b)); err != nil {
		return m, err
	}
	k.step("described")
	return m, nil
}

// tidy removes from a checkpoint that is being sealed what its making has left and is no part of it: half written files, the dumping
// process' pid, links for CRIU.
func tidy(dir *os.Root) error {
	for _, d := range []string{".", workName} {
		entries, err := readDir(dir, d)
		if err != nil {
			return err
		}
		for _, e := range entries {
			half := strings.HasSuffix(e.Name(), ".tmp") && e.Type().IsRegular()
			if !half && (d == "." || e.Name() != pidName && e.Type()&fs.ModeSymlink == 0) {
				continue
			}
			if err := dir.Remove(path.Join(d, e.Name())); err != nil {
				return fmt.Errorf("clear up a checkpoint: %w", err)
			}
		}
	}
	return nil
}

// finish gives a described checkpoint its name.
func (k *Keeper) finish(r Ref) error {
	if err := k.store.root.Remove(r.partial() + "/" + planName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("seal checkpoint %s: %w", r, err)
	}
	if err := syncPath(k.store.root, r.partial()); err != nil {
		return err
	}
	k.step("planless")
	if err := k.store.root.Rename(r.partial(), r.final()); err != nil {
		return fmt.Errorf("seal checkpoint %s: %w", r, err)
	}
	return syncPath(k.store.root, r.Job)
}

// files lists the regular files of a checkpoint that its manifest describes, sorted. Anything else in it is an error.
func files(dir *os.Root, sealed bool) (list []string, err error) {
	err = fs.WalkDir(dir.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir():
			if name != "." && name != imagesName && name != workName && !strings.HasPrefix(name, imagesName+"/") && !strings.HasPrefix(name, workName+"/") {
				return fmt.Errorf("%w: directory %s is none of a checkpoint", ErrDamaged, name)
			}
			return nil
		case path.Dir(name) == "." && (name == manifestName || name == sumName || !sealed && (name == planName || name == fetchName)):
			return nil
		case !e.Type().IsRegular() || !ours(name):
			return fmt.Errorf("%w: %s is no file of a checkpoint", ErrDamaged, name)
		}
		if list = append(list, name); len(list) > maxFiles {
			return fmt.Errorf("%w: more than %d files", ErrDamaged, maxFiles)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the files of a checkpoint: %w", err)
	}
	slices.Sort(list)
	return list, nil
}

// hashAll reads all files of a checkpoint. With a pace it is sealed: they are made durable, at that pace.
func hashAll(ctx context.Context, dir *os.Root, p *pace) (list []File, total int64, err error) {
	names, err := files(dir, p == nil)
	if err != nil {
		return nil, 0, err
	}
	for _, name := range names {
		f, err := hashFile(ctx, dir, name, p)
		if err != nil {
			return nil, 0, err
		}
		list = append(list, f)
		total += f.Size
	}
	if p != nil {
		if err := syncDirs(dir, names); err != nil {
			return nil, 0, err
		}
	}
	return list, total, nil
}

// syncDirs makes the names of files durable.
func syncDirs(dir *os.Root, names []string) error {
	dirs := map[string]bool{".": true, imagesName: true, workName: true}
	for _, name := range names {
		for d := path.Dir(name); d != "."; d = path.Dir(d) {
			dirs[d] = true
		}
	}
	for d := range dirs {
		if err := syncPath(dir, d); err != nil {
			return err
		}
	}
	return nil
}

func hashFile(ctx context.Context, dir *os.Root, name string, p *pace) (out File, err error) {
	f, _, err := openFile(dir, name)
	if err != nil {
		return out, fmt.Errorf("read %s: %w", name, err)
	}
	defer f.Close() //nolint:errcheck // only read
	h := sha256.New()
	n, err := io.CopyBuffer(h, &bound{ctx, f, p}, make([]byte, 256<<10))
	if err != nil {
		return out, damage(fmt.Errorf("read %s: %w", name, err))
	}
	if p != nil {
		if err := p.sync(ctx, f); err != nil {
			return out, err
		}
	}
	return File{Name: name, Size: n, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

// bound ends a reading with its context, and keeps to a pace if there is one.
type bound struct {
	ctx  context.Context //nolint:containedctx // as long as one copy
	r    io.Reader
	pace *pace
}

func (b *bound) Read(p []byte) (int, error) {
	err := b.ctx.Err()
	if b.pace != nil {
		err = b.pace.wait(b.ctx)
	}
	if err != nil {
		return 0, err
	}
	return b.r.Read(p)
}

// Verify reads a sealed checkpoint whole and compares it with its manifest: ErrDamaged names the file.
func (k *Keeper) Verify(ctx context.Context, r Ref) (Manifest, error) {
	release, err := k.locks.share(ctx, r)
	if err != nil {
		return Manifest{}, err
	}
	defer release()
	name, sealed, err := k.store.find(r)
	if err != nil {
		return Manifest{}, err
	}
	if !sealed {
		return Manifest{}, fmt.Errorf("checkpoint %s: %w: it is not sealed yet", r, ErrBusy)
	}
	dir, err := k.store.open(name)
	if err != nil {
		return Manifest{}, err
	}
	defer dir.Close() //nolint:errcheck // only read
	return verify(ctx, dir, r)
}

func verify(ctx context.Context, dir *os.Root, r Ref) (Manifest, error) {
	m, _, err := readManifest(dir, r)
	if err != nil {
		return m, err
	}
	has, _, err := hashAll(ctx, dir, nil)
	if err != nil {
		return m, fmt.Errorf("checkpoint %s: %w", r, err)
	}
	for i, f := range m.Files {
		switch {
		case i >= len(has) || has[i].Name > f.Name:
			return m, fmt.Errorf("checkpoint %s: %w: file %s is missing", r, ErrDamaged, f.Name)
		case has[i].Name < f.Name:
			return m, fmt.Errorf("checkpoint %s: %w: file %s is not in the manifest", r, ErrDamaged, has[i].Name)
		case has[i] != f:
			return m, fmt.Errorf("checkpoint %s: %w: file %s is not what was written", r, ErrDamaged, f.Name)
		}
	}
	if len(has) > len(m.Files) {
		return m, fmt.Errorf("checkpoint %s: %w: file %s is not in the manifest", r, ErrDamaged, has[len(m.Files)].Name)
	}
	return m, nil
}
