package programs

import (
	"archive/tar"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// libraries are where shared libraries of this machine stand.
var libraries = []string{"/lib/*-linux-gnu*", "/usr/lib/*-linux-gnu*", "/lib64", "/usr/lib64", "/lib", "/usr/lib"}

// Tar writes the root file system of an image of the programs, for `docker import`: the programs with the shared libraries that they need, files
// more (path in the image → file of this machine, such as a static busybox as /bin/sh), /tmp, and what Base has. The same programs give the
// same image.
func (p Programs) Tar(w io.Writer, more map[string]string) error {
	all := maps.Clone(map[string]string(p))
	maps.Copy(all, more)
	for _, file := range p {
		if err := needed(file, all); err != nil {
			return fmt.Errorf("find the libraries of %s: %w", file, err)
		}
	}
	t := &image{w: tar.NewWriter(w), made: map[string]bool{}}
	t.dir("/tmp", 0o1777)
	t.file("/etc/passwd", []byte("root:x:0:0:root:/:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n"), 0o644)
	t.file(Base+"/base", []byte("of the image\n"), 0o644)
	t.file(Base+"/gone", []byte("of the image\n"), 0o644)
	t.file(Base+"/dir/in", []byte("of the image\n"), 0o644)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		b, err := os.ReadFile(all[name])
		t.err = errors.Join(t.err, err)
		t.file(name, b, 0o755)
	}
	if err := errors.Join(t.err, t.w.Close()); err != nil {
		return fmt.Errorf("make an image: %w", err)
	}
	return nil
}

// image is a root file system in the making.
type image struct {
	w    *tar.Writer
	made map[string]bool
	err  error
}

func (t *image) dir(name string, mode int64) {
	if name == "/" || t.made[name] || t.err != nil {
		return
	}
	t.dir(path.Dir(name), 0o755)
	t.made[name] = true
	t.err = t.w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(name, "/") + "/", Mode: mode})
}

func (t *image) file(name string, content []byte, mode int64) {
	t.dir(path.Dir(name), 0o755)
	if t.err != nil {
		return
	}
	if t.err = t.w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(name, "/"), Mode: mode, Size: int64(len(content))}); t.err == nil {
		_, t.err = t.w.Write(content)
	}
}

// needed adds to all the interpreter and the shared libraries that a program needs, and those that they need.
func needed(file string, all map[string]string) error {
	f, err := elf.Open(file)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		b, err := io.ReadAll(p.Open())
		if err != nil {
			return err
		}
		name := strings.TrimRight(string(b), "\x00")
		all[name] = name
	}
	list, err := f.ImportedLibraries()
	if err != nil {
		return err
	}
	for _, lib := range list {
		name, err := library(lib)
		if err != nil {
			return err
		}
		if all[name] != "" {
			continue
		}
		all[name] = name
		if err := needed(name, all); err != nil {
			return err
		}
	}
	return nil
}

// library finds a shared library of this machine.
func library(name string) (string, error) {
	for _, pattern := range libraries {
		found, err := filepath.Glob(filepath.Join(pattern, name))
		if err != nil {
			return "", err
		}
		if len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, fs.ErrNotExist)
}
