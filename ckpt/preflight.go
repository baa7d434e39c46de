package ckpt

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"qosctl/cgroup"
)

// subject is a container that is to be checkpointed, as far as it is known without touching it.
type subject struct {
	info  container.InspectResponse
	upper string // its writable layer; "": the engine does not say where it is
	group cgroup.Group
	pids  []int
	need  int64 // bytes that the checkpoint will have, about
}

// refuse is an error that wraps ErrRefused and says why in words.
func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrRefused, fmt.Errorf(format, args...))
}

// check finds what can't be an order.
func (o Order) check() error {
	if !jobName.MatchString(o.Job) {
		return refuse("%q is no job's UUID", o.Job)
	}
	if o.Container == "" || len(o.Container) > 128 || strings.ContainsAny(o.Container, "/\x00") {
		return refuse("%q is no container's id", o.Container)
	}
	if o.Allow.Volumes != "" && o.Allow.Volumes != "refuse" && o.Allow.Volumes != "shared" {
		return refuse("checkpoint.volumes %q is not known: it is refuse or shared", o.Allow.Volumes)
	}
	if o.Allow.TCPEstablished && o.Allow.TCPClose {
		return refuse("checkpoint.tcp is either keep or close")
	}
	if len(o.Spec) > 0 && !json.Valid(o.Spec) {
		return refuse("the job's specification is no JSON")
	}
	return nil
}

// preflight finds out, before anything is touched, what would make the checkpoint fail or lose something.
func (k *Keeper) preflight(ctx context.Context, o Order) (s subject, err error) {
	if s.info, err = k.inspect(ctx, o.Container); err != nil {
		if errdefs.IsNotFound(err) {
			return s, refuse("there is no container %s", o.Container)
		}
		return s, err
	}
	if err = k.suitable(ctx, o, s.info); err != nil {
		return s, err
	}
	s.upper = upperDir(s.info)
	if s.upper == "" {
		if err = k.unchanged(ctx, s.info); err != nil {
			return s, err
		}
	}
	i, err := k.o.Engine.Inspect(ctx, o.Container)
	if err != nil {
		return s, fmt.Errorf("inspect container %s: %w", o.Container, err)
	}
	s.group = i.Cgroup
	if s.pids, err = k.host.pids(s.group); err != nil || len(s.pids) == 0 {
		s.pids = []int{s.info.State.Pid}
	}
	if err = k.processes(o, s); err != nil {
		return s, err
	}
	if s.need, err = k.size(ctx, s); err != nil {
		return s, err
	}
	return s, k.room(ctx, s.need)
}

// suitable looks at what Docker knows of the container.
func (k *Keeper) suitable(ctx context.Context, o Order, c container.InspectResponse) error {
	if strings.TrimPrefix(c.Name, "/") != o.Container {
		return refuse("%s is not the name of a container", o.Container)
	}
	switch {
	case !c.State.Running || c.State.Restarting:
		return refuse("it does not run (%s)", c.State.Status)
	case c.State.Paused:
		return refuse("somebody has paused it: docker unpause %s", o.Container)
	case !c.HostConfig.RestartPolicy.IsNone():
		return refuse("it has the restart policy %s: Docker would start it anew beside the restored one; take the parameter restart out of the job",
			c.HostConfig.RestartPolicy.Name)
	case c.HostConfig.AutoRemove:
		return refuse("it is removed when it exits (--rm): take the parameter rm out of the job")
	}
	for _, id := range c.ExecIDs {
		ctx, stop := context.WithTimeout(ctx, askTime)
		e, err := k.docker.ContainerExecInspect(ctx, id)
		stop()
		if err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("inspect what docker exec runs: %w", err)
		}
		if err == nil && e.Running {
			return refuse("docker exec runs a process in it (pid %d), which would be lost: end it", e.Pid)
		}
	}
	ctx, stop := context.WithTimeout(ctx, askTime)
	defer stop()
	if _, err := k.docker.ImageInspect(ctx, c.Image); errdefs.IsNotFound(err) {
		return refuse("its image %s is gone: pull %s, it is needed for the restore", c.Image, c.Config.Image)
	} else if err != nil {
		return fmt.Errorf("inspect image %s: %w", c.Image, err)
	}
	return nil
}

// inspect asks Docker, bounded.
func (k *Keeper) inspect(ctx context.Context, id string) (container.InspectResponse, error) {
	ctx, stop := context.WithTimeout(ctx, askTime)
	defer stop()
	c, err := k.docker.ContainerInspect(ctx, id)
	if err != nil {
		return c, fmt.Errorf("inspect container %s: %w", id, err)
	}
	if c.ContainerJSONBase == nil || c.State == nil || c.HostConfig == nil || c.Config == nil {
		return c, fmt.Errorf("inspect container %s: docker's answer is not whole", id)
	}
	return c, nil
}

// upperDir is where Docker keeps a container's changed files.
func upperDir(c container.InspectResponse) string {
	if dir := c.GraphDriver.Data["UpperDir"]; path.IsAbs(dir) {
		return dir
	}
	return ""
}

// unchanged refuses a container whose changed files can't be reached.
func (k *Keeper) unchanged(ctx context.Context, c container.InspectResponse) error {
	ctx, stop := context.WithTimeout(ctx, askTime)
	defer stop()
	diff, err := k.docker.ContainerDiff(ctx, c.ID)
	if err != nil {
		return fmt.Errorf("list the container's changed files: %w", err)
	}
	for _, d := range diff {
		if !mountpoint(d.Path, destinations(c)) {
			return refuse("it has changed %s, and the storage driver %q does not say where its writable layer is: use overlay2, or a volume", d.Path, c.GraphDriver.Name)
		}
	}
	return nil
}

// mountpoint says whether p is a mount's destination or above one: those are made when a container starts. /dev, /proc, /sys and what Docker
// puts in /etc are in every container.
func mountpoint(p string, dests []string) bool {
	always := []string{"/dev/console", "/dev/shm", "/dev/pts", "/dev/mqueue", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}
	for _, d := range slices.Concat(dests, always) {
		if d == p || strings.HasPrefix(d, strings.TrimSuffix(p, "/")+"/") {
			return true
		}
	}
	return false
}

// destinations are where a container sees its mounts, sorted.
func destinations(c container.InspectResponse) []string {
	var out []string
	for _, m := range c.Mounts {
		out = append(out, path.Clean(m.Destination))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// size is about how many bytes the checkpoint of s will have.
func (k *Keeper) size(ctx context.Context, s subject) (int64, error) {
	need := resident(k.proc(), s.pids) + slack
	if s.upper == "" {
		return need, nil
	}
	layer, err := layerSize(ctx, s.upper)
	return need + layer, err
}
