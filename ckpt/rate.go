package ckpt

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/time/rate"
)

// NewRate makes a limit of bytes a second for all streams that it is given to; nil for 0: none.
func NewRate(bytesPerSecond int64) *rate.Limiter {
	if bytesPerSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(bytesPerSecond), int(min(max(bytesPerSecond/4, 4<<10), chunkSize)))
}

// spend waits until n bytes may pass.
func spend(ctx context.Context, l *rate.Limiter, n int) error {
	if l == nil {
		return nil
	}
	for n > 0 {
		part := min(n, max(1, l.Burst()))
		if err := l.WaitN(ctx, part); err != nil {
			return fmt.Errorf("wait for the rate limit: %w", err)
		}
		n -= part
	}
	return nil
}

// limitedWriter keeps what is written to a rate, and ends with its context.
type limitedWriter struct {
	ctx  context.Context //nolint:containedctx // as long as one stream
	w    io.Writer
	rate *rate.Limiter
}

// Write writes when it may.
func (l *limitedWriter) Write(b []byte) (int, error) {
	if err := l.ctx.Err(); err != nil {
		return 0, err
	}
	if err := spend(l.ctx, l.rate, len(b)); err != nil {
		return 0, err
	}
	return l.w.Write(b)
}

// limitedReader likewise.
type limitedReader struct {
	ctx  context.Context //nolint:containedctx // as long as one stream
	r    io.Reader
	rate *rate.Limiter
	n    int64
}

// Read reads, and waits for what it has read.
func (l *limitedReader) Read(b []byte) (int, error) {
	if err := l.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := l.r.Read(b)
	l.n += int64(n)
	if werr := spend(l.ctx, l.rate, n); werr != nil {
		return n, werr
	}
	return n, err
}
