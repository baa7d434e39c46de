package ckpt

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// ErrTaken says that a sequence is that of another checkpoint on this node. Neither gives way.
var ErrTaken = errors.New("its sequence is another checkpoint's here")

// FetchOptions say which checkpoint is to be had, and from where.
type FetchOptions struct {
	Job      string
	Sequence int
	Digest   string // SHA-256 of the manifest, in hexadecimal, from whoever is trusted: the job's row
	// Open begins to read the checkpoint from a position on, as Send writes it. ErrNone and ErrDamaged are taken as the last word; ErrBusy is
	// waited out for longer than other errors.
	Open     func(ctx context.Context, from Position) (io.ReadCloser, error)
	MaxBytes int64                   // of the checkpoint; 0: what the disk and the limit of all have
	Rate     *rate.Limiter           // of what comes in, in bytes; nil: none. It may be shared
	Stall    time.Duration           // without a byte after which a stream is given up for another try; 0: 30 s
	Progress func(done, whole int64) // of the content, in bytes; nil: nobody asks
}

// Fetched is a checkpoint that is there.
type Fetched struct {
	Manifest Manifest
	Already  bool  // it was here before
	Tries    int   // streams that were begun
	Wire     int64 // bytes that came in
}

// Bounds of tries. A try that brought something is not held against the source, but for the number of all.
const (
	maxVain  = 5
	maxBusy  = 20
	maxTries = 200
	waitLow  = 200 * time.Millisecond
	waitHigh = 10 * time.Second
)

// check refuses orders that can't be meant.
func (o FetchOptions) check() error {
	if raw, err := hex.DecodeString(o.Digest); err != nil || len(raw) != 32 {
		return fmt.Errorf("fetch a checkpoint: digest %.80q is no SHA-256", o.Digest)
	}
	if o.Open == nil || o.MaxBytes < 0 || o.Stall < 0 {
		return errors.New("fetch a checkpoint: a source and bounds that are not negative are needed")
	}
	return Ref{o.Job, o.Sequence}.check()
}

// Fetch gets a checkpoint from another node, verified while it comes in, under its own sequence. It is there whole or not at all; what is half
// there after an error or a crash is used by the next Fetch of the same, and removed by Prune if there is none. One that is here already, with
// this digest, is only looked at: so in a shared directory nothing is copied.
func (k *Keeper) Fetch(ctx context.Context, o FetchOptions) (out Fetched, err error) {
	if err := o.check(); err != nil {
		return out, err
	}
	if o.Stall == 0 {
		o.Stall = 30 * time.Second
	}
	r := Ref{o.Job, o.Sequence}
	release, err := k.locks.sealing(ctx, r) // one at a time, and neither Prune nor Remove meanwhile
	if err != nil {
		return out, err
	}
	defer release()
	if m, err := k.alreadyHere(r, o.Digest); err != nil || m != nil { //nolint:contextcheck // a look at the disk
		if m != nil {
			out = Fetched{Manifest: *m, Already: true}
		}
		return out, err
	}
	f, err := k.openFetch(ctx, r, o)
	if err != nil {
		return out, fmt.Errorf("fetch checkpoint %s: %w", r, noSpace(err))
	}
	defer f.close()
	begin := time.Now()
	if err := f.run(ctx); err != nil {
		return out, fmt.Errorf("fetch checkpoint %s: %w", r, noSpace(err))
	}
	if err := f.finish(ctx); err != nil {
		if errors.Is(err, ErrDamaged) { // another try would find the same
			err = errors.Join(err, k.store.remove(f.name))
		}
		return out, fmt.Errorf("fetch checkpoint %s: %w", r, noSpace(err))
	}
	k.log.Info("checkpoint fetched", "checkpoint", r.String(), "node", f.m.Node, "bytes", f.m.Bytes, "wire", f.wire.Load(), "tries", f.tries, "took", time.Since(begin))
	return Fetched{Manifest: f.m, Tries: f.tries, Wire: f.wire.Load()}, nil
}

// alreadyHere looks for a checkpoint under the reference; one that is another is ErrTaken.
func (k *Keeper) alreadyHere(r Ref, want string) (*Manifest, error) {
	m, has, err := k.Describe(context.Background(), r)
	switch {
	case errors.Is(err, ErrNone):
		return nil, nil //nolint:nilnil // it is to be fetched
	case errors.Is(err, ErrBusy):
		return nil, fmt.Errorf("checkpoint %s: %w: it is being taken", r, ErrTaken)
	case err != nil:
		return nil, err
	case has != want:
		return nil, fmt.Errorf("checkpoint %s: %w: it was taken on node %s and has digest %.16s…, not %.16s…", r, ErrTaken, m.Node, has, want)
	}
	return &m, nil
}

// run reads streams until all is there.
func (f *fetching) run(ctx context.Context) error {
	vain, busy, wait := 0, 0, waitLow
	var last error
	for f.tries = 1; f.tries <= maxTries; f.tries++ {
		before := f.verified
		err := f.try(ctx)
		if err == nil {
			return nil
		}
		if cause := context.Cause(ctx); cause != nil {
			return fmt.Errorf("%w (%s of %s are here)", cause, mib(f.verified), mib(f.m.Bytes))
		}
		if last = err; lasting(err) {
			return err
		}
		if f.verified > before {
			vain, busy, wait = 0, 0, waitLow
		}
		if errors.Is(err, ErrBusy) { // it is being sealed there, or others are served first
			busy++
		} else {
			vain++
		}
		if vain >= maxVain || busy >= maxBusy {
			break
		}
		f.k.log.Debug("a stream of a checkpoint broke", "checkpoint", f.ref.String(), "try", f.tries, "bytes", f.verified, "err", err)
		if err := pause(ctx, wait/2+rand.N(wait)); err != nil { // ± half: many nodes may wait for one source
			return err
		}
		wait = min(2*wait, waitHigh)
	}
	return fmt.Errorf("given up after %d tries with %s of %s: %w", min(f.tries, maxTries), mib(f.verified), mib(f.m.Bytes), last)
}

// lasting says whether another try can't help.
func lasting(err error) bool {
	for _, e := range []error{ErrDamaged, ErrNone, ErrSpace, ErrTaken, errLocal} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// errLocal is of what happens on this node.
var errLocal = errors.New("write the checkpoint")

// try reads one stream from the position where the last one broke.
func (f *fetching) try(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	body, err := f.o.Open(ctx, f.at)
	if err != nil {
		return fmt.Errorf("ask for it: %w", err)
	}
	var stalled atomic.Bool
	timer := time.AfterFunc(f.o.Stall, func() {
		stalled.Store(true)
		stop()
	})
	defer timer.Stop()
	closed := make(chan struct{})
	shut := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = body.Close() // who reads it learns of the end
	})
	in := &limitedReader{ctx: ctx, r: &wakeful{body, timer, f.o.Stall}, rate: f.o.Rate}
	err = f.receive(ctx, in)
	f.wire.Add(in.n)
	if shut() {
		_ = body.Close() // all that counts was read
	} else {
		<-closed
	}
	if err != nil && stalled.Load() {
		return fmt.Errorf("%w: nothing came for %s", errWire, f.o.Stall)
	}
	return err
}

// wakeful gives each reading its time.
type wakeful struct {
	r     io.Reader
	timer *time.Timer
	stall time.Duration
}

// Read reads.
func (w *wakeful) Read(b []byte) (int, error) {
	w.timer.Reset(w.stall)
	defer w.timer.Stop() // what is done with it takes as long as it takes
	return w.r.Read(b)
}
