package docker

import (
	"log/slog"

	"github.com/docker/docker/client"

	"qosctl/cgroup"
)

// Options are what an Engine is made of.
type Options struct {
	Client  *client.Client // its version is negotiated: API 1.41 (Docker 20.10) and later
	Cgroups *cgroup.FS
	Parent  string       // cgroup below which each execution's parent stands: "/qosctl"
	Proc    string       // "/proc"
	Logger  *slog.Logger // nil: nothing is logged
}

// Engine is container.Engine over a Docker daemon. A container's ID is its name in Docker.
type Engine struct {
	o Options
}
