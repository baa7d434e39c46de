package ckpt

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Names in the store. What begins with a dot is no job's.
const (
	partialExt = ".partial" // a checkpoint that is not sealed
	goneExt    = ".gone"    // one that is being removed
	counter    = "sequence" // highest sequence ever given to the job, a decimal number
	confDir    = ".conf"    // the drivers' configuration files, <container>.<ending>
	scratchDir = ".work"    // logs and statistics of restores, a directory for each container

	imagesName   = "images"
	workName     = "work"
	layerName    = "layer.tar"
	manifestName = "manifest.json"
	sumName      = "manifest.sha256" // as sha256sum writes it
	planName     = "plan.json"
)

var (
	jobName      = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	sequenceName = regexp.MustCompile(`^[1-9][0-9]{0,8}$`)
)

// String is the checkpoint's name in messages: <job>/<sequence>.
func (r Ref) String() string { return r.Job + "/" + strconv.Itoa(r.Sequence) }

// check refuses names that could lead out of the store.
func (r Ref) check() error {
	if !jobName.MatchString(r.Job) {
		return fmt.Errorf("%w: %q is no job's UUID", ErrNone, r.Job)
	}
	if !sequenceName.MatchString(strconv.Itoa(r.Sequence)) {
		return fmt.Errorf("%w: %d is no sequence", ErrNone, r.Sequence)
	}
	return nil
}

// store is the directory tree of the checkpoints. Everything is reached through root, and no symbolic link in it is followed: nothing
// of ours is one.
type store struct {
	dir  string // without symbolic links
	root *os.Root
	mu   sync.Mutex // of the counters
}

func openStore(dir string) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of checkpoints: %w", err)
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("find the directory of checkpoints: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("find the directory of checkpoints: %w", err)
	}
	if err = os.Chmod(dir, 0o700); err != nil { // checkpoints hold the memory of processes
		return nil, fmt.Errorf("close the directory of checkpoints to others: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the directory of checkpoints: %w", err)
	}
	return &store{dir: dir, root: root}, nil
}

// mkdir makes a directory, or finds it there.
func (s *store) mkdir(name string) error {
	if err := s.root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make %s: %w", s.path(name), err)
	}
	if !s.isDir(name) {
		return fmt.Errorf("make %s: %w: it is there and no directory", s.path(name), fs.ErrExist)
	}
	return nil
}

func (s *store) path(name string) string { return filepath.Join(s.dir, filepath.FromSlash(name)) }

// isDir says whether name is a directory, and not a link to one.
func (s *store) isDir(name string) bool {
	fi, err := s.root.Lstat(name)
	return err == nil && fi.IsDir()
}

func (r Ref) final() string   { return r.Job + "/" + strconv.Itoa(r.Sequence) }
func (r Ref) partial() string { return r.final() + partialExt }

// find says under which name a checkpoint stands.
func (s *store) find(r Ref) (name string, sealed bool, err error) {
	if err = r.check(); err != nil {
		return "", false, err
	}
	if !s.isDir(r.Job) {
		return "", false, fmt.Errorf("checkpoint %s: %w", r, ErrNone)
	}
	if s.isDir(r.final()) {
		return r.final(), true, nil
	}
	if s.isDir(r.partial()) {
		return r.partial(), false, nil
	}
	if s.isDir(r.final()) { // sealed between the two looks
		return r.final(), true, nil
	}
	return "", false, fmt.Errorf("checkpoint %s: %w", r, ErrNone)
}

// open opens the directory of a checkpoint that find has named.
func (s *store) open(name string) (*os.Root, error) {
	d, err := s.root.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("open checkpoint %s: %w", name, err)
	}
	return d, nil
}

// entry is one directory of a job.
type entry struct {
	ref  Ref
	name string // from the store's root
	ext  string // "": sealed
}

// entries lists a job's directories in order of their sequence.
func (s *store) entries(job string) ([]entry, error) {
	if !jobName.MatchString(job) || !s.isDir(job) {
		return nil, nil
	}
	names, err := readDir(s.root, job)
	if err != nil {
		return nil, err
	}
	var out []entry
	for _, d := range names {
		number, ext, _ := strings.Cut(d.Name(), ".")
		if ext != "" {
			ext = "." + ext
		}
		if !d.IsDir() || !sequenceName.MatchString(number) || ext != "" && ext != partialExt && ext != goneExt && ext != fetchExt {
			continue
		}
		n, err := strconv.Atoi(number)
		if err != nil {
			continue
		}
		out = append(out, entry{ref: Ref{Job: job, Sequence: n}, name: job + "/" + d.Name(), ext: ext})
	}
	slices.SortFunc(out, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.ref.Sequence, b.ref.Sequence), cmp.Compare(a.ext, b.ext))
	})
	return out, nil
}

// jobs lists the jobs that have a directory, in order.
func (s *store) jobs() ([]string, error) {
	names, err := readDir(s.root, ".")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, d := range names {
		if d.IsDir() && jobName.MatchString(d.Name()) {
			out = append(out, d.Name())
		}
	}
	return out, nil
}

// remove removes a checkpoint's directory. It is renamed first, so that a half removed one is never taken for a damaged one.
func (s *store) remove(name string) error {
	if err := detachBelow(s.path(name)); err != nil {
		return err
	}
	gone := name
	if !strings.HasSuffix(name, goneExt) {
		base, _, _ := strings.Cut(name, ".") // a job's name has no dot
		gone = base + goneExt
		if err := s.root.RemoveAll(gone); err != nil {
			return fmt.Errorf("remove checkpoint: %w", err)
		}
		if err := s.root.Rename(name, gone); err != nil {
			return fmt.Errorf("remove checkpoint: %w", err)
		}
	}
	if err := s.root.RemoveAll(gone); err != nil {
		return fmt.Errorf("remove checkpoint: %w", err)
	}
	return nil
}

// readDir lists a directory in order of names.
func readDir(d *os.Root, name string) ([]fs.DirEntry, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	names, err := f.ReadDir(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	slices.SortFunc(names, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return names, nil
}

// openFile opens a regular file for reading: never a link, a fifo or a device.
func openFile(d *os.Root, name string) (*os.File, fs.FileInfo, error) {
	fi, err := d.Lstat(name)
	if err != nil {
		return nil, nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s is no regular file", name)
	}
	f, err := d.Open(name)
	if err != nil {
		return nil, nil, err
	}
	now, err := f.Stat()
	if err == nil && !os.SameFile(fi, now) {
		err = fmt.Errorf("%s was exchanged while it was opened", name)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, now, nil
}

// readSmall reads a file of at most limit bytes.
func readSmall(d *os.Root, name string, limit int64) ([]byte, error) {
	f, _, err := openFile(d, name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read %s: it is longer than %d bytes", name, limit)
	}
	return b, nil
}

// writeWhole replaces a file of d: it is there whole or not at all, and survives a power cut.
func writeWhole(d *os.Root, name string, b []byte) error {
	tmp := "." + name + ".tmp"
	f, err := d.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.Rename(tmp, name)
	}
	if err != nil {
		if rerr := d.Remove(tmp); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
		return fmt.Errorf("write %s: %w", name, err)
	}
	return syncPath(d, ".")
}

// syncPath makes a file's content, or a directory's names, durable.
func syncPath(d *os.Root, name string) error {
	f, err := d.Open(name)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if err = errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}
