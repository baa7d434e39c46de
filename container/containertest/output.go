package containertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"qosctl/container"
)

func outputOffset(t *testing.T, b *bench) {
	id := b.run(t, container.Spec{Command: `printf '0123456789'`})
	b.wait(t, id)
	for offset, want := range map[int64]string{0: "0123456789", 4: "456789", 10: "", 99: ""} {
		if out := b.output(t, id, container.Stdout, offset); string(out) != want {
			t.Errorf("from %d: %q", offset, out)
		}
	}
	if r, err := b.Engine.Logs(t.Context(), id, container.Stdout, -1); err == nil {
		t.Error("a negative offset is accepted", r.Close())
	}
	if r, err := b.Engine.Logs(t.Context(), id, "stdin", 0); err == nil {
		t.Error("a stream that is none is accepted", r.Close())
	}
}

// outputFollowed reads in pieces, each with a new reader where the last one stood, while the container writes.
func outputFollowed(t *testing.T, b *bench) {
	var want strings.Builder
	for i := range 200 {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	id := b.run(t, container.Spec{Command: `i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); [ $((i % 20)) = 0 ] && sleep 0.02; done; exit 0`})
	var got []byte
	for buf := make([]byte, 100); ; {
		r, err := b.Engine.Logs(t.Context(), id, container.Stdout, int64(len(got)))
		if err != nil {
			t.Fatal(err)
		}
		n, err := r.Read(buf)
		got = append(got, buf[:n]...)
		if p, ok := r.(container.Positioner); !ok || p.Offset() != int64(len(got)) {
			t.Fatalf("the reader does not know where it stands, which is %d", len(got))
		}
		if cerr := r.Close(); cerr != nil {
			t.Fatal(cerr)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if string(got) != want.String() {
		t.Errorf("got %d bytes, want %d, or others", len(got), want.Len())
	}
}

func outputLarge(t *testing.T, b *bench) {
	id := b.run(t, container.Spec{Command: `head -c 10485760 /dev/urandom | tee /dev/stderr | sha256sum | cut -c1-64 > sum; cat sum; exit 0`})
	// Standard error has the bytes, standard output their sum.
	out := b.output(t, id, container.Stderr, 0)
	if len(out) != 10<<20 {
		t.Errorf("%d bytes, want 10 MiB", len(out))
	}
	sum := sha256.Sum256(out)
	if want := bytes.TrimSpace(b.output(t, id, container.Stdout, 0)); hex.EncodeToString(sum[:]) != string(want) {
		t.Errorf("the output's sum is not %s", want)
	}
}

func contextEnds(t *testing.T, b *bench) {
	id, _ := b.running(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := b.Engine.Wait(ctx, id); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait: %v", err)
	}
	if r, err := b.Engine.Logs(ctx, id, container.Stdout, 0); err == nil {
		if _, err = r.Read(make([]byte, 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("read of logs: %v", err)
		}
		if err = r.Close(); err != nil {
			t.Error(err)
		}
	} else if b.Observed == nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if took := time.Since(begin); took > patience/2 {
		t.Errorf("it took %v to notice that the context had ended", took)
	}
	if b.Observed != nil {
		return
	}
	r, err := b.Engine.Logs(t.Context(), id, container.Stdout, 0)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { // closed below while it reads
		_, err := r.Read(make([]byte, 1))
		done <- err
		close(done)
	}()
	if err = r.Close(); err != nil {
		t.Error(err)
	}
	end := time.NewTimer(patience)
	defer end.Stop()
	select {
	case err = <-done:
		if err == nil {
			t.Error("a closed reader reads")
		}
	case <-end.C:
		t.Error("closing does not end a read")
	}
}

// An engine that tells ends without anybody waiting tells each once: of one that runs, of one that has ended, of none that is not there.
func endHeralded(t *testing.T, b *bench) {
	h, ok := b.Engine.(container.Herald)
	if !ok {
		t.Skip("this engine heralds nothing: its containers are waited for")
	}
	if err := h.Herald("none-1", func() { t.Error("the end of nothing is told") }); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("what is not there: %v", err)
	}
	created := b.create(t, container.Spec{Command: "true"})
	if err := h.Herald(created, func() { t.Error("the end of one is told that has not begun") }); !errors.Is(err, container.ErrNotSupported) {
		t.Errorf("one that is not started: %v", err)
	}
	id, end := b.running(t)
	told := make(chan struct{}, 2)
	if err := h.Herald(id, func() { told <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	if len(told) > 0 {
		t.Error("the end of one that runs is told")
	}
	end()
	for _, when := range []string{"ends", "has ended"} {
		select {
		case <-told:
		case <-time.After(patience):
			t.Fatalf("nobody is told that it %s", when)
		}
		b.wait(t, id)
		if len(told) > 0 {
			t.Error("an end is told twice")
		}
		if when == "ends" {
			if err := h.Herald(id, func() { told <- struct{}{} }); err != nil {
				t.Fatal(err)
			}
		}
	}
}
