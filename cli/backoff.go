package cli

import (
	"context"
	"math/rand/v2"
	"time"
)

// giveUpAfter is how long a command for people goes on without an agent that it has talked to before.
const giveUpAfter = time.Minute

// backoff spaces attempts: each pause is twice the one before, up to a bound, less a random part.
type backoff struct {
	least, most, next time.Duration
	since             time.Time // of the first failure in a row; zero: none
}

func newBackoff(least, most time.Duration) *backoff {
	return &backoff{least: least, most: most, next: least}
}

// reset is called when an attempt succeeded.
func (b *backoff) reset() {
	b.next = b.least
	b.since = time.Time{}
}

// elapsed is how long attempts have failed.
func (b *backoff) elapsed() time.Duration {
	if b.since.IsZero() {
		return 0
	}
	return time.Since(b.since)
}

// wait pauses before the next attempt. It returns ctx's error if that ends first.
func (b *backoff) wait(ctx context.Context) error {
	if b.since.IsZero() {
		b.since = time.Now()
	}
	pause := b.next/2 + rand.N(b.next/2+1)
	b.next = min(2*b.next, b.most)
	return sleep(ctx, pause)
}

// sleep waits for d, or for ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
