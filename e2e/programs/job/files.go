package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// files keeps files in the container's writable layer: open, appended, changed, deleted, deleted and open, closed, linked; and it changes and
// deletes files of the image.
type files struct {
	dir  string
	base string // directory of the image with the files base, gone and dir/in

	appended, changed, unlinked *os.File
	want                        []byte // content of the appended file
	last                        int64
}

func (f *files) flags(set *flag.FlagSet) {
	set.StringVar(&f.dir, "dir", "/data", "directory that it makes for its files")
	set.StringVar(&f.base, "base", "", "directory with the files base, gone and dir/in, which it changes; empty: none")
}

func (f *files) begin([]string) (err error) {
	if err := os.MkdirAll(filepath.Join(f.dir, "deep", "er"), 0o700); err != nil {
		return err
	}
	open := func(name string, flags int) *os.File {
		if err != nil {
			return nil
		}
		var file *os.File
		file, err = os.OpenFile(filepath.Join(f.dir, name), os.O_RDWR|os.O_CREATE|os.O_TRUNC|flags, 0o640)
		return file
	}
	f.appended, f.changed, f.unlinked = open("appended", os.O_APPEND), open("changed", 0), open("unlinked", 0)
	if err == nil {
		err = os.Remove(filepath.Join(f.dir, "unlinked"))
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(f.dir, "deep", "er", "closed"), bytes.Repeat([]byte("closed\n"), 5000), 0o600)
	}
	if err == nil {
		err = os.Link(filepath.Join(f.dir, "deep", "er", "closed"), filepath.Join(f.dir, "hard"))
	}
	if err == nil {
		err = os.Symlink("deep/er/closed", filepath.Join(f.dir, "soft"))
	}
	if err == nil {
		err = syscall.Mkfifo(filepath.Join(f.dir, "fifo"), 0o600)
	}
	if err == nil && f.base != "" {
		err = f.beginBase()
	}
	return err
}

// beginBase changes what is in the image: a file, a deleted file, and a directory that is replaced by one of the same name.
func (f *files) beginBase() error {
	return errors.Join(
		os.WriteFile(filepath.Join(f.base, "base"), []byte("changed\n"), 0o600),
		os.Remove(filepath.Join(f.base, "gone")),
		os.RemoveAll(filepath.Join(f.base, "dir")),
		os.Mkdir(filepath.Join(f.base, "dir"), 0o755),
		os.WriteFile(filepath.Join(f.base, "dir", "new"), []byte("new\n"), 0o600),
	)
}

func (f *files) step(n int64) (string, error) {
	if f.last > 0 {
		if err := f.check(); err != nil {
			return "", err
		}
	}
	line := fmt.Sprintf("line %d\n", n)
	f.want, f.last = append(f.want, line...), n
	_, err := f.appended.WriteString(line)
	if err == nil {
		_, err = f.changed.WriteAt([]byte(line), 0)
	}
	if err == nil {
		_, err = f.unlinked.WriteAt([]byte(line), 0)
	}
	if err == nil {
		err = f.passing(n)
	}
	return fmt.Sprint(len(f.want)), err
}

// passing leaves one closed file of the present step, and deletes that of the step before.
func (f *files) passing(n int64) error {
	if err := os.WriteFile(filepath.Join(f.dir, fmt.Sprintf("step-%d", n)), fmt.Append(nil, n), 0o600); err != nil {
		return err
	}
	if n == 1 {
		return nil
	}
	return os.Remove(filepath.Join(f.dir, fmt.Sprintf("step-%d", n-1)))
}

func (f *files) check() error {
	line := fmt.Sprintf("line %d\n", f.last)
	closed := strings.Repeat("closed\n", 5000)
	errs := []error{
		holds(f.appended, string(f.want)), holds(f.changed, line), holds(f.unlinked, line),
		contains(filepath.Join(f.dir, "appended"), string(f.want)), contains(filepath.Join(f.dir, "changed"), line),
		contains(filepath.Join(f.dir, "deep", "er", "closed"), closed), contains(filepath.Join(f.dir, "hard"), closed), contains(filepath.Join(f.dir, "soft"), closed),
		contains(filepath.Join(f.dir, fmt.Sprintf("step-%d", f.last)), fmt.Sprint(f.last)),
		is(filepath.Join(f.dir, "deep"), fs.ModeDir|0o700), is(filepath.Join(f.dir, "fifo"), fs.ModeNamedPipe|0o600), is(filepath.Join(f.dir, "soft"), fs.ModeSymlink|0o777),
		missing(filepath.Join(f.dir, "unlinked")), missing(filepath.Join(f.dir, fmt.Sprintf("step-%d", f.last-1))),
		same(filepath.Join(f.dir, "hard"), filepath.Join(f.dir, "deep", "er", "closed")),
	}
	if f.base != "" {
		errs = append(errs, contains(filepath.Join(f.base, "base"), "changed\n"), contains(filepath.Join(f.base, "dir", "new"), "new\n"),
			missing(filepath.Join(f.base, "gone")), missing(filepath.Join(f.base, "dir", "in")))
	}
	return errors.Join(errs...)
}

// holds compares an open file with what was written to it. Of changed and unlinked only the last line's length counts: lines only grow.
func holds(f *os.File, want string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	got := make([]byte, info.Size())
	if _, err := f.ReadAt(got, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if string(got) != want {
		return fmt.Errorf("open file %s holds %s, not %s", f.Name(), short(string(got)), short(want))
	}
	return nil
}

func contains(name, want string) error {
	got, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if string(got) != want {
		return fmt.Errorf("%s contains %s, not %s", name, short(string(got)), short(want))
	}
	return nil
}

func short(s string) string {
	if len(s) > 60 {
		return fmt.Sprintf("%d bytes ending in %q", len(s), s[len(s)-40:])
	}
	return fmt.Sprintf("%q", s)
}

func is(name string, mode fs.FileMode) error {
	info, err := os.Lstat(name)
	if err == nil && info.Mode() != mode {
		err = fmt.Errorf("%s is %s, not %s", name, info.Mode(), mode)
	}
	return err
}

func missing(name string) error {
	_, err := os.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil:
		return fmt.Errorf("%s is there again", name)
	}
	return err
}

func same(one, two string) error {
	a, err := os.Stat(one)
	if err != nil {
		return err
	}
	b, err := os.Stat(two)
	if err == nil && !os.SameFile(a, b) {
		err = fmt.Errorf("%s and %s are no longer one file", one, two)
	}
	return err
}
