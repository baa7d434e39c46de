package agent

import (
	"context"
	"fmt"
	"log/slog"

	"qosctl/cgroup"
)

// ErrNoAccess says that cgroups can't be written: by an ordinary user without a delegated subtree, or on a read-only mount.
var ErrNoAccess = cgroup.ErrNoAccess

// Check says whether containers can be made below c.Parent: nil, or an error that wraps ErrNoAccess.
func (c CgroupConfig) Check() error {
	groups, err := c.open()
	if err != nil {
		return err
	}
	return groups.AccessBelow(c.Parent)
}

// Clear kills every process below c.Parent and removes the cgroups there, c.Parent too. It is for a development setup that ends; an
// agent's jobs otherwise outlive it.
func (c CgroupConfig) Clear(ctx context.Context) error {
	groups, err := c.open()
	if err != nil {
		return err
	}
	if err := groups.Kill(ctx, c.Parent); err != nil {
		return err
	}
	return groups.Remove(c.Parent) //nolint:contextcheck // it is bounded by itself
}

func (c CgroupConfig) open() (*cgroup.FS, error) {
	groups, err := cgroup.New(cgroup.Options{Root: c.Root, Proc: c.Proc, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, fmt.Errorf("find cgroups: %w", err)
	}
	return groups, nil
}
