package docker

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"
	"github.com/docker/go-units"

	"qosctl/container"
)

var volumeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// option sets one argument of docker run.
type option func(value string, c *dcontainer.Config, h *dcontainer.HostConfig) error

// apply sets an argument of docker run, as job files have it. What would take the container out of our hands, and what nobody knows, is refused.
func apply(o container.Option, c *dcontainer.Config, h *dcontainer.HostConfig) error {
	set, ok := options()[o.Key]
	if !ok {
		return fmt.Errorf("option --%s: %w; those that are: %s", o.Key, container.ErrNotSupported, strings.Join(slices.Sorted(maps.Keys(options())), ", "))
	}
	if err := set(o.Value, c, h); err != nil {
		return fmt.Errorf("option --%s: %w", o.Key, err) // the value may be secret
	}
	return nil
}

// options are the arguments of docker run that a job may give.
func options() map[string]option {
	text := func(f func(c *dcontainer.Config, h *dcontainer.HostConfig) *string) option {
		return func(v string, c *dcontainer.Config, h *dcontainer.HostConfig) error { *f(c, h) = v; return nil }
	}
	list := func(f func(h *dcontainer.HostConfig) *[]string) option {
		return func(v string, _ *dcontainer.Config, h *dcontainer.HostConfig) error {
			p := f(h)
			*p = append(*p, v)
			return nil
		}
	}
	return map[string]option{
		"add-host": list(func(h *dcontainer.HostConfig) *[]string { return &h.ExtraHosts }),
		"cap-add": func(v string, _ *dcontainer.Config, h *dcontainer.HostConfig) error {
			h.CapAdd = append(h.CapAdd, v)
			return nil
		},
		"cap-drop": func(v string, _ *dcontainer.Config, h *dcontainer.HostConfig) error {
			h.CapDrop = append(h.CapDrop, v)
			return nil
		},
		"device":        device,
		"dns":           list(func(h *dcontainer.HostConfig) *[]string { return &h.DNS }),
		"dns-option":    list(func(h *dcontainer.HostConfig) *[]string { return &h.DNSOptions }),
		"dns-search":    list(func(h *dcontainer.HostConfig) *[]string { return &h.DNSSearch }),
		"env":           environment,
		"expose":        expose,
		"group-add":     list(func(h *dcontainer.HostConfig) *[]string { return &h.GroupAdd }),
		"hostname":      text(func(c *dcontainer.Config, _ *dcontainer.HostConfig) *string { return &c.Hostname }),
		"init":          flag(func(_ *dcontainer.Config, h *dcontainer.HostConfig, on bool) { h.Init = &on }),
		"interactive":   flag(func(c *dcontainer.Config, _ *dcontainer.HostConfig, on bool) { c.OpenStdin = on }),
		"ipc":           text(func(_ *dcontainer.Config, h *dcontainer.HostConfig) *string { return (*string)(&h.IpcMode) }),
		"label":         label,
		"oom-score-adj": number(func(h *dcontainer.HostConfig, n int64) { h.OomScoreAdj = int(n) }),
		"pid":           text(func(_ *dcontainer.Config, h *dcontainer.HostConfig) *string { return (*string)(&h.PidMode) }),
		"pids-limit":    number(func(h *dcontainer.HostConfig, n int64) { h.PidsLimit = &n }),
		"cpuset-cpus":   text(func(_ *dcontainer.Config, h *dcontainer.HostConfig) *string { return &h.CpusetCpus }),
		"cpuset-mems":   text(func(_ *dcontainer.Config, h *dcontainer.HostConfig) *string { return &h.CpusetMems }),
		"privileged":    flag(func(_ *dcontainer.Config, h *dcontainer.HostConfig, on bool) { h.Privileged = on }),
		"publish":       publishOption,
		"read-only":     flag(func(_ *dcontainer.Config, h *dcontainer.HostConfig, on bool) { h.ReadonlyRootfs = on }),
		"security-opt":  list(func(h *dcontainer.HostConfig) *[]string { return &h.SecurityOpt }),
		"shm-size":      size(func(h *dcontainer.HostConfig, n int64) { h.ShmSize = n }),
		"stop-signal":   text(func(c *dcontainer.Config, _ *dcontainer.HostConfig) *string { return &c.StopSignal }),
		"sysctl":        pair(func(h *dcontainer.HostConfig, k, v string) { h.Sysctls = with(h.Sysctls, k, v) }),
		"tmpfs":         tmpfs,
		"tty":           flag(func(c *dcontainer.Config, _ *dcontainer.HostConfig, on bool) { c.Tty = on }),
		"ulimit":        ulimit,
		"user":          text(func(c *dcontainer.Config, _ *dcontainer.HostConfig) *string { return &c.User }),
		"uts":           text(func(_ *dcontainer.Config, h *dcontainer.HostConfig) *string { return (*string)(&h.UTSMode) }),
		"volume":        list(func(h *dcontainer.HostConfig) *[]string { return &h.Binds }),
		"workdir":       text(func(c *dcontainer.Config, _ *dcontainer.HostConfig) *string { return &c.WorkingDir }),
	}
}

func with(m map[string]string, k, v string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[k] = v
	return m
}

func flag(set func(*dcontainer.Config, *dcontainer.HostConfig, bool)) option {
	return func(v string, c *dcontainer.Config, h *dcontainer.HostConfig) error {
		on, err := strconv.ParseBool(v)
		if v == "" {
			on, err = true, nil
		}
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", v)
		}
		set(c, h, on)
		return nil
	}
}

func number(set func(*dcontainer.HostConfig, int64)) option {
	return func(v string, _ *dcontainer.Config, h *dcontainer.HostConfig) error {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is no whole number", v)
		}
		set(h, n)
		return nil
	}
}

func size(set func(*dcontainer.HostConfig, int64)) option {
	return func(v string, _ *dcontainer.Config, h *dcontainer.HostConfig) error {
		n, err := units.RAMInBytes(v)
		if err != nil {
			return fmt.Errorf("%q is no size such as 64m", v)
		}
		set(h, n)
		return nil
	}
}

func pair(set func(h *dcontainer.HostConfig, k, v string)) option {
	return func(v string, _ *dcontainer.Config, h *dcontainer.HostConfig) error {
		k, value, ok := strings.Cut(v, "=")
		if !ok {
			return fmt.Errorf("it is not KEY=VALUE")
		}
		set(h, k, value)
		return nil
	}
}

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
