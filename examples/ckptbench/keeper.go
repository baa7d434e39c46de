package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"qosctl/ckpt"
)

// keeper is one of our drivers: the container is checkpointed and goes on in a new one, while its checkpoint is sealed beside.
type keeper struct {
	h    *host
	k    *ckpt.Keeper
	at   place
	dir  string
	jobs int
}

// place is a driver, and where its images stand: on the file system of Docker's layers, or apart, on one that no disk slows down. Docker
// unmounts an overlay when it makes a container, and the kernel then writes back the whole file system below it, images included.
type place struct {
	driver string
	apart  bool
}

func (p place) String() string {
	if p.apart {
		return p.driver + ", images apart"
	}
	return "driver " + p.driver
}

func (p place) dir() string {
	if p.apart {
		return store + p.driver + "-apart"
	}
	return store + p.driver
}

// keeper makes a way of a driver; nil, and why, if this node can't.
func (h *host) keeper(ctx context.Context, at place) (_ way, why string, err error) {
	o := h.options
	o.Driver, o.Dir = at.driver, at.dir()
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, "", fmt.Errorf("make a store: %w", err)
	}
	if at.apart {
		if err := unix.Mount("tmpfs", o.Dir, "tmpfs", 0, "mode=0700"); err != nil { // it ends with the node
			return nil, "", fmt.Errorf("mount a store: %w", err)
		}
	}
	k, err := ckpt.New(o)
	if err != nil {
		return nil, "", err
	}
	r := k.Test(ctx)
	if r.Driver == at.driver {
		return &keeper{h: h, k: k, at: at, dir: o.Dir}, "", nil
	}
	var faults []string
	for _, c := range r.Checks {
		if !c.OK {
			faults = append(faults, c.Name+": "+c.Text)
		}
	}
	return nil, strings.Join(faults, "; "), k.Close()
}

func (w *keeper) name() string { return w.at.String() }

func (w *keeper) close(context.Context) error {
	err := w.k.Close()
	if w.at.apart {
		err = errors.Join(err, unix.Unmount(w.dir, unix.MNT_DETACH))
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}

func (w *keeper) once(ctx context.Context, mib int) (s sample, err error) {
	w.jobs++
	job := fmt.Sprintf("%08x-0000-4000-8000-%012x", w.jobs, len(w.name()))
	one, two := spec(job+"-1-1", job+"-1", mib), spec(job+"-1-2", job+"-1", mib)
	if err := w.k.Prepare(&one); err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, w.h.end(ctx, one.ID, two.ID), os.RemoveAll(filepath.Join(w.dir, job))) }()
	if err := w.h.start(ctx, one); err != nil {
		return s, err
	}
	i, err := w.h.engine.Inspect(ctx, one.ID)
	if err != nil {
		return s, err
	}
	begin, before := time.Now(), daemons()
	m, err := w.k.Take(ctx, ckpt.Order{Job: job, Name: "bench", Epoch: 1, Execution: 1, Incarnation: 1, Container: one.ID, Group: i.Cgroup, Reason: "bench"})
	if err != nil {
		return s, err
	}
	s.dump = time.Since(begin)
	written, err := w.images(job)
	if err != nil {
		return s, err
	}
	ref := ckpt.Ref{Job: job, Sequence: m.Sequence}
	var whole ckpt.Manifest
	var sealed error
	var wait sync.WaitGroup
	wait.Go(func() { whole, _, sealed = w.k.Seal(ctx, ref) })
	_, err = w.k.Restore(ctx, ref, two)
	s.restore, s.moved = time.Since(begin)-s.dump, daemons()-before
	wait.Wait()
	if err := errors.Join(err, sealed); err != nil {
		return s, err
	}
	s.disk = whole.Bytes
	if s.again, err = w.copied(job, written); err != nil {
		return s, err
	}
	s.down, err = w.down(ctx, begin, one.ID, two.ID)
	return s, err
}

func (w *keeper) down(ctx context.Context, begin time.Time, one, two string) (time.Duration, error) {
	if _, err := w.h.await(ctx, two, enough); err != nil {
		return 0, err
	}
	if err := w.h.engine.Stop(ctx, two, 0); err != nil {
		return 0, err
	}
	first, err := w.h.output(ctx, one)
	if err != nil {
		return 0, err
	}
	second, err := w.h.output(ctx, two)
	if err != nil {
		return 0, err
	}
	return downtime(append(first, second...), begin)
}

// images are the files of CRIU's images, by name: device, inode and size.
func (w *keeper) images(job string) (map[string]string, error) {
	list := map[string]string{}
	err := filepath.WalkDir(filepath.Join(w.dir, job), func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || filepath.Ext(name) != ".img" {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			list[e.Name()] = fmt.Sprintf("%d %d %d", st.Dev, st.Ino, st.Size)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look at the images: %w", err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no images below %s", w.dir)
	}
	return list, nil
}

// copied is the size of the sealed images that are no longer in the files that CRIU has written.
func (w *keeper) copied(job string, written map[string]string) (sum int64, err error) {
	now, err := w.images(job)
	if err != nil {
		return 0, err
	}
	for name, f := range now {
		if written[name] == f {
			continue
		}
		size, err := strconv.ParseInt(f[strings.LastIndexByte(f, ' ')+1:], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("look at the images: %w", err)
		}
		sum += size
	}
	return sum, nil
}
