package docker

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	dcontainer "github.com/docker/docker/api/types/container"

	"qosctl/container"
)

// Logs reads an output from a byte offset. Docker knows no offsets: the stream is read from its beginning, and what is before the
// offset dropped, so that nothing needs to be remembered. When the daemon goes away it is read again from there.
func (e *Engine) Logs(ctx context.Context, id string, s container.Stream, offset int64) (io.ReadCloser, error) {
	if s != container.Stdout && s != container.Stderr || offset < 0 {
		return nil, fmt.Errorf("output of container %s: no stream %q from %d", id, s, offset)
	}
	follow := ctx.Err() == nil // one that has ended: what is there
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := &logReader{engine: e, id: id, stream: s, offset: offset, follow: follow, ctx: inner, cause: ctx, cancel: cancel}
	if follow {
		l.stop = context.AfterFunc(ctx, cancel)
	}
	if err := l.open(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// life is where a container stood when its output was asked for.
type life int

const (
	notYet life = iota // not started
	runs
	over // nothing will be added to its output
)

func lifeOf(s *dcontainer.State) life {
	switch {
	case s.Running || s.Paused || s.Restarting:
		return runs
	case everRan(s) || neverWill(s):
		return over
	}
	return notYet
}

// logReader reads one output of a container.
type logReader struct {
	engine *Engine
	id     string
	stream container.Stream
	follow bool
	ctx    context.Context //nolint:containedctx // a reader's life is its own
	cause  context.Context //nolint:containedctx // the caller's, for its error
	cancel context.CancelFunc
	stop   func() bool

	mu     sync.Mutex
	offset int64
	body   io.ReadCloser
	in     *bufio.Reader
	asked  life  // when the stream was opened
	raw    bool  // a TTY: no frames, all of it is standard output
	skip   int64 // bytes of our stream before offset
	left   int64 // of the present frame
	ours   bool  // the present frame is of our stream
	closed bool
}

// Offset is the position of the next byte that Read returns.
func (l *logReader) Offset() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.offset
}

func (l *logReader) open() error {
	c, err := l.engine.look(l.ctx, l.id)
	if err != nil {
		return err
	}
	l.raw, l.asked = c.Config.Tty, lifeOf(c.State)
	body, err := l.engine.o.Client.ContainerLogs(l.ctx, c.ID, dcontainer.LogsOptions{ShowStdout: l.stream == container.Stdout, ShowStderr: l.stream == container.Stderr, Follow: l.follow})
	if err != nil {
		return l.engine.failed(l.ctx, "output of container "+l.id, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errors.Join(errClosed, body.Close())
	}
	l.body, l.in, l.skip, l.left = body, bufio.NewReaderSize(body, 64<<10), l.offset, 0
	if l.raw && l.stream == container.Stderr {
		l.skip = 1 << 62 // it has none
	}
	return nil
}

// Read returns output, or io.EOF when the container has exited and all was read.
func (l *logReader) Read(p []byte) (int, error) {
	for try := 0; ; try++ {
		n, err := l.readOnce(p)
		if n > 0 {
			l.mu.Lock()
			l.offset += int64(n)
			l.mu.Unlock()
			return n, nil
		}
		if end := l.end(err, try); end != nil {
			return 0, end
		}
		again := !errors.Is(err, io.EOF) // the daemon went away in the middle
		if !again {
			again = l.asked == notYet || try >= settleTries
		}
		if !l.engine.backOff(l.ctx, try) || !again {
			continue
		}
		_ = l.body.Close() // it is broken, or at its end
		l.in.Reset(l.body) // what was read ahead is void, should the daemon not be back
		if err := l.open(); errors.Is(err, container.ErrNotFound) {
			return 0, err
		}
	}
}

const (
	settleTries = 6 // a stream may end a moment before Docker says that its container has
	errorTries  = 5
)

// end says with what the reading ends after a stream did; nil: it goes on. Only a stream that Docker has ended properly (io.EOF) is the
// whole output: one that was torn off, as by a killed daemon, may lack what the container has written at its end.
func (l *logReader) end(err error, try int) error {
	whole := errors.Is(err, io.EOF)
	switch {
	case l.isClosed():
		return errClosed
	case l.ctx.Err() != nil:
		return l.ended()
	case whole && l.asked == over:
		return io.EOF
	case whole && l.follow && l.asked == runs && l.isOver():
		return io.EOF
	case whole && !l.follow: // all that is there was read
		return l.cause.Err()
	case !l.follow:
		return l.engine.failed(l.ctx, "output of container "+l.id, err)
	case errors.Is(err, errLog) && try >= errorTries:
		return fmt.Errorf("output of container %s: %w", l.id, err)
	}
	return nil
}

var (
	errClosed = errors.New("the reader is closed")
	errLog    = errors.New("docker can't read it")
)

func (l *logReader) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

func (l *logReader) ended() error {
	if err := l.cause.Err(); err != nil {
		return err
	}
	return l.ctx.Err()
}

// isOver says whether the container does not run any more.
func (l *logReader) isOver() bool {
	c, err := l.engine.look(l.ctx, l.id)
	if err != nil {
		return errors.Is(err, container.ErrNotFound)
	}
	return lifeOf(c.State) == over
}

// readOnce reads what comes next of our stream. io.EOF: the stream has ended, between two frames.
func (l *logReader) readOnce(p []byte) (int, error) {
	for {
		if err := l.frame(); err != nil {
			return 0, err
		}
		if !l.ours || l.skip > 0 {
			if err := l.drop(); err != nil {
				return 0, l.torn(err)
			}
			continue
		}
		if !l.raw {
			p = p[:min(int64(len(p)), l.left)]
		}
		n, err := l.in.Read(p)
		l.left -= int64(n)
		return n, l.torn(err)
	}
}

// torn is the error of a stream that ends within a frame.
func (l *logReader) torn(err error) error {
	if errors.Is(err, io.EOF) && !l.raw {
		return io.ErrUnexpectedEOF
	}
	return err
}

// drop passes over what is not ours, or was read before.
func (l *logReader) drop() error {
	n := l.left
	if l.ours {
		n = min(n, l.skip)
	}
	if l.raw {
		n = min(l.skip, int64(max(1, l.in.Buffered())))
	}
	d, err := l.in.Discard(int(min(n, 1<<20)))
	l.left -= int64(d)
	if l.ours {
		l.skip -= int64(d)
	}
	return err
}

// Docker's kinds of frames.
const (
	frameStdout = 1
	frameStderr = 2
	frameError  = 3
)

// frame reads the next frame's head, if the present one is used up: kind, three zeros, length.
func (l *logReader) frame() error {
	if l.raw {
		l.ours = true
		_, err := l.in.Peek(1)
		return err
	}
	for l.left <= 0 {
		var head [8]byte
		if _, err := io.ReadFull(l.in, head[:]); err != nil {
			return err
		}
		l.left = int64(binary.BigEndian.Uint32(head[4:]))
		switch head[0] {
		case frameStdout:
			l.ours = l.stream == container.Stdout
		case frameStderr:
			l.ours = l.stream == container.Stderr
		case frameError:
			text, err := io.ReadAll(io.LimitReader(l.in, min(l.left, 4<<10)))
			l.left -= int64(len(text))
			return errors.Join(fmt.Errorf("%w: %s", errLog, text), l.torn(err))
		default:
			return fmt.Errorf("%w: a frame of kind %d", errLog, head[0])
		}
	}
	return nil
}

// Close ends the reading, also one under way.
func (l *logReader) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if l.stop != nil {
		l.stop()
	}
	l.cancel()
	if l.body != nil {
		_ = l.body.Close() // its error is the cancelled context's
	}
	return nil
}
