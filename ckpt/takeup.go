package ckpt

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// RecoverError says why Recover could not take up some checkpoints: TakeUp tries each of them again.
type RecoverError map[Ref]error

// Error names them in order.
func (e RecoverError) Error() string {
	var list []string
	for r, err := range e {
		list = append(list, fmt.Sprintf("checkpoint %s: %s", r, err))
	}
	slices.Sort(list)
	return strings.Join(list, "; ")
}

// TakeUp tries again what Recover could not do with one checkpoint. The manifest is that of one that Recover would have returned, else empty.
func (k *Keeper) TakeUp(ctx context.Context, r Ref) (m Manifest, err error) {
	leave, err := k.locks.own(ctx, r)
	if err != nil {
		return m, err
	}
	defer leave()
	entries, err := k.store.entries(r.Job)
	if err != nil {
		return m, err
	}
	for _, e := range entries {
		if e.ref != r {
			continue
		}
		if m, err = k.takeUp(ctx, e); err != nil {
			return m, fmt.Errorf("checkpoint %s: %w", r, err)
		}
		if m.Sequence > 0 && !m.Kept {
			return m, nil
		}
	}
	return Manifest{}, nil
}
