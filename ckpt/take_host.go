package ckpt

import (
	"errors"
	"time"

	"qosctl/cgroup"
)

// kernel is the host that runs.
type kernel struct{ fs *cgroup.FS }

func (h kernel) counter(g cgroup.Group) (time.Duration, error) {
	r, err := h.fs.OpenReader(g)
	if err != nil {
		return 0, err
	}
	d, err := r.Usage()
	return d, errors.Join(err, r.Close())
}

func (h kernel) pids(g cgroup.Group) ([]int, error) { return h.fs.Procs(g.CPU) }
func (h kernel) of(pid int) (cgroup.Group, error)   { return h.fs.Of(pid) }
func (h kernel) move(g cgroup.Group, pid int) error { return h.fs.Join(g.CPU, pid) }
func (h kernel) cpus(g cgroup.Group) (c float64, err error) {
	l, err := h.fs.OpenLimits(g)
	if err != nil {
		return 0, err
	}
	c, err = l.CPUs()
	return c, errors.Join(err, l.Close())
}
