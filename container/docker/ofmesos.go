package docker

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	"qosctl/container"
)

// mesosID is what Mesos' ContainerIDs are made of.
var mesosID = regexp.MustCompile(`^[0-9a-f-]{36}$`)

// OfMesos describes the container that Mesos' Docker containerizer made for a ContainerID: mesos-ID, and mesos-SLAVE.ID up to Mesos 1.3
// (docker.cpp, DOCKER_NAME_PREFIX). Its ID is its name in Docker, by which Resize takes it too; both its counters are of its own cgroup.
func (e *Engine) OfMesos(ctx context.Context, containerID string) (container.Info, error) {
	missing := fmt.Errorf("container of Mesos %q: %w", containerID, container.ErrNotFound)
	if !mesosID.MatchString(containerID) {
		return container.Info{}, missing
	}
	of := regexp.MustCompile(`^/?mesos-(?:.*\.)?` + containerID + `$`)
	list, err := e.o.Client.ContainerList(ctx, dcontainer.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("name", of.String()))})
	if err != nil {
		return container.Info{}, e.failed(ctx, "look for the container of Mesos "+containerID, err)
	}
	for _, c := range list {
		for _, name := range c.Names {
			if of.MatchString(name) {
				return e.Inspect(ctx, strings.TrimPrefix(name, "/"))
			}
		}
	}
	return container.Info{}, missing
}
