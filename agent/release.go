package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"qosctl/cgroup"
	"qosctl/container"
	"qosctl/qos"
)

// Release puts every container whose quota is below its job's request back to the request. It is what remains to be done when an
// agent stops for good (systemd's ExecStopPost): a quota below the request is a loan that nobody would give back.
func Release(ctx context.Context, cfg Config, log *slog.Logger) (released int, err error) {
	engines, err := openEngines(cfg, "", log)
	if err != nil {
		return 0, err
	}
	var errs []error
	list, err := engines.containers(ctx)
	if err != nil {
		errs = append(errs, fmt.Errorf("list containers: %w", err))
	}
	for _, c := range list {
		request, bad := strconv.ParseFloat(c.Labels[labelRequest], 64)
		if c.State != container.Running || bad != nil || c.Limits.CPUs < 0 || c.Limits.CPUs >= request-0.0005 {
			continue
		}
		if err := c.engine.Resize(ctx, c.ID, container.Limits{CPUs: request}); err != nil && !errors.Is(err, container.ErrNotRunning) {
			errs = append(errs, fmt.Errorf("release %s: %w", c.ID, err))
			continue
		}
		released++
	}
	adopted, err := releaseAdopted(cfg, engines.cgroups, log)
	return released + adopted, errors.Join(append(errs, err)...)
}

// releaseAdopted does the same for containers that Mesos made, which only the store knows.
func releaseAdopted(cfg Config, groups *cgroup.FS, log *slog.Logger) (released int, err error) {
	rows, err := storedRows(filepath.Join(cfg.DataDir, storeFile), log)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, r := range rows {
		e := r.Record.Status.Execution
		if !r.Record.Status.Steward.Adopted || r.Record.Status.Phase != qos.PhaseRunning || e == nil {
			continue
		}
		path := e.Account.Entries[e.Account.Live].Cgroup
		changed, err := raise(groups, cgroup.Group{CPU: path, CPUAcct: path}, newJob(r).request())
		if err != nil && !errors.Is(err, cgroup.ErrGone) {
			errs = append(errs, fmt.Errorf("release %s: %w", r.Record.Spec.Name, err))
		}
		if changed {
			released++
		}
	}
	return released, errors.Join(errs...)
}

// storedRows reads a store as it is: it is neither made, nor set aside, nor changed. Torn rows are left out.
func storedRows(path string, log *slog.Logger) (rows []row, err error) {
	defer func() { // bbolt panics on some damaged pages
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errCorrupt, p)
		}
	}()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: 5 * time.Second})
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil // no agent has ever run here
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("open %s: an agent holds it", path)
	case err != nil:
		return nil, fmt.Errorf("open the store: %w", err)
	}
	defer db.Close() //nolint:errcheck // only read
	err = db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketJobs)
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			var r row
			if err := open(v, &r); err != nil {
				log.Warn("a job's row can't be read: its container is not released", "job", string(k), "err", err)
				return nil
			}
			rows = append(rows, r)
			return nil
		})
	})
	return rows, err
}

// raise lifts a quota below the request to the request.
func raise(groups *cgroup.FS, g cgroup.Group, request float64) (changed bool, err error) {
	l, err := groups.OpenLimits(g)
	if err != nil {
		return false, err
	}
	defer l.Close() //nolint:errcheck // each write says whether it was made
	if in, err := l.CPUs(); err != nil || in < 0 || in >= request-0.0005 {
		return false, err
	}
	return l.SetCPUs(request)
}
