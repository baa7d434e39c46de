package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrNoQuotas says that the kernel, or the cgroups above, don't let cgroups have CPU quotas.
var ErrNoQuotas = errors.New("no CPU quotas")

// Quotas says whether cgroups at or below path can be given CPU quotas; where path is not there yet, the nearest above it counts. It writes
// nothing: that a v2 cgroup above could hand the controller on is enough.
func (f *FS) Quotas(path string) error {
	path, err := cleanPath(path)
	if err != nil {
		return err
	}
	h := f.cpu
	dir := h.at(path)
	for dir != h.dir && !exists(dir) {
		dir = filepath.Dir(dir)
	}
	if h.unified {
		if !f.unifiedHas(&hierarchy{dir: dir}, "cpu") {
			return fmt.Errorf("%w: %s has no cpu controller: enable it in the cgroups above, or boot with it", ErrNoQuotas, dir)
		}
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, "cpu.cfs_quota_us")); err != nil {
		return fmt.Errorf("%w: %w", ErrNoQuotas, err)
	}
	return nil
}
