package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"qosctl/container"
)

// tmpPrefix begins the name of a directory that is being made. No container's id begins with a dot.
const tmpPrefix = ".new-"

// Create writes the container's directory: whole, or not at all.
func (e *Engine) Create(ctx context.Context, s container.Spec) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := e.check(s)
	if err != nil {
		return fmt.Errorf("create container %s: %w", s.ID, err)
	}
	dst := filepath.Join(e.o.Dir, s.ID)
	if exists(dst) {
		return fmt.Errorf("create container %s: %w", s.ID, container.ErrExists)
	}
	tmp, err := os.MkdirTemp(e.o.Dir, tmpPrefix)
	if err != nil {
		return fmt.Errorf("create container %s: %w", s.ID, err)
	}
	if err = e.fill(tmp, c); err == nil {
		e.tree.Lock()
		err = os.Rename(tmp, dst)
		e.tree.Unlock()
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
			err = container.ErrExists
		}
	}
	if err != nil {
		return fmt.Errorf("create container %s: %w", s.ID, errors.Join(err, os.RemoveAll(tmp)))
	}
	return syncDir(e.o.Dir)
}

// fill makes a container's files in a directory that nobody sees yet.
func (e *Engine) fill(dir string, c config) error {
	// Passable, not listable, for the job's user, who has a sandbox in it; the files keep to their owners.
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	for _, n := range []string{string(container.Stdout), string(container.Stderr), lockName, shimLogName} {
		f, err := os.OpenFile(filepath.Join(dir, n), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if n == string(container.Stdout) || n == string(container.Stderr) {
			// Its own, so that a program may open /dev/stderr by name.
			err = e.give(f, c.Spec.User)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	if err := e.makeDir(filepath.Join(dir, sandboxName), 0o700, c.Spec.User); err != nil {
		return err
	}
	return writeFile(dir, configName, c)
}

func (e *Engine) makeDir(name string, mode os.FileMode, u container.User) error {
	if err := os.Mkdir(name, mode); err != nil {
		return err
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(e.give(f, u), f.Close())
}

func (e *Engine) give(f *os.File, u container.User) error {
	if e.uid != 0 {
		return nil
	}
	return f.Chown(u.UID, u.GID)
}

// check refuses a spec that can't be run and resolves its image.
func (e *Engine) check(s container.Spec) (config, error) {
	c := config{
		Spec: s, Created: time.Now(), Cgroup: path.Join(e.o.CgroupParent, s.Parent, s.ID),
		CgroupRoot: e.o.CgroupRoot, Proc: e.o.Proc, MaxLog: e.o.MaxLog,
	}
	if !idPattern.MatchString(s.ID) {
		return c, fmt.Errorf("id %q: letters, digits, dots, dashes and underscores only, at most 128", s.ID)
	}
	if s.Parent != "" && (!idPattern.MatchString(s.Parent)) {
		return c, fmt.Errorf("cgroup parent %q: one name of letters, digits, dots, dashes and underscores", s.Parent)
	}
	if (s.Command == "") == (len(s.Args) == 0) {
		return c, errors.New("either a command or arguments are needed")
	}
	for _, kv := range s.Env {
		if k, _, ok := strings.Cut(kv, "="); !ok || k == "" || strings.ContainsRune(kv, 0) {
			return c, fmt.Errorf("environment entry %q is not KEY=value", k)
		}
	}
	for _, a := range append([]string{s.Command, s.Dir}, s.Args...) {
		if strings.ContainsRune(a, 0) {
			return c, errors.New("a command can't hold a zero byte")
		}
	}
	if s.Dir != "" && !filepath.IsAbs(s.Dir) {
		return c, fmt.Errorf("working directory %q is not absolute", s.Dir)
	}
	if err := e.checkUser(s.User); err != nil {
		return c, err
	}
	if err := checkLimits(s.Limits); err != nil {
		return c, err
	}
	var err error
	if c.Image, err = e.image(s); err != nil {
		return c, err
	}
	return c, nil
}

// image resolves an image to its directory and checks mounts.
func (e *Engine) image(s container.Spec) (string, error) {
	if e.uid != 0 && (s.Image != "" || len(s.Mounts) > 0) {
		return "", fmt.Errorf("images and mounts need root: %w", container.ErrNotSupported)
	}
	for _, m := range s.Mounts {
		if !filepath.IsAbs(m.Source) || !filepath.IsAbs(m.Target) || path.Clean(m.Target) == "/" {
			return "", fmt.Errorf("mount of %q at %q: both must be absolute, and the target not the root", m.Source, m.Target)
		}
	}
	if s.Image == "" {
		return "", nil
	}
	dir, ok := e.o.Images[s.Image]
	if !ok {
		return "", fmt.Errorf("%w: %q: map it to a directory with engine.images (qosctl dev --map-image %s=DIR)", container.ErrNoImage, s.Image, s.Image)
	}
	if st, err := os.Stat(dir); err != nil {
		return "", fmt.Errorf("%w: %q: %w", container.ErrNoImage, s.Image, err)
	} else if !st.IsDir() {
		return "", fmt.Errorf("%w: %q: %s is not a directory", container.ErrNoImage, s.Image, dir)
	}
	return filepath.Abs(dir)
}

func (e *Engine) checkUser(u container.User) error {
	if u.UID < 0 || u.GID < 0 || u.UID > math.MaxInt32 || u.GID > math.MaxInt32 {
		return fmt.Errorf("user %d, group %d: no such ids", u.UID, u.GID)
	}
	if e.uid != 0 && (u.UID != e.uid || u.GID != os.Getegid()) {
		return fmt.Errorf("user %d, group %d: this agent runs as user %d, group %d and can't run a job as anybody else: run it as root", u.UID, u.GID, e.uid, os.Getegid())
	}
	return nil
}

// minCPUs is the least CFS quota, 1 ms in a period of 100.
const minCPUs = 0.01

func checkLimits(l container.Limits) error {
	for _, f := range []float64{l.CPUs, l.Shares} {
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("limit of %v CPUs: not a number of CPUs", f)
		}
	}
	if l.CPUs > 0 && l.CPUs < minCPUs {
		return fmt.Errorf("limit of %v CPUs: the kernel takes no less than %v", l.CPUs, minCPUs)
	}
	return nil
}

// Remove forgets a container that does not run: its cgroup, and its directory with outputs and sandbox.
func (e *Engine) Remove(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r, err := e.load(id)
	if err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	if r.state == container.Running || r.starting {
		return fmt.Errorf("remove container %s: %w: stop it first", id, container.ErrRunning)
	}
	if err = e.forgetLimits(id); err != nil {
		e.log.Debug("close limits", "container", id, "err", err)
	}
	if p := r.cgroup(); p != "" {
		if err = e.o.Cgroups.Remove(p); err != nil {
			return fmt.Errorf("remove container %s: %w", id, err)
		}
	}
	tmp, err := os.MkdirTemp(e.o.Dir, tmpPrefix)
	if err != nil {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	if err = e.hide(r, filepath.Join(tmp, id)); err != nil {
		return fmt.Errorf("remove container %s: %w", id, errors.Join(err, os.Remove(tmp)))
	}
	if err = os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	return nil
}

// hide takes a container's name away before its files are removed, so that it is there whole or not at all, and removes the cgroup of
// its execution with the last container in it.
func (e *Engine) hide(r *record, to string) error {
	e.tree.Lock()
	defer e.tree.Unlock()
	if err := os.Rename(r.dir, to); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return container.ErrNotFound
		}
		return err
	}
	if r.conf.Spec.Parent == "" {
		return nil
	}
	ents, err := os.ReadDir(e.o.Dir)
	if err != nil {
		return nil //nolint:nilerr // the container is gone; an empty cgroup may stay
	}
	for _, d := range ents {
		var c config
		if readFile(filepath.Join(e.o.Dir, d.Name()), configName, &c) == nil && c.Spec.Parent == r.conf.Spec.Parent {
			return nil
		}
	}
	if err := e.o.Cgroups.Remove(path.Dir(r.conf.Cgroup)); err != nil {
		e.log.Warn("remove the cgroup of an execution", "container", r.id, "err", err)
	}
	return nil
}

// staleTemp is how old a directory that is being made or removed must be, to be the leftover of a crash.
const staleTemp = time.Minute

// sweep removes what a crash in Create or Remove left.
func (e *Engine) sweep() {
	ents, err := os.ReadDir(e.o.Dir)
	if err != nil {
		return
	}
	for _, d := range ents {
		fi, err := d.Info()
		if !strings.HasPrefix(d.Name(), tmpPrefix) || err != nil || time.Since(fi.ModTime()) < staleTemp {
			continue
		}
		if err = os.RemoveAll(filepath.Join(e.o.Dir, d.Name())); err != nil {
			e.log.Warn("remove what a crash left", "dir", d.Name(), "err", err)
		}
	}
}
