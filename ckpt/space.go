package ckpt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// slack is what a checkpoint needs beside memory and layer: CRIU's own images, logs, manifest.
const slack = 16 << 20

// room refuses a checkpoint of need bytes that the disk or the limit of all checkpoints has no place for.
func (k *Keeper) room(ctx context.Context, need int64) error {
	free, err := k.free(k.store.dir)
	if err != nil {
		return fmt.Errorf("read the free space of %s: %w", k.store.dir, err)
	}
	if free < need {
		return fmt.Errorf("%w: it needs %s, %s has %s free: remove old checkpoints (qosctl checkpoints) or give it a bigger disk",
			ErrSpace, mib(need), k.store.dir, mib(free))
	}
	if k.o.MaxBytes <= 0 {
		return nil
	}
	used, err := k.used(ctx)
	if err != nil {
		return err
	}
	if used+need > k.o.MaxBytes {
		return fmt.Errorf("%w: it needs %s, and of the %s that all checkpoints may have %s are in use: remove old ones (qosctl checkpoints) or raise the limit",
			ErrSpace, mib(need), mib(k.o.MaxBytes), mib(used))
	}
	return nil
}

// freeBytes is what a file system has for root.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// used is how many bytes all files of the store have.
func (k *Keeper) used(ctx context.Context) (int64, error) {
	return bytesIn(ctx, k.store.root)
}

// bytesIn is how many bytes all files of a directory have.
func bytesIn(ctx context.Context, d *os.Root) (int64, error) {
	var sum int64
	err := fs.WalkDir(d.FS(), ".", func(_ string, e fs.DirEntry, err error) error {
		if cerr := context.Cause(ctx); cerr != nil {
			return cerr
		}
		if errors.Is(err, fs.ErrNotExist) { // one is being removed
			return nil
		}
		if err != nil {
			return err
		}
		if fi, err := e.Info(); err == nil && fi.Mode().IsRegular() {
			sum += fi.Size()
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("add up the checkpoints: %w", err)
	}
	return sum, nil
}

// mib is a size for people.
func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
