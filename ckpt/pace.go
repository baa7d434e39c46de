package ckpt

import (
	"context"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// pace holds a seal back while something is restored: a job that is down waits for the disk and the CPUs that the seal would take.
type pace struct {
	mu   sync.Mutex
	busy int
	idle chan struct{} // closed when nothing is restored any more; nil: nothing is
}

// begin says that a restore begins; the function, that it has ended.
func (p *pace) begin() (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy++; p.busy == 1 {
		p.idle = make(chan struct{})
	}
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.busy--; p.busy == 0 {
			close(p.idle)
			p.idle = nil
		}
	})
}

// wait returns when nothing is restored, or with the end of ctx. Restores have time limits.
func (p *pace) wait(ctx context.Context) error {
	for {
		p.mu.Lock()
		idle := p.idle
		p.mu.Unlock()
		if idle == nil {
			return ctx.Err()
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// syncStep is how many bytes a seal writes back at once.
const syncStep = 8 << 20

// sync makes a file durable, in steps that a restore can come between.
func (p *pace) sync(ctx context.Context, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("sync %s: %w", f.Name(), err)
	}
	const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	for at := int64(0); at < info.Size(); at += syncStep {
		if err := p.wait(ctx); err != nil {
			return err
		}
		if unix.SyncFileRange(int(f.Fd()), at, syncStep, all) != nil {
			break // not on every file system; what counts comes below
		}
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", f.Name(), err)
	}
	return nil
}
