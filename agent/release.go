package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"qosctl/container"
)

// Release puts every container whose quota is below its job's request back to the request. It is what remains to be done when an
// agent stops for good (systemd's ExecStopPost): a quota below the request is a loan that nobody would give back.
func Release(ctx context.Context, cfg Config, log *slog.Logger) (released int, err error) {
	_, engine, err := openEngine(cfg, log)
	if err != nil {
		return 0, err
	}
	list, err := engine.List(ctx)
	if err != nil {
		return 0, fmt.Errorf("list containers: %w", err)
	}
	var errs []error
	for _, c := range list {
		request, bad := strconv.ParseFloat(c.Labels[labelRequest], 64)
		if c.State != container.Running || bad != nil || c.Limits.CPUs < 0 || c.Limits.CPUs >= request-0.0005 {
			continue
		}
		if err := engine.Resize(ctx, c.ID, container.Limits{CPUs: request}); err != nil && !errors.Is(err, container.ErrNotRunning) {
			errs = append(errs, fmt.Errorf("release %s: %w", c.ID, err))
			continue
		}
		released++
	}
	return released, errors.Join(errs...)
}
