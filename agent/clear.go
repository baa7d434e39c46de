package agent

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"qosctl/ckpt"
	"qosctl/container"
	"qosctl/container/docker"
)

// Clear ends and removes the Docker containers below the configuration's cgroup parent, and its checkpoints. It is for a development
// setup that ends; an agent's jobs otherwise outlive it. Without engine.docker it does nothing.
func (c Config) Clear(ctx context.Context) error {
	if c.Engine.Docker == "" {
		return nil
	}
	e, err := openEngines(c, "", slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	list, err := e.docker.List(ctx)
	errs := []error{err}
	for _, i := range list {
		if !strings.HasPrefix(i.Cgroup.CPUAcct, c.Cgroup.Parent+"/") {
			continue // another agent's
		}
		if err := e.docker.Stop(ctx, i.ID, 0); err != nil && !errors.Is(err, container.ErrNotRunning) {
			errs = append(errs, err)
		}
		errs = append(errs, e.docker.Remove(ctx, i.ID))
	}
	if d, ok := e.docker.(*docker.Engine); ok {
		errs = append(errs, d.Clear())
	}
	return errors.Join(append(errs, e.close(), ckpt.RemoveAll(c.checkpoints()))...)
}
