package zkfence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"qosctl/gossip/zkfence/zktest"
)

func open(t *testing.T, addr string) *Fence {
	t.Helper()
	f, err := New(Options{Servers: []string{addr}, Path: "/qosctl/test", Session: 4 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

const job = "11111111-2222-4333-8444-555555555555"

func TestOneOfManyClaimsOfAnEpochHolds(t *testing.T) {
	addr := zktest.Start(t).Addr
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	fences := make([]*Fence, 4)
	for i := range fences {
		fences[i] = open(t, addr)
	}
	for epoch := uint64(1); epoch <= 20; epoch++ {
		var (
			wg   sync.WaitGroup
			errs [4]error
		)
		for i, f := range fences {
			wg.Go(func() { errs[i] = f.Claim(ctx, job, epoch, fmt.Sprintf("node%d", i)) })
		}
		wg.Wait()
		held := 0
		for i, err := range errs {
			switch {
			case err == nil:
				held++
				if err := fences[i].Claim(ctx, job, epoch, fmt.Sprintf("node%d", i)); err != nil {
					t.Errorf("the claim that holds can't be repeated: %v", err)
				}
			case !errors.Is(err, ErrFenced):
				t.Fatal(err)
			}
		}
		if held != 1 {
			t.Fatalf("epoch %d is held by %d nodes: %v", epoch, held, errs)
		}
	}
	err := fences[0].Claim(ctx, job, 3, "node0")
	if had, ok := errors.AsType[*FencedError](err); !errors.Is(err, ErrFenced) || !ok || had.Epoch != 20 || had.Node == "" || had.Wanted != 3 {
		t.Errorf("an old epoch was claimed: %v", err)
	}
	if err := fences[0].Forget(ctx, job); err != nil {
		t.Fatal(err)
	}
	if err := fences[1].Claim(ctx, job, 1, "node1"); err != nil {
		t.Errorf("a forgotten job can't be claimed: %v", err)
	}
}

func TestNobodyClaimsWithoutZooKeeper(t *testing.T) {
	t.Parallel()
	f := open(t, "127.0.0.1:1") // nobody listens there
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := f.Claim(ctx, job, 1, "n"); err == nil || errors.Is(err, ErrFenced) {
		t.Errorf("claim: %v, want that it is not known", err)
	}
}

func TestWhatIsNoClaim(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "x", "{}", `{"epoch":-1,"node":"n"}`, `{"epoch":1}`, string(bytes.Repeat([]byte("x"), maxData+1))} {
		if c, err := parse([]byte(bad)); err == nil {
			t.Errorf("%.20q was read as %v", bad, c)
		}
	}
	f := &Fence{root: "/r"}
	for _, bad := range []string{"", ".", "..", "a/b", "a\x00"} {
		if at, err := f.znode(bad); err == nil {
			t.Errorf("%q has the znode %s", bad, at)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"epoch":3,"node":"n"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := parse(b); err == nil && c.Node == "" {
			t.Error("a claim of nobody")
		}
	})
}
