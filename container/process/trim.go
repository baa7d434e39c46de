package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"qosctl/container"
)

// trimPeriod is how often a shim looks at the size of the outputs.
const trimPeriod = time.Second

const blockSize = 4096

// trim keeps both outputs bounded until ctx ends.
func (s *shim) trim(ctx context.Context) {
	if s.conf.MaxLog <= 0 {
		return
	}
	t := time.NewTicker(trimPeriod)
	defer t.Stop()
	for {
		for _, n := range []container.Stream{container.Stdout, container.Stderr} {
			err := dropOld(s.dir, n, s.conf.MaxLog)
			if errors.Is(err, unix.EOPNOTSUPP) {
				s.log.Warn("this file system can't punch holes: outputs are not bounded", "err", err)
				return
			}
			if err != nil {
				s.log.Warn("bound an output", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// dropOld gives the disk back what is older than the last keep bytes of an output. Its size, and every offset in it, stay as they are.
func dropOld(dir string, n container.Stream, keep int64) error {
	name := filepath.Join(dir, string(n))
	fi, err := os.Stat(name)
	if err != nil {
		return err
	}
	mark := markName(dir, n)
	cut := cutAt(fi.Size(), readMark(mark), keep)
	if cut == 0 {
		return nil
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err = writeMark(mark, cut); err == nil { // first, so that no reader takes the hole for output
		err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, cut)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("drop the first %d bytes of %s: %w", cut, n, err)
	}
	return nil
}

// cutAt is how many bytes at the beginning of an output of that size go, 0 if none do now. A quarter more than keep may pile up first.
func cutAt(size, dropped, keep int64) int64 {
	if size-dropped <= keep+keep/4 {
		return 0
	}
	cut := (size - keep) / blockSize * blockSize
	if cut <= dropped {
		return 0
	}
	return cut
}
