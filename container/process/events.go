package process

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"qosctl/container"
)

// rescanPeriod is how often all containers are looked at while events are wanted: it finds payloads that ended without a shim.
const rescanPeriod = 2 * time.Second

// eventBuffer is how many events may wait for their reader.
const eventBuffer = 64

// Events streams starts and exits, of containers of other engines on the same directory too, until ctx ends or the engine is closed.
func (e *Engine) Events(ctx context.Context) (<-chan container.Event, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("events: %w", err)
	}
	f, err := pollable(fd, "inotify")
	if err != nil {
		return nil, fmt.Errorf("events: %w", err)
	}
	w := &watcher{e: e, f: f, out: make(chan container.Event, eventBuffer), dirs: map[int32]string{}, state: map[string]container.State{}}
	if w.root, err = w.watch(e.o.Dir); err == nil {
		err = w.rescan(ctx, false)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("events: %w", err), f.Close())
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errors.Join(errClosed, f.Close())
	}
	e.wg.Go(func() { w.run(ctx) })
	return w.out, nil
}

// watcher turns changes in containers' directories into events.
type watcher struct {
	e     *Engine
	f     *os.File
	out   chan container.Event
	root  int32
	dirs  map[int32]string // watch → container
	state map[string]container.State
}

// watch asks for files that appear in dir.
func (w *watcher) watch(dir string) (int32, error) {
	rc, err := w.f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var wd int
	cerr := rc.Control(func(fd uintptr) {
		wd, err = unix.InotifyAddWatch(int(fd), dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ONLYDIR)
	})
	if err = errors.Join(err, cerr); err != nil {
		return 0, fmt.Errorf("watch %s: %w", dir, err)
	}
	return int32(wd), nil
}

func (w *watcher) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer close(w.out)
	defer w.f.Close() //nolint:errcheck // nothing was written
	stop := context.AfterFunc(ctx, func() { _ = w.f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	w.e.wg.Go(func() { // ends with us, or ends us
		select {
		case <-w.e.done:
			cancel()
		case <-ctx.Done():
		}
	})
	buf := make([]byte, 16<<10)
	next := time.Now().Add(rescanPeriod)
	for ctx.Err() == nil {
		var err error
		if time.Now().After(next) {
			err = w.rescan(ctx, true)
			next = time.Now().Add(rescanPeriod)
		} else if err = w.f.SetReadDeadline(next); err == nil && ctx.Err() == nil {
			var n int
			if n, err = w.f.Read(buf); err == nil {
				err = w.changed(ctx, buf[:n])
			}
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			w.e.log.Warn("watch containers", "err", err)
		}
	}
}

// changed looks at the containers that a batch of inotify's records names.
func (w *watcher) changed(ctx context.Context, b []byte) error {
	ids, overflow := map[string]bool{}, false
	err := parseInotify(b, func(wd int32, mask uint32, name string) {
		switch {
		case mask&unix.IN_Q_OVERFLOW != 0:
			overflow = true
		case mask&unix.IN_IGNORED != 0:
			delete(w.dirs, wd)
		case wd == w.root && idPattern.MatchString(name):
			delete(w.state, name) // a new container, even if one of that name was there
			ids[name] = true
		case name == pidName || name == exitName:
			if id, ok := w.dirs[wd]; ok {
				ids[id] = true
			}
		}
	})
	if err != nil || overflow {
		return errors.Join(err, w.rescan(ctx, true))
	}
	for id := range ids {
		err = errors.Join(err, w.look(ctx, id, true))
	}
	return err
}

// rescan looks at all containers.
func (w *watcher) rescan(ctx context.Context, tell bool) error {
	ids, err := w.e.ids()
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(ids))
	for _, id := range ids {
		there[id] = true
		err = errors.Join(err, w.look(ctx, id, tell))
	}
	for id := range w.state {
		if !there[id] {
			delete(w.state, id)
		}
	}
	return err
}

// look compares a container with what was known of it.
func (w *watcher) look(ctx context.Context, id string, tell bool) error {
	was, known := w.state[id]
	if !known {
		dir, err := w.e.dir(id)
		if err != nil {
			return err
		}
		wd, err := w.watch(dir)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			return nil
		}
		if err != nil {
			return err
		}
		w.dirs[wd] = id
		was = container.Created
	} else if was == container.Exited {
		return nil
	}
	r, err := w.e.load(id) // after the watch, so that nothing is missed in between
	if errors.Is(err, container.ErrNotFound) {
		delete(w.state, id)
		return nil
	}
	if err != nil {
		return err
	}
	w.state[id] = r.state
	if !tell || r.state == was {
		return nil
	}
	if was == container.Created && r.hasRun {
		w.tell(ctx, container.Event{ID: id, Kind: container.EventStart, At: r.run.Started})
	}
	if r.state == container.Exited {
		w.tell(ctx, container.Event{ID: id, Kind: container.EventExit, At: r.exit.Finished})
	}
	return nil
}

func (w *watcher) tell(ctx context.Context, ev container.Event) {
	select {
	case w.out <- ev:
	case <-ctx.Done():
	}
}

var errInotify = errors.New("not a record of inotify")

// parseInotify calls f for each record of a read from inotify.
func parseInotify(b []byte, f func(wd int32, mask uint32, name string)) error {
	for len(b) > 0 {
		if len(b) < unix.SizeofInotifyEvent {
			return errInotify
		}
		wd := int32(binary.NativeEndian.Uint32(b)) //nolint:gosec // the kernel's int
		mask, size := binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint32(b[12:])
		b = b[unix.SizeofInotifyEvent:]
		if uint64(size) > uint64(len(b)) {
			return errInotify
		}
		f(wd, mask, strings.TrimRight(string(b[:size]), "\x00"))
		b = b[size:]
	}
	return nil
}
