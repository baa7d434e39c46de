package ckpt

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// xattrKey is how extended attributes stand in a tar archive.
const xattrKey = "SCHILY.xattr."

// inode names a file that may have several names.
type inode struct{ dev, ino uint64 }

// packer writes a directory tree as a tar archive.
type packer struct {
	root  *os.Root
	tw    *tar.Writer
	links map[inode]string // first name of each file that has several
	buf   []byte
}

// pack writes the writable layer at dir (an overlay's upper directory: whiteouts are character devices 0:0 in it, opaque directories have an
// extended attribute) to w: names, modes, owners, times, extended attributes, hard links, devices and fifos. Sockets are left out,
// an archive can't hold them. Nothing may write to dir meanwhile.
func pack(ctx context.Context, dir string, w io.Writer) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open the writable layer: %w", err)
	}
	defer root.Close()
	p := &packer{root: root, tw: tar.NewWriter(w), links: make(map[inode]string), buf: make([]byte, 256<<10)}
	if err = p.tree(ctx, "."); err != nil {
		return fmt.Errorf("copy the writable layer: %w", err)
	}
	if err = p.tw.Close(); err != nil {
		return fmt.Errorf("copy the writable layer: %w", err)
	}
	return nil
}

// tree writes name and all below it, a directory before what is in it.
func (p *packer) tree(ctx context.Context, name string) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if len(name) > maxName {
		return fmt.Errorf("name %.40q… is longer than %d bytes", name, maxName)
	}
	fi, err := p.root.Lstat(name)
	if err != nil {
		return err
	}
	if err = p.file(ctx, name, fi); err != nil || !fi.IsDir() {
		return err
	}
	entries, err := readDir(p.root, name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err = p.tree(ctx, path.Join(name, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// file writes one entry.
func (p *packer) file(ctx context.Context, name string, fi fs.FileInfo) error {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || fi.Mode()&fs.ModeSocket != 0 {
		return nil
	}
	h, err := p.header(name, fi, st)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if first, ok := p.linked(name, fi, st); ok {
		h.Typeflag, h.Linkname, h.Size, h.PAXRecords = tar.TypeLink, first, 0, nil
	}
	if err = p.tw.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	f, _, err := openFile(p.root, name)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{p.tw}, &reader{ctx: ctx, r: io.LimitReader(f, h.Size)}, p.buf)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// linked returns the name under which a file was written before.
func (p *packer) linked(name string, fi fs.FileInfo, st *syscall.Stat_t) (string, bool) {
	if fi.IsDir() || st.Nlink < 2 {
		return "", false
	}
	id := inode{st.Dev, st.Ino}
	first, ok := p.links[id]
	if !ok {
		p.links[id] = name
	}
	return first, ok
}

func (p *packer) header(name string, fi fs.FileInfo, st *syscall.Stat_t) (*tar.Header, error) {
	var target string
	var err error
	if fi.Mode()&fs.ModeSymlink != 0 {
		if target, err = p.root.Readlink(name); err != nil {
			return nil, err
		}
	}
	h, err := tar.FileInfoHeader(fi, target)
	if err != nil {
		return nil, err
	}
	h.Name, h.Format = name, tar.FormatPAX
	if fi.IsDir() {
		h.Name += "/"
	}
	h.Uname, h.Gname = "", "" // of this host, not of the container
	h.AccessTime, h.ChangeTime = time.Unix(st.Atim.Unix()), time.Time{}
	attrs, err := p.xattrs(name)
	if err != nil {
		return nil, fmt.Errorf("read extended attributes: %w", err)
	}
	for key, value := range attrs {
		if name == "." && overlayNote(key) {
			continue
		}
		if h.PAXRecords == nil {
			h.PAXRecords = make(map[string]string)
		}
		h.PAXRecords[xattrKey+key] = value
	}
	return h, nil
}

// overlayNote says whether an attribute of a layer's top is what the kernel notes there about one mount; another mount has its own.
func overlayNote(key string) bool {
	return strings.HasPrefix(key, "trusted.overlay.") && key != "trusted.overlay.opaque"
}

// xattrs reads the extended attributes of a file, a link's own too.
func (p *packer) xattrs(name string) (map[string]string, error) {
	dir, err := p.root.Open(path.Dir(name))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	at := below(dir, path.Base(name))
	list, err := grow(func(b []byte) (int, error) { return unix.Llistxattr(at, b) })
	if errors.Is(err, unix.ENOTSUP) || len(list) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := make(map[string]string)
	for key := range bytes.SplitSeq(bytes.TrimSuffix(list, []byte{0}), []byte{0}) {
		value, err := grow(func(b []byte) (int, error) { return unix.Lgetxattr(at, string(key), b) })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		out[string(key)] = string(value)
	}
	return out, nil
}

// below is a path to an entry of an open directory, which no exchange of a name above it can lead elsewhere.
func below(dir *os.File, base string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), base)
}

// grow calls a function that fills a buffer with a bigger one until it fits: 64 KiB is the most an attribute can have.
func grow(f func([]byte) (int, error)) ([]byte, error) {
	for size := 1 << 10; ; size *= 8 {
		b := make([]byte, size)
		n, err := f(b)
		if errors.Is(err, unix.ERANGE) && size < 1<<17 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return b[:n], nil
	}
}

// reader stops reading when its context ends.
type reader struct {
	ctx context.Context //nolint:containedctx // it lives as long as one copy
	r   io.Reader
}

func (r *reader) Read(b []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}

// layerSize is about how many bytes the archive of a directory tree will have.
func layerSize(ctx context.Context, dir string) (int64, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, fmt.Errorf("open the writable layer: %w", err)
	}
	defer root.Close()
	size := int64(1 << 10)
	err = fs.WalkDir(root.FS(), ".", func(_ string, e fs.DirEntry, err error) error {
		if cerr := context.Cause(ctx); cerr != nil {
			return cerr
		}
		if errors.Is(err, fs.ErrNotExist) { // the container is still running
			return nil
		}
		if err != nil {
			return err
		}
		size += 2 << 10 // headers and padding
		if fi, err := e.Info(); err == nil && fi.Mode().IsRegular() {
			size += fi.Size()
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("measure the writable layer: %w", err)
	}
	return size, nil
}

// packFile writes the archive of dir ("": an empty one) to the file layer.tar of a checkpoint.
func packFile(ctx context.Context, dir string, d *os.Root) error {
	f, err := d.OpenFile(layerName, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("make %s: %w", layerName, err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	if dir == "" {
		err = tar.NewWriter(w).Close()
	} else {
		err = pack(ctx, dir, w)
	}
	if err == nil {
		err = w.Flush()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", layerName, err)
	}
	return nil
}
