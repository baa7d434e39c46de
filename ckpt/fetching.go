package ckpt

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"sync/atomic"
)

const (
	fetchExt  = ".fetch"     // a checkpoint of another node that is not whole
	fetchName = "fetch.json" // in it: of what
)

func (r Ref) fetch() string { return r.final() + fetchExt }

// fetchPlan is the file fetch.json.
type fetchPlan struct {
	Digest string `json:"digest"` // of the manifest
	Node   string `json:"node"`   // that fetches it
}

// fetching is a checkpoint that comes in.
type fetching struct {
	k    *Keeper
	o    FetchOptions
	ref  Ref
	name string
	dir  *os.Root

	m        Manifest
	known    bool     // the manifest is here, with its files' space
	at       Position // all before it is on disk; what is before its file is verified
	verified int64    // bytes before at
	file     *os.File // at.File
	hash     hash.Hash
	again    map[int]bool // files that were fetched twice
	tries    int
	wire     atomic.Int64
}

// openFetch takes up what a former Fetch has left of the same checkpoint, or begins anew.
func (k *Keeper) openFetch(ctx context.Context, r Ref, o FetchOptions) (*fetching, error) {
	if err := k.store.known(r); err != nil {
		return nil, err
	}
	f := &fetching{k: k, o: o, ref: r, name: r.fetch(), again: map[int]bool{}}
	if k.store.isDir(f.name) {
		err := f.resume(ctx)
		if err == nil {
			return f, nil
		}
		f.close()
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		k.log.Debug("what is left of a fetch is of no use", "checkpoint", r.String(), "err", err)
		if err := k.store.remove(f.name); err != nil {
			return nil, err
		}
		f = &fetching{k: k, o: o, ref: r, name: r.fetch(), again: map[int]bool{}}
	}
	if err := f.lay(); err != nil {
		f.close()
		return nil, errors.Join(err, k.store.root.RemoveAll(f.name))
	}
	return f, nil
}

// lay makes the directory.
func (f *fetching) lay() (err error) {
	if err = f.k.store.root.Mkdir(f.name, 0o700); err != nil {
		return err
	}
	if f.dir, err = f.k.store.open(f.name); err != nil {
		return err
	}
	for _, sub := range []string{imagesName, workName} {
		if err = f.dir.Mkdir(sub, 0o700); err != nil {
			return err
		}
	}
	b, err := encode(fetchPlan{Digest: f.o.Digest, Node: f.k.o.Node})
	if err != nil {
		return err
	}
	return writeWhole(f.dir, fetchName, b)
}

// readFetchPlan reads fetch.json.
func readFetchPlan(d *os.Root) (p fetchPlan, err error) {
	b, err := readSmall(d, fetchName, 4<<10)
	if err != nil {
		return p, err
	}
	return p, decode(b, &p)
}

// resume finds out how much of the checkpoint is on disk. Files before the position are read and verified; of the one at it the prefix is
// taken as it is, and its digest tells in the end.
func (f *fetching) resume(ctx context.Context) (err error) {
	if f.dir, err = f.k.store.open(f.name); err != nil {
		return err
	}
	p, err := readFetchPlan(f.dir)
	if err != nil {
		return err
	}
	if p.Digest != f.o.Digest {
		return fmt.Errorf("%w: it is of another checkpoint", ErrDamaged)
	}
	b, err := readSmall(f.dir, manifestName, maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it had just begun
	}
	if err != nil {
		return err
	}
	if err := f.accept(ctx, b); err != nil {
		return err
	}
	for f.at.File < len(f.m.Files) {
		want := f.m.Files[f.at.File]
		fi, err := f.dir.Lstat(want.Name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if !fi.Mode().IsRegular() || fi.Size() > want.Size {
			return fmt.Errorf("%w: %s is not what was written", ErrDamaged, want.Name)
		}
		if err := f.takeUp(ctx, want, fi.Size()); err != nil {
			if errors.Is(err, errWire) {
				return nil // it is fetched again
			}
			return err
		}
		if f.at.Offset > 0 || f.file != nil {
			return nil // the rest comes
		}
	}
	return nil
}

// takeUp hashes what is here of the file at the position; a whole one is done.
func (f *fetching) takeUp(ctx context.Context, want File, size int64) error {
	if err := f.begin(want, false); err != nil {
		return err
	}
	n, err := io.CopyBuffer(f.hash, &bound{ctx, io.LimitReader(f.file, size), nil}, make([]byte, chunkSize))
	if err != nil {
		return err
	}
	f.at.Offset, f.verified = n, f.verified+n
	if n < want.Size {
		return nil
	}
	return f.whole(ctx, want)
}

// accept takes a manifest that was sent, and the space for its files.
func (f *fetching) accept(ctx context.Context, b []byte) error {
	if digest(b) != f.o.Digest {
		return fmt.Errorf("%w: its manifest is not the one that was asked for", ErrDamaged)
	}
	if f.known {
		return nil
	}
	m, err := parseManifest(b)
	if err == nil {
		err = m.isOf(f.ref)
	}
	if err == nil && len(m.Files) == 0 {
		err = fmt.Errorf("%w: it has no files", ErrDamaged)
	}
	if err != nil {
		return err
	}
	if f.o.MaxBytes > 0 && m.Bytes > f.o.MaxBytes {
		return fmt.Errorf("%w: it has %s, and %s are allowed", ErrSpace, mib(m.Bytes), mib(f.o.MaxBytes))
	}
	have, err := bytesIn(ctx, f.dir)
	if err == nil {
		err = f.k.room(ctx, max(0, m.Bytes-have)+int64(len(b))+slack)
	}
	if err != nil {
		return err
	}
	if err := writeWhole(f.dir, manifestName, b); err != nil {
		return fmt.Errorf("%w: %w", errLocal, err)
	}
	f.m, f.known = m, true
	return nil
}

// begin opens the file at the position; fresh: there is nothing of it yet, or nothing that counts.
func (f *fetching) begin(want File, fresh bool) error {
	if d := path.Dir(want.Name); d != "." {
		if err := f.dir.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("%w: %w", errLocal, err)
		}
	}
	flags := os.O_RDWR | os.O_CREATE
	if fresh {
		flags |= os.O_TRUNC
	}
	file, err := f.dir.OpenFile(want.Name, flags, 0o600)
	if err != nil {
		return fmt.Errorf("%w: %w", errLocal, err)
	}
	f.file, f.hash = file, sha256.New()
	return nil
}

// whole ends the file at the position: it is as long as it should be, and must be what the manifest says.
func (f *fetching) whole(ctx context.Context, want File) error {
	if got := hex.EncodeToString(f.hash.Sum(nil)); got != want.SHA256 {
		return f.spoilt(want)
	}
	err := f.file.Truncate(want.Size) // zeros at its end were not written
	if err == nil {
		err = f.k.pace.sync(ctx, f.file)
	}
	if err = errors.Join(err, f.file.Close()); err != nil {
		f.file = nil
		return fmt.Errorf("%w: %w", errLocal, err)
	}
	f.file = nil
	f.at = Position{File: f.at.File + 1}
	return nil
}

// spoilt throws the file at the position away. Once it is fetched again: what a crash has left may be at fault, not the source.
func (f *fetching) spoilt(want File) error {
	err := errors.Join(f.file.Close(), f.dir.Remove(want.Name))
	f.file = nil
	f.verified -= f.at.Offset
	f.at.Offset = 0
	if err != nil {
		return fmt.Errorf("%w: %w", errLocal, err)
	}
	if f.again[f.at.File] {
		return fmt.Errorf("%w: file %s is not what its manifest says, twice", ErrDamaged, want.Name)
	}
	f.again[f.at.File] = true
	return fmt.Errorf("%w: file %s is not what its manifest says", errWire, want.Name)
}

// finish gives a checkpoint that is whole its name.
func (f *fetching) finish(ctx context.Context) error {
	err := tidy(f.dir)
	if err == nil {
		err = f.exact()
	}
	if err != nil {
		return err
	}
	b, err := readSmall(f.dir, manifestName, maxManifest)
	if err != nil {
		return err
	}
	if digest(b) != f.o.Digest {
		return fmt.Errorf("%w: its manifest was changed on this node", ErrDamaged)
	}
	names := make([]string, 0, len(f.m.Files))
	for _, file := range f.m.Files {
		names = append(names, file.Name)
	}
	if err := syncDirs(f.dir, names); err != nil {
		return err
	}
	if err := writeWhole(f.dir, sumName, sumLine(b)); err != nil {
		return err
	}
	f.k.step("durable")
	if err := f.dir.Remove(fetchName); err != nil { // what is found without it is whole
		return err
	}
	if err := syncPath(f.dir, "."); err != nil {
		return err
	}
	f.k.step("fetched")
	own, err := f.k.locks.own(ctx, f.ref)
	if err != nil {
		return err
	}
	defer own()
	if err := f.k.store.root.Rename(f.name, f.ref.final()); err != nil {
		if m, herr := f.k.alreadyHere(f.ref, f.o.Digest); herr == nil && m != nil { //nolint:contextcheck // a look at the disk. Another node was faster, in a shared directory
			return f.k.store.remove(f.name)
		}
		return err
	}
	return syncPath(f.k.store.root, f.ref.Job)
}

// exact makes sure that the directory has the files of the manifest and no others.
func (f *fetching) exact() error {
	plan, err := f.dir.Lstat(fetchName)
	if err != nil || !plan.Mode().IsRegular() {
		return fmt.Errorf("%w: %s was removed", ErrDamaged, fetchName)
	}
	has, err := files(f.dir, false)
	if err != nil {
		return err
	}
	for n, name := range has {
		if n >= len(f.m.Files) || f.m.Files[n].Name != name {
			return fmt.Errorf("%w: file %s is not in the manifest", ErrDamaged, name)
		}
	}
	if len(has) != len(f.m.Files) {
		return fmt.Errorf("%w: %d of %d files are here", ErrDamaged, len(has), len(f.m.Files))
	}
	return nil
}

func (f *fetching) close() {
	if f.file != nil {
		_ = f.file.Close() // not whole: the next fetch reads it again
		f.file = nil
	}
	if f.dir != nil {
		_ = f.dir.Close() // each write was synced
	}
}
