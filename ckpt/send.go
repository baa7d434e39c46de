package ckpt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/time/rate"
)

// Position is a place in the content of a checkpoint: a file of its manifest, and a byte of it.
type Position struct {
	File   int
	Offset int64
}

// SendOptions say from where on and how fast a checkpoint is sent.
type SendOptions struct {
	From Position
	Rate *rate.Limiter // of what goes out, in bytes; nil: none. It may be shared
}

// Describe says what a sealed checkpoint is; digest is the SHA-256 of its manifest. ErrBusy: it is not sealed yet.
func (k *Keeper) Describe(_ context.Context, r Ref) (m Manifest, digest string, err error) {
	name, sealed, err := k.store.find(r)
	if err != nil {
		return m, "", err
	}
	if !sealed {
		return m, "", fmt.Errorf("checkpoint %s: %w: it is not sealed yet", r, ErrBusy)
	}
	dir, err := k.store.open(name)
	if err != nil {
		return m, "", err
	}
	defer dir.Close() //nolint:errcheck // only read
	return readManifest(dir, r)
}

// Send writes a sealed checkpoint to w, for Fetch on another node: its manifest, and its files from a position on. As long as it is sent it is
// not removed. What is sent is not verified here: who fetches it does.
func (k *Keeper) Send(ctx context.Context, r Ref, w io.Writer, o SendOptions) error {
	leave, err := k.locks.share(ctx, r)
	if err != nil {
		return err
	}
	defer leave()
	name, sealed, err := k.store.find(r)
	if err != nil {
		return err
	}
	if !sealed {
		return fmt.Errorf("checkpoint %s: %w: it is not sealed yet", r, ErrBusy)
	}
	dir, err := k.store.open(name)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // only read
	m, _, err := readManifest(dir, r)
	if err != nil {
		return err
	}
	if err := o.From.check(m); err != nil {
		return fmt.Errorf("checkpoint %s: %w", r, err)
	}
	e, err := newEncoder(&limitedWriter{ctx: ctx, w: w, rate: o.Rate})
	if err != nil {
		return err
	}
	defer e.close()
	if err := sendAll(dir, m, e, o.From); err != nil {
		return fmt.Errorf("send checkpoint %s: %w", r, err)
	}
	return nil
}

// check refuses a position that is not in a checkpoint. Behind the last file there is one more, where only the end is left.
func (p Position) check(m Manifest) error {
	if p.File < 0 || p.File > len(m.Files) || p.Offset < 0 || p.File == len(m.Files) && p.Offset > 0 || p.File < len(m.Files) && p.Offset > m.Files[p.File].Size {
		return fmt.Errorf("%w: it has no byte %d in file %d", ErrNone, p.Offset, p.File)
	}
	return nil
}

func sendAll(dir *os.Root, m Manifest, e *encoder, from Position) error {
	b, err := readSmall(dir, manifestName, maxManifest)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(e.w, streamMagic); err != nil {
		return err
	}
	// A manifest may be longer than a chunk, and is one frame nevertheless.
	if err := e.write(frame{kind: kindManifest, length: uint32(len(b))}, append(make([]byte, frameSize, frameSize+len(b)), b...)); err != nil {
		return err
	}
	for n := from.File; n < len(m.Files); n++ {
		offset := int64(0)
		if n == from.File {
			offset = from.Offset
		}
		if err := sendFile(dir, m.Files[n], e, Position{n, offset}); err != nil {
			return err
		}
	}
	return e.write(frame{kind: kindEnd, file: uint32(len(m.Files))}, make([]byte, frameSize))
}

func sendFile(dir *os.Root, f File, e *encoder, at Position) (err error) {
	file, info, err := openFile(dir, f.Name)
	if err != nil {
		return damage(fmt.Errorf("read %s: %w", f.Name, err))
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if info.Size() != f.Size {
		return fmt.Errorf("%w: file %s has %d bytes, not %d", ErrDamaged, f.Name, info.Size(), f.Size)
	}
	if _, err := file.Seek(at.Offset, io.SeekStart); err != nil {
		return fmt.Errorf("read %s: %w", f.Name, err)
	}
	for at.Offset < f.Size {
		n := int(min(chunkSize, f.Size-at.Offset))
		if _, err := io.ReadFull(file, e.room()[:n]); err != nil {
			return damage(fmt.Errorf("read %s: %w", f.Name, err))
		}
		if err := e.send(frame{kind: kindData, file: uint32(at.File), offset: uint64(at.Offset)}, n); err != nil {
			return err
		}
		at.Offset += int64(n)
	}
	return nil
}
