package docker

import (
	"context"
	"fmt"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/system"
)

// Daemon is what a Docker daemon says of itself.
type Daemon struct {
	Version       string
	API           string // the newest that it speaks
	Live          bool   // live-restore
	Experimental  bool
	CgroupVersion string            // "1" or "2"
	CgroupDriver  string            // cgroupfs or systemd
	Runtimes      map[string]string // OCI runtimes: name → program
	Root          string            // its data directory
	Storage       string            // storage driver: overlay2, overlayfs, …
}

// asked is what Describe wants of Docker's client.
type asked interface {
	Info(ctx context.Context) (system.Info, error)
	ServerVersion(ctx context.Context) (types.Version, error)
}

// Describe asks a daemon about itself.
func Describe(ctx context.Context, c asked) (Daemon, error) {
	v, err := c.ServerVersion(ctx)
	if err != nil {
		return Daemon{}, fmt.Errorf("ask Docker's version: %w", err)
	}
	i, err := c.Info(ctx)
	if err != nil {
		return Daemon{}, fmt.Errorf("ask Docker about itself: %w", err)
	}
	d := Daemon{
		Version: v.Version, API: v.APIVersion, Live: i.LiveRestoreEnabled, Experimental: i.ExperimentalBuild, CgroupVersion: i.CgroupVersion,
		CgroupDriver: i.CgroupDriver, Runtimes: map[string]string{}, Root: i.DockerRootDir, Storage: i.Driver,
	}
	for name, r := range i.Runtimes {
		d.Runtimes[name] = r.Path
	}
	return d, nil
}
