package docker

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/prometheus/procfs"

	"qosctl/cgroup"
	"qosctl/container"
)

// describe puts what Docker says of a container into our words.
func (e *Engine) describe(c dcontainer.InspectResponse) container.Info {
	i := container.Info{
		ID: strings.TrimPrefix(c.Name, "/"), Labels: c.Config.Labels, State: container.Created,
		Created: moment(c.Created), Started: moment(c.State.StartedAt),
		Limits: container.Limits{CPUs: quotaOf(c.HostConfig.Resources), Shares: float64(c.HostConfig.CPUShares) / sharesPerCPU, MemBytes: c.HostConfig.Memory},
		Cgroup: cgroup.Group{CPUAcct: e.parentPath(c.HostConfig.CgroupParent)},
	}
	switch {
	case c.State.Running || c.State.Paused || c.State.Restarting:
		i.State, i.PID = container.Running, c.State.Pid
		e.inForce(&i)
	case everRan(c.State) || neverWill(c.State):
		i.State = container.Exited
		x := e.exitOf(c, i.Cgroup)
		i.Exit = &x
	}
	return i
}

// everRan says whether a container was started.
func everRan(s *dcontainer.State) bool { return !moment(s.StartedAt).IsZero() }

// neverWill says whether a container's start was tried, and failed. A restore that failed (128) is none: the payload was never let go.
func neverWill(s *dcontainer.State) bool {
	return !everRan(s) && s.Error != "" && s.ExitCode != 0 && s.ExitCode != 128
}

// inForce reads the limits of a running container from its cgroup.
func (e *Engine) inForce(i *container.Info) {
	own, err := e.o.Cgroups.Of(i.PID)
	if err != nil {
		return // it has just ended
	}
	i.Cgroup.CPU = own.CPU
	if i.Cgroup.CPUAcct == "" {
		i.Cgroup.CPUAcct = own.CPUAcct
	}
	l, err := e.o.Cgroups.OpenLimits(own)
	if err != nil {
		return
	}
	defer l.Close() //nolint:errcheck // only read
	if cpus, err := l.CPUs(); err == nil {
		i.Limits.CPUs = cpus
	}
	if shares, err := l.Shares(); err == nil {
		i.Limits.Shares = shares
	}
}

// Quota reads the quota in force, without asking Docker.
func (e *Engine) Quota(id string, g cgroup.Group) (float64, error) {
	l, err := e.o.Cgroups.OpenLimits(g)
	if err != nil {
		return 0, fmt.Errorf("read the quota of container %s: %w", id, err)
	}
	defer l.Close() //nolint:errcheck // only read
	return l.CPUs()
}

// exitOf is how a container ended.
func (e *Engine) exitOf(c dcontainer.InspectResponse, g cgroup.Group) container.Exit {
	s := c.State
	x := container.Exit{Code: s.ExitCode, OOM: s.OOMKilled, Finished: moment(s.FinishedAt), CPU: e.counter(g)}
	if x.Finished.IsZero() {
		x.Finished = moment(c.Created)
	}
	if n := x.Code - 128; n > 0 && n < 65 && everRan(s) {
		x.Signal = n
	}
	if !everRan(s) {
		x.Code, x.Reason = codeOf(s.Error, s.ExitCode), s.Error
		x.CPU = 0
	} else if s.Error != "" {
		x.Reason = s.Error
	} else if x.Code == container.CodeUnknown && e.rebooted(s) {
		x.Unknown, x.Reason = true, "it ended with its machine, and nobody saw how"
	} else if x.Code == container.CodeUnknown { // Docker's word, too, for one that ended while it and containerd were away
		x.Reason = "the command's own status, or it ended while Docker was away and nobody saw how"
	}
	if x.OOM {
		x.Reason = strings.Join(nonEmpty(x.Reason, "killed for memory"), "; ")
	}
	return x
}

// rebooted says whether the machine was started between a container's start and the end that Docker has noted for it: then Docker found it gone.
func (e *Engine) rebooted(s *dcontainer.State) bool {
	fs, err := procfs.NewFS(cmp.Or(e.o.Proc, procfs.DefaultMountPoint))
	if err != nil {
		return false
	}
	stat, err := fs.Stat()
	if err != nil {
		return false
	}
	boot := time.Unix(int64(stat.BootTime), 0)
	return moment(s.StartedAt).Before(boot) && !moment(s.FinishedAt).Before(boot)
}

func nonEmpty(texts ...string) (list []string) {
	for _, t := range texts {
		if t != "" {
			list = append(list, t)
		}
	}
	return list
}

// codeOf is the exit code of a container whose command never ran, by what the runtime says.
func codeOf(text string, code int) int {
	switch {
	case strings.Contains(text, "executable file not found"), strings.Contains(text, "no such file or directory") && strings.Contains(text, "exec"):
		return container.CodeNotFound
	case strings.Contains(text, "permission denied") && strings.Contains(text, "exec"), strings.Contains(text, "exec format error"),
		strings.Contains(text, "is a directory") && strings.Contains(text, "exec"):
		return container.CodeNoExec
	case code == container.CodeNoExec || code == container.CodeNotFound:
		return code
	}
	return container.CodeSetup
}

// counter reads a cgroup's CPU time; 0: it is not there.
func (e *Engine) counter(g cgroup.Group) time.Duration {
	if g.CPUAcct == "" {
		return 0
	}
	r, err := e.o.Cgroups.OpenReader(cgroup.Group{CPU: g.CPUAcct, CPUAcct: g.CPUAcct})
	if err != nil {
		return 0
	}
	defer r.Close() //nolint:errcheck // only read
	d, err := r.Usage()
	if err != nil {
		return 0
	}
	return d
}

// moment reads one of Docker's times; its zero is 0001-01-01.
func moment(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t
}
