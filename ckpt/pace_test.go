package ckpt

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
)

// TestPace: a seal stands still as long as anything is restored, and no longer.
func TestPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p pace
		if err := p.wait(t.Context()); err != nil {
			t.Fatalf("nothing is restored: %v", err)
		}
		one, two := p.begin(), p.begin()
		done := make(chan error)
		go func() { done <- p.wait(t.Context()) }()
		for _, end := range []func(){one, one} { // an end counts once
			synctest.Wait()
			select {
			case err := <-done:
				t.Fatal("a seal goes on while something is restored: ", err)
			default:
			}
			end()
		}
		synctest.Wait()
		two()
		if err := <-done; err != nil {
			t.Error(err)
		}
		defer p.begin()()
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if err := p.wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("a seal that is stopped waits on: %v", err)
		}
	})
}

func TestPaceSyncs(t *testing.T) {
	t.Parallel()
	var p pace
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 2*syncStep+1)); err != nil {
		t.Fatal(err)
	}
	if err := p.sync(t.Context(), f); err != nil {
		t.Error(err)
	}
	defer p.begin()()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := p.sync(ctx, f); !errors.Is(err, context.Canceled) {
		t.Errorf("while something is restored: %v", err)
	}
}
