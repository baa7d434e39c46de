package ckpt

import (
	"context"
	"fmt"
	"io"
)

// receive reads one stream, and writes what it brings. The position moves with each frame whose checksum is right, so that what broke can be
// taken up.
func (f *fetching) receive(ctx context.Context, r io.Reader) error {
	d, err := newDecoder(r)
	if err != nil {
		return err
	}
	defer d.close()
	if err := d.magic(); err != nil {
		return err
	}
	head, b, err := d.next()
	if err != nil {
		return err
	}
	if head.kind != kindManifest || head.file != 0 || head.offset != 0 {
		return fmt.Errorf("%w: the stream does not begin with a manifest", ErrDamaged)
	}
	if err := f.accept(ctx, b); err != nil {
		return err
	}
	for {
		if err := f.skipEmpty(ctx); err != nil {
			return err
		}
		head, b, err := d.next()
		if err != nil {
			return err
		}
		if head.kind == kindEnd {
			if f.at.File != len(f.m.Files) || int(head.file) != f.at.File {
				return fmt.Errorf("%w: the stream ends with %d of %d files", ErrDamaged, f.at.File, len(f.m.Files))
			}
			return d.end()
		}
		if err := f.piece(ctx, head, b); err != nil {
			return err
		}
	}
}

// skipEmpty makes the files at the position that have no content.
func (f *fetching) skipEmpty(ctx context.Context) error {
	for f.at.File < len(f.m.Files) && f.m.Files[f.at.File].Size == 0 {
		want := f.m.Files[f.at.File]
		if err := f.begin(want, true); err != nil {
			return err
		}
		if err := f.whole(ctx, want); err != nil {
			return err
		}
	}
	return nil
}

// piece writes one frame's content.
func (f *fetching) piece(ctx context.Context, head frame, b []byte) error {
	if head.kind != kindData && head.kind != kindZero {
		return fmt.Errorf("%w: a second manifest", ErrDamaged)
	}
	if f.at.File >= len(f.m.Files) || int64(head.file) != int64(f.at.File) || head.offset != uint64(f.at.Offset) {
		return fmt.Errorf("%w: byte %d of file %d comes, and %d of %d is next", ErrDamaged, head.offset, head.file, f.at.Offset, f.at.File)
	}
	want := f.m.Files[f.at.File]
	if int64(head.length) > want.Size-f.at.Offset {
		return fmt.Errorf("%w: file %s goes on after its end", ErrDamaged, want.Name)
	}
	if f.file == nil {
		if err := f.begin(want, true); err != nil {
			return err
		}
	}
	if err := f.put(head, b); err != nil {
		return err
	}
	f.at.Offset += int64(head.length)
	f.verified += int64(head.length)
	if f.o.Progress != nil {
		f.o.Progress(f.verified, f.m.Bytes)
	}
	if f.at.Offset == want.Size {
		return f.whole(ctx, want)
	}
	return nil
}

// put writes content at the position. Zeros are not written: the file has holes there.
func (f *fetching) put(head frame, b []byte) error {
	if head.kind == kindData {
		if _, err := f.file.WriteAt(b, f.at.Offset); err != nil {
			return fmt.Errorf("%w: %w", errLocal, err)
		}
		_, _ = f.hash.Write(b) // a hash takes everything
		return nil
	}
	for left := int(head.length); left > 0; left -= chunkSize {
		_, _ = f.hash.Write(zeroChunk[:min(left, chunkSize)]) // likewise
	}
	return nil
}
