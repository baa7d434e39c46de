package ckpt

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// look is what of a file must survive the archive.
type look struct {
	Mode     fs.FileMode
	UID, GID uint32
	Rdev     uint64
	Nlink    uint64
	Modified int64
	Text     string
	Attrs    map[string]string
}

func looks(t *testing.T, dir string) map[string]look {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	p := &packer{root: root}
	out := map[string]look{}
	err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := root.Lstat(name)
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		l := look{Mode: fi.Mode(), UID: st.Uid, GID: st.Gid, Rdev: st.Rdev, Modified: fi.ModTime().UnixNano()}
		switch {
		case fi.Mode().IsRegular():
			b, err := root.ReadFile(name)
			if err != nil {
				return err
			}
			l.Text, l.Nlink = string(b), st.Nlink
		case fi.Mode()&fs.ModeSymlink != 0:
			if l.Text, err = root.Readlink(name); err != nil {
				return err
			}
		}
		l.Attrs, err = p.xattrs(name)
		out[name] = l
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestLayerIsTheSameAfterPackAndUnpack(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("whiteouts and trusted attributes need root")
	}
	from, to := t.TempDir(), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(from, name) }
	must(os.MkdirAll(at("dir/opaque"), 0o755))
	must(unix.Lsetxattr(at("dir/opaque"), "trusted.overlay.opaque", []byte("y"), 0))
	must(os.WriteFile(at("dir/file"), []byte("text"), 0o640))
	must(unix.Lsetxattr(at("dir/file"), "user.note", []byte("a\x00b"), 0))
	must(os.Link(at("dir/file"), at("zlink")))
	must(os.WriteFile(at("setuid"), nil, 0o600))
	must(os.Chown(at("setuid"), 12, 34))
	must(os.Chmod(at("setuid"), 0o755|fs.ModeSetuid|fs.ModeSticky))
	must(unix.Mknod(at("deleted"), unix.S_IFCHR|0o600, 0)) // a whiteout
	must(unix.Mknod(at("dir/block"), unix.S_IFBLK|0o660, int(unix.Mkdev(7, 300))))
	must(unix.Mkfifo(at("fifo"), 0o622))
	must(os.Symlink("/etc/passwd", at("absolute")))
	must(os.Symlink("nowhere", at("dangling")))
	must(os.Lchown(at("dangling"), 5, 6))
	must(os.WriteFile(at(strings.Repeat("n", 200)+" ü\n"), []byte("odd"), 0o600))
	old := time.Unix(1_000_000_000, 123_456_789)
	must(os.Chtimes(at("dir/file"), old, old))
	must(os.Chmod(at("dir"), 0o500))
	must(os.Chtimes(at("dir"), old, old))
	must(os.Chmod(from, 0o711))

	must(os.MkdirAll(filepath.Join(to, "deleted", "was a directory"), 0o755)) // gives way
	must(os.WriteFile(filepath.Join(to, "setuid"), []byte("other"), 0o600))
	var buf bytes.Buffer
	must(pack(t.Context(), from, &buf))
	must(unpack(t.Context(), bytes.NewReader(buf.Bytes()), int64(buf.Len()), to))
	if diff := cmp.Diff(looks(t, from), looks(t, to)); diff != "" {
		t.Errorf("packed (-) and unpacked (+) differ:\n%s", diff)
	}
}

func TestHostileLayerTouchesNothingOutside(t *testing.T) {
	t.Parallel()
	type entry struct {
		h    tar.Header
		text string
	}
	file := func(name string) entry {
		return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600, Size: 3}, "bad"}
	}
	tests := map[string][]entry{
		"name with dots":             {file("../outside/file")},
		"absolute name":              {file("/etc/qosctl-hostile")},
		"through a link with dots":   {{tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../outside"}, ""}, file("l/file")},
		"through an absolute link":   {{tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/tmp"}, ""}, file("l/qosctl-hostile")},
		"hard link to outside":       {{tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "../outside/secret"}, ""}},
		"hard link through a link":   {{tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../outside"}, ""}, {tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "l/secret"}, ""}},
		"device through a link":      {{tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../outside"}, ""}, {tar.Header{Name: "l/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, ""}},
		"directory through a link":   {{tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../outside"}, ""}, {tar.Header{Name: "l/dir/", Typeflag: tar.TypeDir, Mode: 0o777}, ""}},
		"directory over a late link": {{tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o777, Uid: 7, Gid: 7}, ""}, {tar.Header{Name: "d", Typeflag: tar.TypeSymlink, Linkname: "../outside"}, ""}},
		"file in the layer's place":  {file(".")},
		"long name":                  {file(strings.Repeat("x/", maxName/2) + "x")},
	}
	for name, entries := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			top := t.TempDir()
			dir, outside := filepath.Join(top, "layer"), filepath.Join(top, "outside")
			for _, d := range []string{dir, outside} {
				if err := os.Mkdir(d, 0o750); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			before := looks(t, outside)
			var buf bytes.Buffer
			w := tar.NewWriter(&buf)
			for _, e := range entries {
				if err := w.WriteHeader(&e.h); err != nil {
					t.Fatal(err)
				}
				if _, err := w.Write([]byte(e.text)); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			err := unpack(t.Context(), &buf, int64(buf.Len()), dir)
			if diff := cmp.Diff(before, looks(t, outside)); diff != "" {
				t.Errorf("outside was changed:\n%s", diff)
			}
			if err == nil {
				t.Error("the archive was taken")
			}
		})
	}
}

func TestArchiveThatPromisesTooMuchIsRefused(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: "big", Typeflag: tar.TypeReg, Size: 1 << 40}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := unpack(t.Context(), &buf, int64(buf.Len()), dir); err == nil {
		t.Error("a file of 1 TiB in an archive of 512 bytes was taken")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left: %v %v", entries, err)
	}
}

func FuzzUnpack(f *testing.F) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	_ = w.WriteHeader(&tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755})
	_ = w.WriteHeader(&tar.Header{Name: "d/l", Typeflag: tar.TypeSymlink, Linkname: "../../outside"})
	_ = w.WriteHeader(&tar.Header{Name: "d/l/f", Typeflag: tar.TypeReg, Mode: 0o644})
	_ = w.Close()
	f.Add(buf.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		top := t.TempDir()
		dir, outside := filepath.Join(top, "layer"), filepath.Join(top, "outside")
		if os.Mkdir(dir, 0o700) != nil || os.Mkdir(outside, 0o700) != nil {
			t.Fatal("no directory")
		}
		_ = unpack(t.Context(), bytes.NewReader(b), int64(len(b)), dir)
		if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
			t.Fatalf("outside: %v %v", left, err)
		}
	})
}
