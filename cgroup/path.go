package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"
)

// errBadPath says that a path would leave its hierarchy, or is none.
var errBadPath = errors.New("bad cgroup path")

// cleanPath checks that p names a cgroup below its hierarchy's root, and returns it without doubled or trailing slashes.
// Components ".." are refused and not resolved: a process outside of our cgroup namespace has such a path, and so may hostile input.
func cleanPath(p string) (string, error) {
	if !strings.HasPrefix(p, "/") {
		return "", fmt.Errorf("%w %q: it must start with a slash", errBadPath, p)
	}
	if strings.ContainsAny(p, "\x00\n") {
		return "", fmt.Errorf("%w %q: it holds a control character", errBadPath, p)
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." {
			return "", fmt.Errorf("%w %q: it leaves the root of its hierarchy", errBadPath, p)
		}
		if len(part) > 255 {
			return "", fmt.Errorf("%w: a component of it is longer than 255 bytes", errBadPath)
		}
	}
	return path.Clean(p), nil
}

// ownPath is cleanPath for cgroups that are made, filled, emptied or removed: never a hierarchy's root.
func ownPath(p string) (string, error) {
	c, err := cleanPath(p)
	if err != nil {
		return "", err
	}
	if c == "/" {
		return "", fmt.Errorf("%w %q: the root of a hierarchy holds the whole host", errBadPath, p)
	}
	return c, nil
}

// cutDir returns what is left of p below dir, with a leading slash.
func cutDir(p, dir string) (string, bool) {
	rest, ok := strings.CutPrefix(p, dir)
	if !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	if rest == "" {
		rest = "/"
	}
	return rest, true
}

// denied turns a refusal for want of rights into one that wraps ErrNoAccess and says what to do. Other errors only get the words before them.
func denied(doing string, err error) error {
	switch {
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s: %w: %w (mount cgroups read-write: in a container, --privileged or a writable /sys/fs/cgroup)", doing, ErrNoAccess, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %w: %w (run as root, or have root give this user a delegated subtree: systemd's Delegate=yes, or chown of a cgroup in every hierarchy)", doing, ErrNoAccess, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
