package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/strslice"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/go-connections/nat"

	"qosctl/container"
)

const (
	// sandbox is where Mesos' Docker containerizer mounts a task's sandbox.
	sandbox = "/mnt/mesos/sandbox"

	labelParent    = "qosctl.parent" // cgroup parent, so that it can be removed with its last container
	annotationsAPI = "1.43"          // the first API with annotations (Docker 24)
	mountpointAPI  = "1.42"          // the first API that makes a bind mount's missing source (Docker 23)
	period         = 100000          // of the CFS quota, µs: Docker's default
	sharesPerCPU   = 1024
	leastQuota     = 0.01 // CPUs: Docker's and the kernel's least
	leastShares    = 2
)

// Create prepares a container. An image that is not here is pulled.
func (e *Engine) Create(ctx context.Context, s container.Spec) error {
	if err := check(s); err != nil {
		return fmt.Errorf("create container %s: %w", s.ID, err)
	}
	i, err := e.daemon(ctx)
	if err != nil {
		return err
	}
	if s.Parent == "" {
		s.Parent = s.ID
	}
	conf, host, err := e.translate(s, e.parentOf(i, s.Parent), i.CgroupVersion)
	if err != nil {
		return fmt.Errorf("create container %s: %w", s.ID, err)
	}
	if err := e.pull(ctx, s); err != nil {
		return err
	}
	_, err = e.o.Client.ContainerCreate(ctx, conf, host, nil, nil, s.ID)
	switch {
	case errdefs.IsConflict(err) || errdefs.IsAlreadyExists(err):
		return fmt.Errorf("create container %s: %w", s.ID, container.ErrExists)
	case err != nil:
		return e.failed(ctx, "create container "+s.ID, err)
	}
	return nil
}

// check refuses what Docker would refuse later, or take for something else.
func check(s container.Spec) error {
	var errs []error
	bad := func(cond bool, format string, args ...any) {
		if cond {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(!validID.MatchString(s.ID), "id: %q is no name of a container", s.ID)
	bad(s.Image == "", "image: none; Docker needs one: %w", container.ErrNotSupported)
	bad(s.Command != "" && len(s.Args) > 0, "command and args exclude each other")
	bad(s.User.UID < 0 || s.User.GID < 0, "user: %d:%d is none", s.User.UID, s.User.GID)
	bad(s.Parent != "" && !validID.MatchString(s.Parent), "parent: %q is no name of a cgroup", s.Parent)
	bad(s.Dir != "" && !path.IsAbs(s.Dir), "dir: %q is not absolute", s.Dir)
	for _, kv := range s.Env {
		bad(!strings.Contains(kv, "="), "env: %q has no =", kv)
	}
	for _, text := range slices.Concat([]string{s.Command, s.Dir, s.Image}, s.Args, s.Env) {
		bad(strings.ContainsRune(text, 0), "a NUL byte is in %q", text)
	}
	for _, m := range s.Mounts {
		bad(!path.IsAbs(m.Target) || path.Clean(m.Target) == "/", "mounts: target %q must be an absolute path below the root", m.Target)
		bad(!path.IsAbs(m.Source) && !volumeName.MatchString(m.Source), "mounts: source %q is neither an absolute path nor a volume's name", m.Source)
	}
	return errors.Join(append(errs, checkLimits(s.Limits))...)
}

func checkLimits(l container.Limits) error {
	if math.IsNaN(l.CPUs) || math.IsInf(l.CPUs, 0) || l.CPUs > 0 && l.CPUs < leastQuota || l.CPUs > 1e6 {
		return fmt.Errorf("limits: %g CPUs is no quota; the least is %g", l.CPUs, leastQuota)
	}
	if math.IsNaN(l.Shares) || math.IsInf(l.Shares, 0) || l.Shares > 256 {
		return fmt.Errorf("limits: %g CPUs are no shares", l.Shares)
	}
	return nil
}

// translate makes Docker's two parts of a container of a spec.
func (e *Engine) translate(s container.Spec, parent, cgroups string) (*dcontainer.Config, *dcontainer.HostConfig, error) {
	conf := &dcontainer.Config{Image: s.Image, Env: s.Env, Labels: maps.Clone(s.Labels)}
	if conf.Labels == nil {
		conf.Labels = map[string]string{}
	}
	conf.Labels[labelParent] = parent
	switch {
	case s.Command != "": // as Mesos: the image's entry point is not used
		conf.Entrypoint, conf.Cmd = strslice.StrSlice{"/bin/sh"}, strslice.StrSlice{"-c", s.Command}
	case len(s.Args) > 0:
		conf.Cmd = s.Args
	}
	if s.User.UID != 0 || s.User.GID != 0 {
		conf.User = fmt.Sprintf("%d:%d", s.User.UID, s.User.GID)
	}
	no := false
	host := &dcontainer.HostConfig{
		NetworkMode: networkOf(s.Network), Privileged: s.Privileged, Runtime: s.Runtime, Init: &no,
		RestartPolicy: dcontainer.RestartPolicy{Name: dcontainer.RestartPolicyDisabled},
		// Offsets count bytes of the whole output: it is neither rotated nor turned into text, as json-file does.
		LogConfig: dcontainer.LogConfig{Type: "local", Config: map[string]string{"max-size": "1000g", "max-file": "1", "compress": "false"}},
		Resources: resourcesOf(s.Limits),
	}
	host.CgroupParent = parent
	if cgroups == "2" {
		host.CgroupnsMode = dcontainer.CgroupnsModeHost // restored processes end in a wrong cgroup otherwise (runc < 1.2)
	}
	for _, g := range s.User.Groups {
		host.GroupAdd = append(host.GroupAdd, strconv.Itoa(g))
	}
	mountsOf(s, conf, host, versions.LessThan(e.o.Client.ClientVersion(), mountpointAPI))
	if err := portsOf(s, conf, host); err != nil {
		return nil, nil, err
	}
	for _, o := range s.Options {
		if err := apply(o, conf, host); err != nil {
			return nil, nil, err
		}
	}
	if len(s.Annotations) > 0 {
		if versions.LessThan(e.o.Client.ClientVersion(), annotationsAPI) { // the OCI runtime of ours reads it there, too
			if f := s.Annotations[annotationRestore]; f != "" {
				conf.Env = append(slices.Clone(conf.Env), envRestore+"="+f)
			}
		} else {
			host.Annotations = s.Annotations
		}
	}
	return conf, host, nil
}

// What tells our OCI runtime to restore instead of to create.
const (
	annotationRestore = "org.qosctl.restore"
	envRestore        = "QOSCTL_RESTORE"
)

func networkOf(name string) dcontainer.NetworkMode {
	if name == "" {
		return "host"
	}
	return dcontainer.NetworkMode(name)
}

// resourcesOf are a container's limits. The quota is set as such and never as NanoCpus: it can be lifted, and exceed the CPUs there are.
func resourcesOf(l container.Limits) dcontainer.Resources {
	var r dcontainer.Resources
	if l.CPUs > 0 {
		r.CPUQuota = quota(l.CPUs) // the period stays the default: with one of ours runc writes the quota twice
	}
	if l.Shares > 0 {
		r.CPUShares = max(leastShares, int64(math.Round(l.Shares*sharesPerCPU)))
	}
	if l.MemBytes > 0 {
		r.Memory = l.MemBytes
	}
	return r
}

func quota(cpus float64) int64 { return int64(math.Round(cpus * period)) }

// quotaOf is the CPUs that a container is configured with; -1: no limit.
func quotaOf(r dcontainer.Resources) float64 {
	switch {
	case r.NanoCPUs > 0:
		return float64(r.NanoCPUs) / 1e9
	case r.CPUQuota > 0 && r.CPUPeriod > 0:
		return float64(r.CPUQuota) / float64(r.CPUPeriod)
	case r.CPUQuota > 0:
		return float64(r.CPUQuota) / period
	}
	return -1
}

// mountsOf adds the sandbox, bind mounts and volumes. A bind mount's source that is not there is made, as docker run -v does; old engines
// do so only for what is given in -v's form, which can't hold a colon.
func mountsOf(s container.Spec, conf *dcontainer.Config, host *dcontainer.HostConfig, old bool) {
	if s.Dir != "" {
		host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeBind, Source: s.Dir, Target: sandbox})
		conf.Env = slices.DeleteFunc(slices.Clone(conf.Env), func(kv string) bool { return strings.HasPrefix(kv, "MESOS_SANDBOX=") })
		conf.Env = append(conf.Env, "MESOS_SANDBOX="+sandbox)
	}
	for _, m := range s.Mounts {
		dm := mount.Mount{Type: mount.TypeVolume, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly}
		if path.IsAbs(m.Source) {
			if old && !strings.Contains(m.Source+m.Target, ":") {
				bind := m.Source + ":" + m.Target
				if m.ReadOnly {
					bind += ":ro"
				}
				host.Binds = append(host.Binds, bind)
				continue
			}
			dm.Type, dm.BindOptions = mount.TypeBind, &mount.BindOptions{CreateMountpoint: !old}
		}
		host.Mounts = append(host.Mounts, dm)
	}
}

// portsOf publishes ports.
func portsOf(s container.Spec, conf *dcontainer.Config, host *dcontainer.HostConfig) error {
	for _, p := range s.Ports {
		proto := p.Protocol
		if proto == "" {
			proto = "tcp"
		}
		for proto := range strings.SplitSeq(proto, ",") { // Marathon has "udp,tcp"
			port, err := nat.NewPort(proto, strconv.Itoa(p.Container))
			if err != nil {
				return fmt.Errorf("ports: %d/%s: %w", p.Container, proto, err)
			}
			publish(conf, host, port, nat.PortBinding{HostPort: strconv.Itoa(p.Host)})
		}
	}
	return nil
}

func publish(conf *dcontainer.Config, host *dcontainer.HostConfig, port nat.Port, to nat.PortBinding) {
	if conf.ExposedPorts == nil { // another option may have made one of the two
		conf.ExposedPorts = nat.PortSet{}
	}
	if host.PortBindings == nil {
		host.PortBindings = nat.PortMap{}
	}
	conf.ExposedPorts[port] = struct{}{}
	host.PortBindings[port] = append(host.PortBindings[port], to)
}

// pull fetches an image that is missing, or that is to be fetched in any case.
func (e *Engine) pull(ctx context.Context, s container.Spec) error {
	if !s.ForcePull {
		_, err := e.o.Client.ImageInspect(ctx, s.Image)
		if err == nil {
			return nil
		}
		if !errdefs.IsNotFound(err) {
			return e.failed(ctx, "look for image "+s.Image, err)
		}
	}
	auth, err := registryAuth(s.RegistryAuth, s.Image)
	if err != nil {
		return err
	}
	r, err := e.o.Client.ImagePull(ctx, s.Image, image.PullOptions{RegistryAuth: auth})
	if err == nil {
		err = errors.Join(drainPull(r), r.Close())
	}
	if err != nil {
		if ctx.Err() != nil || errors.Is(e.failed(ctx, "", err), errNoDaemon) {
			return e.failed(ctx, "pull image "+s.Image, err)
		}
		return fmt.Errorf("pull image %s: %w: %w", s.Image, container.ErrNoImage, err)
	}
	return nil
}

// drainPull reads a pull's progress to its end; an error is in it.
func drainPull(r io.Reader) error {
	d := newLines(r)
	for {
		var line struct {
			Error string `json:"error"`
		}
		err := d.Decode(&line)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the progress: %w", err)
		case line.Error != "":
			return errors.New(line.Error)
		}
	}
}
