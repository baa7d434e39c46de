package ckpt

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// unpacker writes a tar archive into a directory. Every name is resolved below root, links included; what os.Root has no call for is done in an
// open directory, on a name without a slash, without following it.
type unpacker struct {
	root *os.Root
	left int64 // bytes that files may still have: an archive that promises more than it holds is hostile
	dirs []*tar.Header
	buf  []byte
}

// maxEntries bounds how many files a layer may have.
const maxEntries = 4_000_000

// unpack writes the archive r, of size bytes, into the writable layer at dir, before its container starts. What is there gives way. The
// archive may be hostile: nothing outside of dir is touched.
func unpack(ctx context.Context, r io.Reader, size int64, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open the new writable layer: %w", err)
	}
	defer root.Close()
	u := &unpacker{root: root, left: size, buf: make([]byte, 256<<10)}
	tr := tar.NewReader(&reader{ctx: ctx, r: r})
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && n >= maxEntries {
			err = fmt.Errorf("more than %d files", maxEntries)
		}
		if err == nil {
			err = u.entry(h, tr)
		}
		if err != nil {
			return fmt.Errorf("unpack the writable layer: %w", err)
		}
	}
	for _, h := range slices.Backward(u.dirs) { // after what is in them, which changes their times
		if err = u.attributes(h); err != nil {
			return fmt.Errorf("unpack the writable layer: %w", err)
		}
	}
	return nil
}

// unpackFile unpacks the file layer.tar of a checkpoint; dir "" is good for an empty one.
func unpackFile(ctx context.Context, d *os.Root, dir string) error {
	f, fi, err := openFile(d, layerName)
	if err != nil {
		return fmt.Errorf("open %s: %w", layerName, err)
	}
	defer f.Close()
	if dir == "" {
		if _, err = tar.NewReader(f).Next(); errors.Is(err, io.EOF) {
			return nil
		}
		return fmt.Errorf("the checkpoint has changed files, and the engine does not say where the container's writable layer is (storage driver overlay2 does)")
	}
	return unpack(ctx, f, fi.Size(), dir)
}

// entry writes one entry of the archive.
func (u *unpacker) entry(h *tar.Header, r io.Reader) error {
	name, err := cleanEntry(h.Name)
	if err != nil {
		return err
	}
	h.Name = name
	if h.Typeflag == tar.TypeDir {
		u.dirs = append(u.dirs, h)
		return u.dir(name)
	}
	if name == "." {
		return fmt.Errorf("entry %q is no directory", name)
	}
	if err = u.clear(name); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err = u.make(h, r); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if h.Typeflag == tar.TypeLink { // it has the attributes of the other name
		return nil
	}
	return u.attributes(h)
}

// cleanEntry refuses names that lead out of the layer.
func cleanEntry(name string) (string, error) {
	c := path.Clean(strings.TrimSuffix(name, "/"))
	if name == "" || len(name) > maxName || !filepath.IsLocal(c) || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("entry %.80q leads out of the layer", name)
	}
	return c, nil
}

// dir makes a directory; one that is there stays with what is in it.
func (u *unpacker) dir(name string) error {
	fi, err := u.root.Lstat(name)
	if err == nil && fi.IsDir() {
		return nil
	}
	if err = u.clear(name); err != nil {
		return err
	}
	return u.root.Mkdir(name, 0o700)
}

// clear makes way for name.
func (u *unpacker) clear(name string) error {
	fi, err := u.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.IsDir() {
		return u.root.RemoveAll(name)
	}
	return u.root.Remove(name)
}

// make makes the file, without its attributes.
func (u *unpacker) make(h *tar.Header, r io.Reader) error {
	switch h.Typeflag {
	case tar.TypeReg:
		return u.regular(h, r)
	case tar.TypeLink:
		target, err := cleanEntry(h.Linkname)
		if err != nil {
			return err
		}
		return u.root.Link(target, h.Name)
	case tar.TypeSymlink:
		return u.root.Symlink(h.Linkname, h.Name)
	case tar.TypeChar:
		return u.node(h, unix.S_IFCHR)
	case tar.TypeBlock:
		return u.node(h, unix.S_IFBLK)
	case tar.TypeFifo:
		return u.node(h, unix.S_IFIFO)
	}
	return fmt.Errorf("type %q of entry is not known", h.Typeflag)
}

func (u *unpacker) regular(h *tar.Header, r io.Reader) error {
	if u.left -= h.Size; h.Size < 0 || u.left < 0 {
		return errors.New("the archive promises more bytes than it has")
	}
	f, err := u.root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, r, u.buf)
	if err = errors.Join(err, f.Close()); err == nil && n != h.Size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (u *unpacker) node(h *tar.Header, kind uint32) error {
	if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
		return fmt.Errorf("device %d:%d is none", h.Devmajor, h.Devminor)
	}
	return u.at(h.Name, func(dir *os.File, base string) error {
		dev := unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
		return unix.Mknodat(int(dir.Fd()), base, kind|0o600, int(dev))
	})
}

// at calls f with the directory of name, and its last part.
func (u *unpacker) at(name string, f func(dir *os.File, base string) error) error {
	dir, err := u.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(f(dir, path.Base(name)), dir.Close())
}

// attributes sets owner, mode, extended attributes and times, in this order: a change of owner takes setuid bits and capabilities away.
func (u *unpacker) attributes(h *tar.Header) error {
	err := u.at(h.Name, func(dir *os.File, base string) error {
		fd, link := int(dir.Fd()), h.Typeflag == tar.TypeSymlink
		var st unix.Stat_t
		if err := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if !link && st.Mode&unix.S_IFMT == unix.S_IFLNK { // a directory's turn comes last: a later entry may have put a link in its place
			return errors.New("a link has taken the place of another entry")
		}
		if err := unix.Fchownat(fd, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("set owner: %w", err)
		}
		if !link { // a link's mode means nothing
			if err := unix.Fchmodat(fd, base, uint32(h.Mode)&0o7777, 0); err != nil {
				return fmt.Errorf("set mode: %w", err)
			}
		}
		for key, value := range h.PAXRecords {
			attr, ok := strings.CutPrefix(key, xattrKey)
			if !ok {
				continue
			}
			if err := unix.Lsetxattr(below(dir, base), attr, []byte(value), 0); err != nil {
				return fmt.Errorf("set extended attribute %s: %w", attr, err)
			}
		}
		if err := unix.UtimesNanoAt(fd, base, times(h), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("set times: %w", err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	return nil
}

func times(h *tar.Header) []unix.Timespec {
	access := h.AccessTime
	if access.IsZero() {
		access = h.ModTime
	}
	return []unix.Timespec{
		{Sec: access.Unix(), Nsec: int64(access.Nanosecond())},
		{Sec: h.ModTime.Unix(), Nsec: int64(h.ModTime.Nanosecond())},
	}
}
