package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"qosctl/container"
)

// followPeriod is how often a reader that has read all there is looks for more.
const followPeriod = 100 * time.Millisecond

// Logs reads an output from a byte offset and follows it. Output older than Options.MaxLog is dropped; a reader that asks for it, or
// that is overtaken, goes on at the first byte that is kept: Offset, less what the last Read returned, is where that Read's bytes stand.
func (e *Engine) Logs(ctx context.Context, id string, s container.Stream, offset int64) (io.ReadCloser, error) {
	if s != container.Stdout && s != container.Stderr || offset < 0 {
		return nil, fmt.Errorf("logs of container %s: stream %q from %d: stdout or stderr, from 0", id, s, offset)
	}
	r, err := e.load(id)
	if err != nil {
		return nil, fmt.Errorf("logs: %w", err)
	}
	f, err := os.Open(filepath.Join(r.dir, string(s)))
	if err != nil {
		return nil, fmt.Errorf("logs of container %s: %w", id, err)
	}
	l := &follower{f: f, mark: markName(r.dir, s), exited: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(ctx)
	l.off.Store(offset)

	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		l.cancel()
		return nil, errors.Join(errClosed, f.Close())
	}
	e.closers[l] = l.cancel
	l.forget = func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.closers, l)
	}
	e.wg.Go(func() {
		if _, err := e.Wait(l.ctx, id); err == nil || errors.Is(err, container.ErrNotFound) {
			close(l.exited)
		}
	})
	return l, nil
}

var errClosed = errors.New("the engine is closed")

// follower reads one output to the end of its container.
type follower struct {
	f      *os.File
	mark   string        // file that says how much was dropped
	exited chan struct{} // closed when nothing will be written any more
	forget func()

	ctx    context.Context //nolint:containedctx // a reader has no other way to be cancelled
	cancel context.CancelFunc

	mu    sync.Mutex // one Read at a time
	off   atomic.Int64
	size  int64 // of the file, at the last look
	ended bool
}

var _ container.Positioner = (*follower)(nil)

// Offset is where the next byte stands.
func (l *follower) Offset() int64 { return l.off.Load() }

// Read blocks until there is output, or the container has exited and all was read.
func (l *follower) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, err := l.f.ReadAt(p, l.off.Load())
		if n > 0 {
			if n = l.skip(p, n); n > 0 {
				return n, nil
			}
			continue
		}
		if errors.Is(err, os.ErrClosed) && l.ctx.Err() != nil {
			return 0, l.ctx.Err()
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if l.emptied() {
			continue
		}
		if err := l.ctx.Err(); err != nil { // what was there is read
			return 0, err
		}
		if l.ended {
			return 0, io.EOF
		}
		l.pause()
	}
}

// emptied reports whether the job itself has truncated its output since the last look, and then begins anew.
func (l *follower) emptied() bool {
	fi, err := l.f.Stat()
	if err != nil {
		return false
	}
	was := l.size
	l.size = fi.Size()
	if l.size >= was || l.size >= l.off.Load() {
		return false
	}
	l.off.Store(0)
	return true
}

// skip takes n bytes just read and drops those that were dropped from the file, maybe while they were read: the mark is written first.
func (l *follower) skip(p []byte, n int) int {
	off := l.off.Load()
	if kept := readMark(l.mark); kept > off {
		gone := min(kept-off, int64(n))
		n = copy(p, p[gone:n])
		off = kept
	}
	l.off.Store(off + int64(n))
	return n
}

func (l *follower) pause() {
	t := time.NewTimer(followPeriod)
	defer t.Stop()
	select {
	case <-l.ctx.Done():
	case <-l.exited:
		l.ended = true // what was written before is still to be read
	case <-t.C:
	}
}

// Close ends a Read that waits, too.
func (l *follower) Close() error {
	l.cancel()
	l.forget()
	return l.f.Close()
}

func markName(dir string, s container.Stream) string { return filepath.Join(dir, string(s)+".dropped") }

// readMark is how many bytes were dropped at the beginning of an output.
func readMark(name string) int64 {
	b, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// writeMark replaces it. Not synced: after a power cut there is no payload that writes, and a hole reads as zeros.
func writeMark(name string, n int64) error {
	tmp := name + ".new"
	err := os.WriteFile(tmp, strconv.AppendInt(nil, n, 10), 0o600)
	if err == nil {
		err = os.Rename(tmp, name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write how much output was dropped: %w", err)
	}
	return err
}
