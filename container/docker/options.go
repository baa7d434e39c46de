package docker

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/go-units"

	"qosctl/container"
)

var volumeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// option sets one argument of docker run.
type option func(value string, c *dcontainer.Config, h *dcontainer.HostConfig) error

// apply sets an argument of docker run, as job files have it. What would take the container out of our hands, and what nobody knows, is refused.
func apply(o container.Option, c *dcontainer.Config, h *dcontainer.HostConfig) error {
	if why, ok := refused()[o.Key]; ok {
		return fmt.Errorf("option --%s: %w: %s", o.Key, container.ErrNotSupported, why)
	}
	set, ok := options()[o.Key]
	if !ok {
		return fmt.Errorf("option --%s: %w; those that are: %s", o.Key, container.ErrNotSupported, strings.Join(slices.Sorted(maps.Keys(options())), ", "))
	}
	if err := set(o.Value, c, h); err != nil {
		return fmt.Errorf("option --%s: %w", o.Key, err) // the value may be secret
	}
	return nil
}

// text is an option whose value is taken as it is.
func text(field func(*dcontainer.Config, *dcontainer.HostConfig) *string) option {
	return func(v string, c *dcontainer.Config, h *dcontainer.HostConfig) error { *field(c, h) = v; return nil }
}

// list is an option that may be given several times.
func list(field func(*dcontainer.HostConfig) *[]string) option {
	return func(v string, _ *dcontainer.Config, h *dcontainer.HostConfig) error {
		p := field(h)
		*p = append(*p, v)
		return nil
	}
}

// options are the arguments of docker run that a job may give.
func options() map[string]option {
	return map[string]option{
		"add-host":     list(func(h *dcontainer.HostConfig) *[]string { return &h.ExtraHosts }),
		"blkio-weight": number(0, math.MaxUint16, func(h *dcontainer.HostConfig, n int64) { h.BlkioWeight = uint16(n) }),
		"cap-add": func(v string, _ *dcontainer.Config, h *dcontainer.HostConfig) error {
			h.CapAdd = append(h.CapAdd, v)
			return nil
		},
		"cap-drop": func(v string, _ *dcontainer.Config, h *dcontainer.HostConfig) error {
			h.CapDrop = append(h.CapDrop, v)
			return nil
		},
		"device":             device,
		"device-cgroup-rule": list(func(h *dcontainer.HostConfig) *[]string { return &h.DeviceCgroupRules }),
		"dns":                list(func(h *dcontainer.HostConfig) *[]string { return &h.DNS }),
		"dns-opt":            list(func(h *dcontainer.HostConfig) *[]string { return &h.DNSOptions }),
		"dns-option":         list(func(h *dcontainer.HostConfig) *[]string { return &h.DNSOptions }),
		"dns-search":         list(func(h *dcontainer.HostConfig) *[]string { return &h.DNSSearch }),
		"domainname":         text(func(c *dcontainer.Config, _ *dcontainer.HostConfig) *string { return &c.Domainname }),
		"entrypoint":         entrypoint,
		"env":                environment,
		"expose":             expose,
		"gpus":               gpus,
		"group-add":          list(func(h *dcontainer.HostConfig) *[]string { return &h.GroupAdd }),
		"hostname":           text(func(c *dcontainer.Config, _ *dcontainer.HostConfig) *string { return &c.Hostname }),
		"init":               flag(func(_ *dcontainer.Config, h *dcontainer.HostConfig, on bool) { h.Init = &on }),
		"interactive":        flag(func(c *dcontainer.Config, _ *dcontainer.HostConfig, on bool) { c.OpenStdin = on }),
		"ipc":                text(func(_ *dcontainer.Config, h *dcontainer.HostConfig) *string { return (*string)(&h.IpcMode) }),
		"label":              label,
		"memory-reservation": size(func(h *dcontainer.HostConfig, n int64) { h.MemoryReservation = n }),
		"memory-swap":        size(func(h *dcontainer.HostConfig, n int64) { h.MemorySwap = n }),
		"memory-swappiness":  number(0, 100, func(h *dcontainer.HostConfig, n int64) { h.MemorySwappiness = &n }),
		"mount":              mountOption,
		"net":                text(func(_ *dcontainer.Config, h *dcontainer.HostConfig) *string { return (*string)(&h.NetworkMode) }),
		"network":            text(func(_ *dcontainer.Config, h *dcontainer.HostConfig) *string { return (*string)(&h.NetworkMode) }),
		"no-healthcheck": flag(func(c *dcontainer.Config, _ *dcontainer.HostConfig, on bool) {
			if on {
				c.Healthcheck = &dcontainer.HealthConfig{Test: []string{"NONE"}}
			}
		}),
		"oom-score-adj": number(-1000, 1000, func(h *dcontainer.HostConfig, n int64) { h.OomScoreAdj = int(n) }),
		"pid":           text(func(_ *dcontainer.Config, h *dcontainer.HostConfig) *string { return (*string)(&h.PidMode) }),
		"pids-limit":    number(-1, math.MaxInt64, func(h *dcontainer.HostConfig, n int64) { h.PidsLimit = &n }),
		"cpuset-cpus":   text(func(_ *dcontainer.Config, h *dcontainer.HostConfig) *string { return &h.CpusetCpus }),
		"cpuset-mems":   text(func(_ *dcontainer.Config, h *dcontainer.HostConfig) *string { return &h.CpusetMems }),
		"privileged":    flag(func(_ *dcontainer.Config, h *dcontainer.HostConfig, on bool) { h.Privileged = on }),
		"publish":       publishOption,
		"publish-all":   flag(func(_ *dcontainer.Config, h *dcontainer.HostConfig, on bool) { h.PublishAllPorts = on }),
		"read-only":     flag(func(_ *dcontainer.Config, h *dcontainer.HostConfig, on bool) { h.ReadonlyRootfs = on }),
		"security-opt":  list(func(h *dcontainer.HostConfig) *[]string { return &h.SecurityOpt }),
		"shm-size":      size(func(h *dcontainer.HostConfig, n int64) { h.ShmSize = n }),
		"stop-signal":   text(func(c *dcontainer.Config, _ *dcontainer.HostConfig) *string { return &c.StopSignal }),
		"storage-opt":   pair(func(h *dcontainer.HostConfig, k, v string) { h.StorageOpt = with(h.StorageOpt, k, v) }),
		"sysctl":        pair(func(h *dcontainer.HostConfig, k, v string) { h.Sysctls = with(h.Sysctls, k, v) }),
		"tmpfs":         tmpfs,
		"tty":           flag(func(c *dcontainer.Config, _ *dcontainer.HostConfig, on bool) { c.Tty = on }),
		"ulimit":        ulimit,
		"user":          text(func(c *dcontainer.Config, _ *dcontainer.HostConfig) *string { return &c.User }),
		"userns":        text(func(_ *dcontainer.Config, h *dcontainer.HostConfig) *string { return (*string)(&h.UsernsMode) }),
		"uts":           text(func(_ *dcontainer.Config, h *dcontainer.HostConfig) *string { return (*string)(&h.UTSMode) }),
		"volume":        volume,
		"volume-driver": text(func(_ *dcontainer.Config, h *dcontainer.HostConfig) *string { return &h.VolumeDriver }),
		"volumes-from":  list(func(h *dcontainer.HostConfig) *[]string { return &h.VolumesFrom }),
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

func number(least, most int64, set func(*dcontainer.HostConfig, int64)) option {
	return func(v string, _ *dcontainer.Config, h *dcontainer.HostConfig) error {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is no whole number", v)
		}
		if n < least || n > most {
			return fmt.Errorf("%d is not from %d to %d", n, least, most)
		}
		set(h, n)
		return nil
	}
}

func size(set func(*dcontainer.HostConfig, int64)) option {
	return func(v string, _ *dcontainer.Config, h *dcontainer.HostConfig) error {
		n, err := units.RAMInBytes(v)
		if v == "-1" { // no limit
			n, err = -1, nil
		}
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
