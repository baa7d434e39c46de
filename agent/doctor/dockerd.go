package doctor

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"qosctl/agent/api"
	"qosctl/cgroup"
	"qosctl/container/docker"
)

// Docker says where Docker is, and what is wanted of it.
type Docker struct {
	Address string      // unix:///path; "": none is configured
	Cgroups cgroup.Mode // as it was found; "": it was not
	Runtime string      // name by which our OCI runtime is registered
	Wanted  bool        // the runtime is wanted, whatever its driver
	Program string      // this program: the runtime is to be the same; "": not compared
	Store   string      // directory of the checkpoints; "": there are none
}

// Probe asks Docker about itself.
func (d Docker) Probe() Probe {
	if d.Address == "" {
		return Skip(DockerAnswers, "no Docker is configured (engine.docker): jobs are plain processes, resized in place")
	}
	return Probe{Entry: DockerAnswers, Of: d.Address, Look: d.look}
}

func (d Docker) look(ctx context.Context) []api.Check {
	client, err := docker.Dial(d.Address)
	if err != nil {
		return []api.Check{DockerAnswers.fault(d.Address, "engine.docker can't be used", err, "")}
	}
	defer client.Close() //nolint:errcheck // idle connections
	is, err := docker.Describe(ctx, client)
	if err != nil {
		remedy := ""
		if errors.Is(err, fs.ErrPermission) {
			remedy = "the agent must be root, or in the group of the socket"
		}
		return []api.Check{DockerAnswers.fault(d.Address, "Docker does not answer", err, remedy)}
	}
	list := []api.Check{DockerAnswers.ok(d.Address, "Docker %s answers, API %s", is.Version, is.API)}
	if v, ok := parseVersion(is.API); ok && v.before(version{1, 41}) {
		list[0] = DockerAnswers.warn(d.Address, fmt.Sprintf("Docker %s speaks API %s only, older than any that this was tested on", is.Version, is.API), nil, "Docker 20.10 or newer")
	}
	return append(list, liveRestore(is), d.cgroups(is), d.runtime(is), d.store(is))
}

func liveRestore(is docker.Daemon) api.Check {
	if !is.Live {
		return DockerLive.warn("", "a restart of Docker would end all containers", errors.New("live-restore is off"), "")
	}
	return DockerLive.ok("", "containers outlive a restart of Docker")
}

func (d Docker) cgroups(is docker.Daemon) api.Check {
	ours := "1"
	if d.Cgroups == cgroup.V2 {
		ours = "2"
	}
	if d.Cgroups != "" && is.CgroupVersion != "" && is.CgroupVersion != ours {
		return DockerCgroups.warn("", fmt.Sprintf("Docker uses cgroup v%s, and cgroup %s was found", is.CgroupVersion, d.Cgroups), nil, "")
	}
	return DockerCgroups.ok("", "Docker uses cgroup v%s by the driver %s", cmp.Or(is.CgroupVersion, "1"), is.CgroupDriver)
}

func (d Docker) runtime(is docker.Daemon) api.Check {
	path, registered := is.Runtimes[d.Runtime]
	switch {
	case !registered && !d.Wanted:
		return DockerRuntime.skip("", "it is not registered, and not wanted: checkpoint.driver")
	case !registered:
		return DockerRuntime.warn("", "our OCI runtime is not registered with Docker", nil, "")
	case path == "":
		return DockerRuntime.ok("", "registered, as a name that Docker resolves")
	}
	theirs, err := digest(path)
	if err != nil {
		return DockerRuntime.fault("", "our OCI runtime is registered, and can't be read", err, "")
	}
	if d.Program == "" {
		return DockerRuntime.ok("", "%s is registered", path)
	}
	ours, err := digest(d.Program)
	if err != nil {
		return DockerRuntime.ok("", "%s is registered; its version was not compared: %v", path, err)
	}
	if !bytes.Equal(ours, theirs) {
		return DockerRuntime.warn("", path+" is registered, and another build than this agent", nil, "qosctl oci-runtime install, which replaces it in one step")
	}
	return DockerRuntime.ok("", "%s is registered, and of this build", path)
}

// store sees whether the checkpoints are on the file system that Docker's containers are on.
func (d Docker) store(is docker.Daemon) api.Check {
	switch {
	case d.Store == "":
		return DockerStore.skip("", "there are no checkpoints on this node")
	case !strings.HasPrefix(is.Storage, "overlay"):
		return DockerStore.skip(d.Store, "Docker's storage driver "+is.Storage+" does not write a whole file system back when a container ends")
	}
	same, err := sameFileSystem(d.Store, is.Root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return DockerStore.skip(d.Store, "it can't be compared from here: "+err.Error())
	case err != nil:
		return DockerStore.warn(d.Store, "it can't be seen on which file system it is", err, "")
	case same:
		return DockerStore.warn(d.Store, "the checkpoints are on the same file system as Docker's containers: a job's images are written to the disk while the job is to go on",
			fmt.Errorf("when the overlay of a container that has ended is unmounted, the kernel writes back the whole file system below it, that of %s", is.Root), "")
	}
	return DockerStore.ok(d.Store, "on another file system than Docker's containers (%s)", is.Root)
}

// digest is of a program's bytes.
func digest(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, 1<<30)); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}
