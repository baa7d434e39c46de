package ckpt

import (
	"context"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// mounts are the overlays of containers that have ended and whose file systems are being written back.
type mounts struct {
	mu    sync.Mutex
	going map[string]chan struct{} // by container, closed when its overlay is gone
	wait  sync.WaitGroup
}

// hold keeps a container's root file system mounted until release is called. Docker unmounts an overlay before it says that the container has
// exited, and whoever is its last user writes back all that is unwritten on the whole file system below it (the kernel's ovl_sync_fs): the
// images that have just been made, seconds for each GiB. release returns at once: the writing is done beside, and awaited by free.
func (m *mounts) hold(id, root string) (release func()) {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil { // not an overlay of this host's: Docker takes longer, that is all
		return func() {}
	}
	f := os.NewFile(uintptr(fd), root)
	return sync.OnceFunc(func() {
		done := make(chan struct{})
		m.mu.Lock()
		if m.going == nil {
			m.going = map[string]chan struct{}{}
		}
		before := m.going[id]
		m.going[id] = done
		m.mu.Unlock()
		m.wait.Go(func() {
			_ = f.Close() // nothing was written through it
			if before != nil {
				<-before
			}
			m.mu.Lock()
			if m.going[id] == done {
				delete(m.going, id)
			}
			m.mu.Unlock()
			close(done)
		})
	})
}

// free waits until nothing of a container's former file system is mounted any more: an overlay must not be mounted twice.
func (m *mounts) free(ctx context.Context, id string) error {
	m.mu.Lock()
	done := m.going[id]
	m.mu.Unlock()
	if done == nil {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for container %s's file system to be written: %w", id, context.Cause(ctx))
	}
}
