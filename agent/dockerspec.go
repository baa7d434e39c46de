package agent

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"qosctl/container"
)

// dockerSpec adds what only Docker can do to a container's spec. It gets what Mesos' Docker containerizer would give it: the sandbox at
// /mnt/mesos/sandbox, the ports that were offered, the credentials for registries that were fetched.
func (a *Agent) dockerSpec(j *job, t *task, s *container.Spec) {
	c := j.spec().Container
	s.Privileged, s.Network, s.ForcePull = c.Privileged, c.Network, c.ForcePull
	s.Limits.MemBytes = int64(j.spec().MemoryMiB * (1 << 20))
	if j.spec().Process.User == "" {
		s.User = container.User{} // the image's own, not the stand-in's
	}
	for i, p := range c.Ports {
		host := p.HostPort
		if host == 0 {
			host = offeredPort(t.Env, i)
		}
		s.Ports = append(s.Ports, container.Port{Container: p.ContainerPort, Host: host, Protocol: p.Protocol})
	}
	for _, p := range c.Parameters {
		s.Options = append(s.Options, container.Option{Key: p.Key, Value: p.Value})
	}
	if dir := j.row.Local.Sandbox; dir != "" && dir != t.Dir { // a restored process has its files open where it began
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			s.Dir = dir
		}
	}
	s.RegistryAuth = registryAuth(t.Dir, a.cfg.Engine.DockerConfig)
}

// offeredPort is the i-th port that Mesos gave the task; 0: none.
func offeredPort(env []string, i int) int {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PORT"+strconv.Itoa(i)+"="); ok {
			n, err := strconv.Atoi(v)
			if err == nil && n > 0 && n < 1<<16 {
				return n
			}
		}
	}
	return 0
}

// registryAuth is the file with credentials for registries: fetched into the sandbox, as Mesos reads it, else the node's.
func registryAuth(sandbox, node string) string {
	for _, name := range []string{filepath.Join(".docker", "config.json"), ".dockercfg"} {
		path := filepath.Join(sandbox, name)
		if info, err := os.Lstat(path); sandbox != "" && err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return node
}

// prepare adds what the container's checkpoints will need.
func (a *Agent) prepare(ctx context.Context, j *job, s *container.Spec) error {
	if a.engineOf(j) != a.engines.docker || !a.untilTested(ctx) {
		return ctx.Err()
	}
	return a.engines.keeper.Prepare(s)
}

// untilTested waits until it is known whether this node can checkpoint; false: ctx has ended.
func (a *Agent) untilTested(ctx context.Context) bool {
	select {
	case <-a.tested:
		return true
	case <-ctx.Done():
		return false
	}
}

// zero notes what the counter of a created container shows before anything runs in it: where the counter is that of the whole
// execution, an incarnation's own CPU time counts from there.
func (a *Agent) zero(ctx context.Context, j *job, eng engine, id string) {
	info, err := eng.Inspect(ctx, id)
	if err != nil || info.State != container.Created || info.Cgroup.CPUAcct == "" {
		return // the start says what is wrong
	}
	r, err := a.engines.cgroups.OpenReader(info.Cgroup)
	if err != nil {
		return // there is none before the start: it begins at zero
	}
	defer r.Close() //nolint:errcheck // only read
	counter, err := r.Usage()
	if err != nil || counter == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	account := &j.status().Execution.Account
	e := account.Entries[account.Live]
	e.Zero = counter
	account.Entries[account.Live] = e
	if err := a.save(j); err != nil {
		a.log.Error("where an account begins is not on disk yet", "job", j.spec().Name, "err", err)
	}
}

// capacity of the test that decides whether this node can checkpoint: it is bounded by itself, and this is the agent's own patience.
const testTime = time.Minute
