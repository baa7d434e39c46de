package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// ends waits for the ends of many processes at once: one epoll, and one goroutine that reads it while anybody waits. Each waiter in Go's own
// poller would have an open file, a timer and twice the stack, which is three megabytes with a thousand containers. The zero value is ready.
type ends struct {
	mu      sync.Mutex
	poll    *os.File // nil: nobody waits
	fd      int      // of poll
	waiting map[int]chan struct{}
	reader  *sync.WaitGroup // who reads it
}

// await returns when the process behind pidfd has ended. It closes pidfd.
func (w *ends) await(ctx context.Context, pidfd int) error {
	ended, err := w.join(pidfd)
	if err != nil {
		return errors.Join(err, unix.Close(pidfd))
	}
	defer w.leave(pidfd)
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// join has a pidfd watched. The channel that it returns is closed at the process' end.
func (w *ends) join(pidfd int) (ended <-chan struct{}, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.poll == nil {
		if err := w.begin(); err != nil {
			return nil, err
		}
	}
	if err := unix.EpollCtl(w.fd, unix.EPOLL_CTL_ADD, pidfd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(pidfd)}); err != nil {
		_ = w.endIfIdle() // its reader ends by itself
		return nil, fmt.Errorf("watch a process: %w", err)
	}
	c := make(chan struct{})
	w.waiting[pidfd] = c
	return c, nil
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
	w.poll, w.fd, w.waiting, w.reader = poll, fd, map[int]chan struct{}{}, new(sync.WaitGroup)
	w.reader.Go(func() { w.read(poll) })
	return nil
}

// leave ends the watch of a pidfd, and closes it. The last one waits for who read the epoll.
func (w *ends) leave(pidfd int) {
	w.mu.Lock()
	delete(w.waiting, pidfd)
	_ = unix.EpollCtl(w.fd, unix.EPOLL_CTL_DEL, pidfd, nil) // it is out already if its process has ended
	_ = unix.Close(pidfd)                                   // nothing was written
	reader := w.endIfIdle()
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
		_ = unix.EpollCtl(w.fd, unix.EPOLL_CTL_DEL, pidfd, nil) // an ended process stays readable: once is enough
		if c := w.waiting[pidfd]; c != nil {
			close(c)
			w.waiting[pidfd] = nil // its place is kept until it leaves
		}
	}
}
