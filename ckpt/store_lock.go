package ckpt

import (
	"context"
	"fmt"
	"sync"
)

// locks say who uses what. Restoring and verifying share a checkpoint; what renames or removes it owns it; sealing is done by one at a time,
// beside a restore. A container is held by one operation.
type locks struct {
	mu         sync.Mutex
	containers map[string]bool
	refs       map[Ref]*usage
}

type usage struct {
	readers int
	owned   bool
	sealing bool
	changed chan struct{} // closed at the next change
}

// container takes a container for one operation, ErrBusy if another has it.
func (l *locks) container(id string) (release func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.containers[id] {
		return nil, fmt.Errorf("container %s: %w", id, ErrBusy)
	}
	if l.containers == nil {
		l.containers = make(map[string]bool)
	}
	l.containers[id] = true
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.containers, id)
	}, nil
}

// usage is the entry of r; l.mu is held.
func (l *locks) usage(r Ref) *usage {
	if l.refs == nil {
		l.refs = make(map[Ref]*usage)
	}
	u := l.refs[r]
	if u == nil {
		u = &usage{changed: make(chan struct{})}
		l.refs[r] = u
	}
	return u
}

// take waits until can says yes, and notes it by do; release is undone by undo.
func (l *locks) take(ctx context.Context, r Ref, can func(*usage) bool, do, undo func(*usage)) (release func(), err error) {
	for {
		l.mu.Lock()
		u := l.usage(r)
		if can(u) {
			do(u)
			l.mu.Unlock()
			return func() { l.release(r, undo) }, nil
		}
		changed := u.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for checkpoint %s, which is in use: %w", r, context.Cause(ctx))
		}
	}
}

func (l *locks) release(r Ref, undo func(*usage)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.usage(r)
	undo(u)
	close(u.changed)
	u.changed = make(chan struct{})
	if u.readers == 0 && !u.owned && !u.sealing {
		delete(l.refs, r) // who waited looks again, and finds or makes the next one
	}
}

// share keeps a checkpoint from being renamed or removed.
func (l *locks) share(ctx context.Context, r Ref) (release func(), err error) {
	return l.take(ctx, r, func(u *usage) bool { return !u.owned }, func(u *usage) { u.readers++ }, func(u *usage) { u.readers-- })
}

// own waits until nobody else uses a checkpoint.
func (l *locks) own(ctx context.Context, r Ref) (release func(), err error) {
	return l.take(ctx, r, func(u *usage) bool { return !u.owned && u.readers == 0 },
		func(u *usage) { u.owned = true }, func(u *usage) { u.owned = false })
}

// sealing waits until nobody else seals a checkpoint.
func (l *locks) sealing(ctx context.Context, r Ref) (release func(), err error) {
	return l.take(ctx, r, func(u *usage) bool { return !u.sealing },
		func(u *usage) { u.sealing = true }, func(u *usage) { u.sealing = false })
}

// idle owns a checkpoint that nobody uses or seals at this moment, else ErrBusy.
func (l *locks) idle(r Ref) (release func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.usage(r)
	if u.owned || u.sealing || u.readers > 0 {
		return nil, fmt.Errorf("%w: checkpoint %s is in use", ErrBusy, r)
	}
	u.owned = true
	return func() { l.release(r, func(u *usage) { u.owned = false }) }, nil
}
