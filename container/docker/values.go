package docker

import (
	"encoding/csv"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/go-connections/nat"
	"github.com/docker/go-units"
)

func environment(v string, c *dcontainer.Config, _ *dcontainer.HostConfig) error {
	if !strings.Contains(v, "=") {
		return fmt.Errorf("it is not KEY=VALUE")
	}
	c.Env = append(slices.Clone(c.Env), v)
	return nil
}

func label(v string, c *dcontainer.Config, _ *dcontainer.HostConfig) error {
	k, value, _ := strings.Cut(v, "=")
	if strings.HasPrefix(k, "qosctl.") {
		return fmt.Errorf("%s is qosctl's own", k)
	}
	c.Labels[k] = value
	return nil
}

func expose(v string, c *dcontainer.Config, _ *dcontainer.HostConfig) error {
	ports, _, err := nat.ParsePortSpecs([]string{v})
	if err != nil {
		return err
	}
	if c.ExposedPorts == nil {
		c.ExposedPorts = nat.PortSet{}
	}
	maps.Copy(c.ExposedPorts, ports)
	return nil
}

func publishOption(v string, c *dcontainer.Config, h *dcontainer.HostConfig) error {
	_, bindings, err := nat.ParsePortSpecs([]string{v})
	if err != nil {
		return err
	}
	for port, list := range bindings {
		for _, b := range list {
			publish(c, h, port, b)
		}
	}
	return nil
}

func tmpfs(v string, _ *dcontainer.Config, h *dcontainer.HostConfig) error {
	at, how, _ := strings.Cut(v, ":")
	if !strings.HasPrefix(at, "/") {
		return fmt.Errorf("it is not /PATH or /PATH:OPTIONS")
	}
	h.Tmpfs = with(h.Tmpfs, at, how)
	return nil
}

func ulimit(v string, _ *dcontainer.Config, h *dcontainer.HostConfig) error {
	u, err := units.ParseUlimit(v)
	if err != nil {
		return err
	}
	h.Ulimits = append(h.Ulimits, u)
	return nil
}

func device(v string, _ *dcontainer.Config, h *dcontainer.HostConfig) error {
	parts := strings.Split(v, ":")
	d := dcontainer.DeviceMapping{PathOnHost: parts[0], PathInContainer: parts[0], CgroupPermissions: "rwm"}
	if len(parts) > 3 || !strings.HasPrefix(parts[0], "/") {
		return fmt.Errorf("it is not /DEVICE[:/PATH[:rwm]]")
	}
	if len(parts) > 1 {
		d.PathInContainer = parts[1]
	}
	if len(parts) > 2 {
		d.CgroupPermissions = parts[2]
	}
	h.Devices = append(h.Devices, d)
	return nil
}

// entrypoint is one word, as with docker run. The image's own arguments are not used then.
func entrypoint(v string, c *dcontainer.Config, _ *dcontainer.HostConfig) error {
	c.Entrypoint = []string{v}
	return nil
}

// gpus asks for all of them, or for a number.
func gpus(v string, _ *dcontainer.Config, h *dcontainer.HostConfig) error {
	n := -1
	if v != "all" {
		var err error
		if n, err = strconv.Atoi(v); err != nil || n < 1 {
			return fmt.Errorf("%q is neither all nor a number", v)
		}
	}
	h.DeviceRequests = append(h.DeviceRequests, dcontainer.DeviceRequest{Count: n, Capabilities: [][]string{{"gpu"}}})
	return nil
}

// volume is SOURCE:TARGET[:ro], or a target alone for a volume without a name.
func volume(v string, c *dcontainer.Config, h *dcontainer.HostConfig) error {
	parts := strings.Split(v, ":")
	target := parts[min(1, len(parts)-1)]
	if len(parts) > 3 || !path.IsAbs(target) || path.Clean(target) == "/" {
		return fmt.Errorf("it is not SOURCE:/TARGET[:ro] or /TARGET")
	}
	if len(parts) == 1 {
		if c.Volumes == nil {
			c.Volumes = map[string]struct{}{}
		}
		c.Volumes[target] = struct{}{}
		return nil
	}
	if !path.IsAbs(parts[0]) && !volumeName.MatchString(parts[0]) {
		return fmt.Errorf("its source is neither an absolute path nor a volume's name")
	}
	h.Binds = append(h.Binds, v)
	return nil
}

// mountOption is type=bind|volume|tmpfs with source, target and readonly; what else docker run's has is refused.
func mountOption(v string, _ *dcontainer.Config, h *dcontainer.HostConfig) error {
	fields, err := csv.NewReader(strings.NewReader(v)).Read()
	if err != nil {
		return fmt.Errorf("it is not KEY=VALUE,KEY=VALUE")
	}
	m := mount.Mount{Type: mount.TypeVolume}
	for _, f := range fields {
		key, value, given := strings.Cut(f, "=")
		switch strings.ToLower(key) {
		case "type":
			m.Type = mount.Type(value)
		case "source", "src":
			m.Source = value
		case "target", "dst", "destination":
			m.Target = value
		case "readonly", "ro":
			m.ReadOnly = true
			if given {
				if m.ReadOnly, err = strconv.ParseBool(value); err != nil {
					return fmt.Errorf("readonly is neither true nor false")
				}
			}
		default:
			return fmt.Errorf("%q is not known: those that are: type, source, target, readonly", key)
		}
	}
	switch {
	case m.Type != mount.TypeBind && m.Type != mount.TypeVolume && m.Type != mount.TypeTmpfs:
		return fmt.Errorf("type %q is not bind, volume or tmpfs", m.Type)
	case !path.IsAbs(m.Target) || path.Clean(m.Target) == "/":
		return fmt.Errorf("its target is no absolute path below the root")
	case m.Type == mount.TypeBind && !path.IsAbs(m.Source):
		return fmt.Errorf("its source is no absolute path")
	case m.Type == mount.TypeTmpfs && m.Source != "":
		return fmt.Errorf("a tmpfs has no source")
	}
	h.Mounts = append(h.Mounts, m)
	return nil
}

// refused are the arguments of docker run that a job can't have, and why.
func refused() map[string]string {
	const (
		once    = "Docker would run the job again, or remove it with its checkpoints; the framework starts it again"
		limits  = "the job's cpus and mem are what it gets"
		output  = "the job's output is read from Docker's log, by offset"
		ours    = "qosctl chooses it"
		cli     = "it is the docker command's own"
		network = "give the network's settings to the network itself"
		health  = "commands that Docker runs in a container are lost at a checkpoint: use the framework's health checks"
		file    = "it names a file of the docker command's machine: write what is in it"
	)
	return map[string]string{
		"restart": once, "rm": once,
		"cpus": limits, "cpu-shares": limits, "cpu-quota": limits, "cpu-period": limits, "cpu-rt-period": limits, "cpu-rt-runtime": limits,
		"cpu-count": limits, "cpu-percent": limits, "memory": limits,
		"log-driver": output, "log-opt": output,
		"name": ours, "cgroup-parent": ours, "cgroupns": ours, "runtime": ours, "annotation": ours,
		"stop-timeout": "the framework's grace is what it gets", "oom-kill-disable": "a job that is out of memory would hang for ever",
		"attach": cli, "detach": cli, "detach-keys": cli, "sig-proxy": cli, "quiet": cli, "cidfile": cli, "disable-content-trust": cli, "help": cli,
		"pull": "use the job's force pull", "platform": "the node's is used", "isolation": "it is for Windows",
		"ip": network, "ip6": network, "link": network, "link-local-ip": network, "mac-address": network, "network-alias": network, "net-alias": network,
		"health-cmd": health, "health-interval": health, "health-retries": health, "health-start-interval": health, "health-start-period": health, "health-timeout": health,
		"env-file": file, "label-file": file, "use-api-socket": "a job that holds Docker's socket holds the node",
	}
}
