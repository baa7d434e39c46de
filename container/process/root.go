package process

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"qosctl/container"
)

const (
	hostName   = ".host" // where the host's root is while the new one is put together
	tmpfsSize  = "size=64m,mode=0755"
	maxEntries = 1024 // entries of a directory that is rebuilt from binds
)

// makeRoot gives this process, which has a mount namespace of its own, the root that the spec asks for: a tmpfs with every entry of
// the host's root bound in, the image's entries in place of those of the same name, and the mounts.
func (c config) makeRoot(dir string, log *slog.Logger) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	entries := map[string]string{}
	if err := listInto(entries, "/"); err != nil {
		return err
	}
	if c.Image != "" {
		image := map[string]string{}
		if err := listInto(image, c.Image); err != nil {
			return fmt.Errorf("image %s: %w", c.Spec.Image, err)
		}
		for _, kernel := range []string{"proc", "sys", "dev"} { // every image has them, empty
			delete(image, kernel)
		}
		maps.Copy(entries, image)
	}
	root := filepath.Join(dir, rootName)
	if err := mirror(entries, root); err != nil {
		return fmt.Errorf("put the root together: %w", err)
	}
	mounts, err := c.openMounts(dir, log)
	if err != nil {
		return err
	}
	work, err := c.openDir(root)
	if err != nil {
		return err
	}
	if err := pivot(root); err != nil {
		return err
	}
	for _, m := range append(mounts, work...) {
		if err := m.attach(); err != nil {
			return fmt.Errorf("mount %s at %s: %w", m.Source, m.Target, err)
		}
	}
	if err := unix.Unmount("/"+hostName, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the host's root: %w", err)
	}
	return os.Remove("/" + hostName)
}

// listInto maps the names in dir to their paths.
func listInto(entries map[string]string, dir string) error {
	ents, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, d := range ents {
		entries[d.Name()] = filepath.Join(dir, d.Name())
	}
	if len(entries) > maxEntries {
		return fmt.Errorf("%s has more than %d entries, too many to lay something over", dir, maxEntries)
	}
	return nil
}

// mirror mounts a tmpfs on dst in which each name stands for the entry that it maps to: directories and files are bound, symbolic links made anew.
func mirror(entries map[string]string, dst string) error {
	if err := os.Mkdir(dst, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := unix.Mount("tmpfs", dst, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, tmpfsSize); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	// Not bindable: dst lies below one of the directories that are bound into it, and would be copied into itself.
	if err := unix.Mount("", dst, "", unix.MS_UNBINDABLE, ""); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	for name, src := range entries {
		if err := place(src, filepath.Join(dst, name)); err != nil {
			return err
		}
	}
	return nil
}

// place makes dst stand for src.
func place(src, dst string) error {
	fi, err := os.Lstat(src)
	if err != nil {
		return err
	}
	if fi.Mode()&fs.ModeSymlink != 0 {
		to, err := os.Readlink(src)
		if err != nil {
			return err
		}
		return os.Symlink(to, dst)
	}
	if err = makePoint(dst, fi.IsDir()); err != nil {
		return err
	}
	if err = unix.Mount(src, dst, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s: %w", src, err)
	}
	return nil
}

// makePoint makes what something can be mounted on.
func makePoint(path string, dir bool) error {
	if dir {
		return os.Mkdir(path, 0o755)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// pivot makes root this process' root; the host's is then at /.host.
func pivot(root string) error {
	host := filepath.Join(root, hostName)
	if err := os.Mkdir(host, 0o700); err != nil {
		return err
	}
	if err := unix.PivotRoot(root, host); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	return os.Chdir("/")
}

// openMount is a mount whose source is held open, so that it can still be reached when the root has changed.
type openMount struct {
	container.Mount
	src *os.File
	dir bool
}

// openMounts opens the sources of all mounts. A missing one becomes an empty directory of the container's own.
func (c config) openMounts(dir string, log *slog.Logger) ([]openMount, error) {
	var out []openMount
	for i, m := range c.Spec.Mounts {
		src := m.Source
		if _, err := os.Stat(src); errors.Is(err, fs.ErrNotExist) {
			src = filepath.Join(dir, mountsName, strconv.Itoa(i))
			log.Warn("source of a mount is missing, the container gets an empty directory", "source", m.Source, "target", m.Target, "instead", src)
			if err := os.MkdirAll(src, 0o711); err != nil {
				return nil, err
			}
			if err := os.Chown(src, c.Spec.User.UID, c.Spec.User.GID); err != nil {
				return nil, err
			}
		}
		o, err := openSource(src, m)
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

func openSource(src string, m container.Mount) (openMount, error) {
	f, err := os.OpenFile(src, unix.O_PATH, 0)
	if err != nil {
		return openMount{}, fmt.Errorf("mount %s: %w", m.Source, err)
	}
	fi, err := f.Stat()
	if err != nil {
		return openMount{}, errors.Join(fmt.Errorf("mount %s: %w", m.Source, err), f.Close())
	}
	return openMount{Mount: m, src: f, dir: fi.IsDir()}, nil
}

// openDir is the mount that makes the host's working directory reachable where the image has an entry of that name in its place.
func (c config) openDir(root string) ([]openMount, error) {
	dir := c.Spec.Dir
	if dir == "" || c.Image == "" || exists(filepath.Join(root, dir)) {
		return nil, nil
	}
	if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
		return nil, nil //nolint:nilerr // neither has it: said when it is entered
	}
	o, err := openSource(dir, container.Mount{Source: dir, Target: dir})
	if err != nil {
		return nil, err
	}
	return []openMount{o}, nil
}

// attach binds the source at its target in the new root. The target may be missing, even below a directory of the host's.
func (m openMount) attach() error {
	target := filepath.Clean(m.Target)
	if err := ensure(target, m.dir); err != nil {
		return err
	}
	if err := unix.Mount("/proc/self/fd/"+strconv.Itoa(int(m.src.Fd())), target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if m.ReadOnly {
		if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("make it read-only: %w", err)
		}
	}
	return m.src.Close()
}

// ensure makes a missing target without touching the host: the deepest directory that is there is rebuilt from binds, in which a name can be made.
func ensure(target string, dir bool) error {
	if _, err := os.Stat(target); err == nil {
		return nil
	}
	parent, rest := "/", strings.Split(strings.Trim(target, "/"), "/")
	for len(rest) > 1 {
		next := filepath.Join(parent, rest[0])
		if _, err := os.Stat(next); err != nil {
			break
		}
		parent, rest = next, rest[1:]
	}
	if parent != "/" {
		if err := rebuild(parent); err != nil {
			return err
		}
	}
	for len(rest) > 1 {
		parent, rest = filepath.Join(parent, rest[0]), rest[1:]
		if err := os.Mkdir(parent, 0o755); err != nil {
			return err
		}
	}
	return makePoint(filepath.Join(parent, rest[0]), dir)
}

// rebuild covers a directory with a tmpfs that has the same entries.
func rebuild(dir string) error {
	entries := map[string]string{}
	if err := listInto(entries, dir); err != nil {
		return err
	}
	stage := "/.stage"
	if err := mirror(entries, stage); err != nil {
		return err
	}
	if err := unix.Mount(stage, dir, "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("cover %s: %w", dir, err)
	}
	return os.Remove(stage)
}
