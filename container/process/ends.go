package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// ends waits for the ends of many processes at once: one epoll, and one goroutine that reads it while there is anything to wait for. A waiter
// in Go's own poller each would have an open file, a timer and twice the stack. The zero value is ready.
type ends struct {
	mu      sync.Mutex
	poll    *os.File // nil: nobody waits
	fd      int      // of poll
	waiting map[int]waiter
	reader  *sync.WaitGroup // who reads it
	closed  bool            // who does not wait is not told any more
}

// waiter is who is told of the end of the process behind a pidfd.
type waiter struct {
	ended  func() // called once, with the lock held; nil: it was
	leaves bool   // it closes the pidfd itself, when it leaves; else who reads the epoll does
}

// await returns when the process behind pidfd has ended. It closes pidfd.
func (w *ends) await(ctx context.Context, pidfd int) error {
	ended := make(chan struct{})
	if err := w.join(pidfd, waiter{ended: func() { close(ended) }, leaves: true}); err != nil {
		return err
	}
	defer w.leave(pidfd)
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// join has a pidfd watched. It closes pidfd on an error.
func (w *ends) join(pidfd int, by waiter) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed && !by.leaves {
		return errors.Join(os.ErrClosed, unix.Close(pidfd))
	}
	if w.poll == nil {
		if err := w.begin(); err != nil {
			return errors.Join(err, unix.Close(pidfd))
		}
	}
	if err := unix.EpollCtl(w.fd, unix.EPOLL_CTL_ADD, pidfd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(pidfd)}); err != nil {
		_ = w.endIfIdle() // its reader ends by itself
		return errors.Join(fmt.Errorf("watch a process: %w", err), unix.Close(pidfd))
	}
	w.waiting[pidfd] = by
	return nil
}

// begin opens the epoll, and starts who reads it. The caller holds w.mu.
func (w *ends) begin() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("watch processes: %w", err)
	}
	poll, err := pollable(fd, "epoll of processes")
	if err != nil {
		return err
	}
	w.poll, w.fd, w.waiting, w.reader = poll, fd, map[int]waiter{}, new(sync.WaitGroup)
	w.reader.Go(func() { w.read(poll) })
	return nil
}

// leave ends the watch of a pidfd, and closes it. The last one waits for who read the epoll.
func (w *ends) leave(pidfd int) {
	w.mu.Lock()
	w.drop(pidfd)
	reader := w.endIfIdle()
	w.mu.Unlock()
	reader.Wait()
}

// drop takes a pidfd out, and closes it. The caller holds w.mu.
func (w *ends) drop(pidfd int) {
	delete(w.waiting, pidfd)
	_ = unix.EpollCtl(w.fd, unix.EPOLL_CTL_DEL, pidfd, nil) // it is out already if its process has ended
	_ = unix.Close(pidfd)                                   // nothing was written
}

// close ends the watch of all that don't leave by themselves. None of them is called any more.
func (w *ends) close() {
	w.mu.Lock()
	w.closed = true
	reader := new(sync.WaitGroup)
	if w.poll != nil {
		for pidfd, by := range w.waiting {
			if !by.leaves {
				w.drop(pidfd)
			}
		}
		reader = w.endIfIdle()
	}
	w.mu.Unlock()
	reader.Wait()
}

// endIfIdle closes the epoll when nobody waits any more; who reads it, who is returned, ends by that. The caller holds w.mu.
func (w *ends) endIfIdle() (reader *sync.WaitGroup) {
	if len(w.waiting) > 0 {
		return new(sync.WaitGroup)
	}
	_ = w.poll.Close() // nothing was written
	w.poll = nil
	return w.reader
}

// read tells waiters until the epoll is closed.
func (w *ends) read(poll *os.File) {
	for readable(context.Background(), poll) == nil {
		w.tell(poll)
	}
}

// tell wakes those whose processes have ended.
func (w *ends) tell(poll *os.File) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.poll != poll { // closed, and its number perhaps another file's
		return
	}
	var events [32]unix.EpollEvent
	n, err := unix.EpollWait(w.fd, events[:], 0)
	if err != nil { // interrupted: it is still readable
		return
	}
	for _, e := range events[:n] {
		pidfd := int(e.Fd)
		by, waits := w.waiting[pidfd]
		if !waits {
			continue
		}
		if by.ended != nil {
			by.ended()
		}
		if by.leaves { // its place is kept until then
			_ = unix.EpollCtl(w.fd, unix.EPOLL_CTL_DEL, pidfd, nil) // an ended process stays readable: once is enough
			w.waiting[pidfd] = waiter{leaves: true}
			continue
		}
		w.drop(pidfd)
	}
	_ = w.endIfIdle() // then this is its reader, which ends
}
