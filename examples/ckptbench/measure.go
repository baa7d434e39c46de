package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"qosctl/cgroup"
	"qosctl/ckpt"
	"qosctl/container"
	"qosctl/container/docker"
)

const (
	imageName = "qosctl-ckptbench"
	parent    = "/qosctl-ckptbench"
	store     = "/var/lib/qosctl/checkpoints/bench-" // and the driver
	sampleIn  = 5 * time.Minute                      // one sample, at most
	patience  = 20 * time.Second                     // a way that takes longer is measured fewRuns times
	fewRuns   = 3
)

// sample is what one stop and restore took.
type sample struct {
	down          time.Duration // between the job's last line before and its first after, CLOCK_REALTIME
	dump, restore time.Duration
	moved         int64 // bytes that dockerd and containerd have written meanwhile
	again         int64 // bytes of CRIU's images that do not stand in the files that CRIU has written
	disk          int64 // bytes of the sealed checkpoint; 0: of a way that seals none
}

// way stops and restores.
type way interface {
	name() string
	// once takes a new job that touches so much memory through a stop and a restore, and ends it.
	once(ctx context.Context, mib int) (sample, error)
	// close removes what the way has made.
	close(ctx context.Context) error
}

// key names a cell of the table.
type key struct {
	mib int
	way string
}

// measure runs in a node.
func measure(ctx context.Context, o options, out io.Writer) (err error) {
	h, err := newHost(ctx)
	if err != nil {
		return err
	}
	ways, err := h.ways(ctx, out)
	defer func() {
		for _, w := range ways {
			err = errors.Join(err, w.close(context.WithoutCancel(ctx)))
		}
		err = errors.Join(err, h.engine.Close())
	}()
	if err != nil {
		return err
	}
	t := table{release: o.releases[0], sizes: o.sizes, samples: map[key][]sample{}}
	for _, w := range ways {
		t.ways = append(t.ways, w.name())
	}
	for round := range o.runs {
		for _, mib := range o.sizes {
			for i := range ways {
				w := ways[(i+round)%len(ways)] // nobody is always first
				if err := t.sample(ctx, w, mib); err != nil {
					return err
				}
			}
		}
		fmt.Fprintf(out, "checkpoints on %s: round %d of %d, load %.1f\n", t.release, round+1, o.runs, t.load)
	}
	return t.print(out)
}

// sample measures once, unless the way has shown to be slow and was measured often enough.
func (t *table) sample(ctx context.Context, w way, mib int) error {
	k := key{mib, w.name()}
	if had := t.samples[k]; len(had) >= fewRuns && had[0].down > patience {
		return nil
	}
	t.load = max(t.load, loadavg())
	ctx, stop := context.WithTimeoutCause(ctx, sampleIn, fmt.Errorf("it takes longer than %s", sampleIn))
	defer stop()
	s, err := w.once(ctx, mib)
	if err != nil {
		return fmt.Errorf("%s, %d MiB: %w", w.name(), mib, err)
	}
	t.samples[k] = append(t.samples[k], s)
	return nil
}

// loadavg is the machine's load of the last minute.
func loadavg() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	text, _, _ := strings.Cut(string(b), " ")
	load, _ := strconv.ParseFloat(text, 64) //nolint:errcheck // the kernel's
	return load
}

// host is the node's Docker.
type host struct {
	engine  *docker.Engine
	options ckpt.Options // of all Keepers, without directory and driver
}

func newHost(ctx context.Context) (*host, error) {
	if os.Getenv("QOSCTL_E2E_NODE") == "" {
		return nil, errors.New("-inside is for test nodes alone")
	}
	if _, err := command(ctx, "docker", "import", imagePath, imageName); err != nil {
		return nil, err
	}
	client, err := docker.Dial("unix:///var/run/docker.sock")
	if err != nil {
		return nil, fmt.Errorf("find Docker: %w", err)
	}
	groups, err := cgroup.New(cgroup.Options{})
	if err != nil {
		return nil, fmt.Errorf("find cgroups: %w", err)
	}
	e, err := docker.New(docker.Options{Client: client, Cgroups: groups, Parent: parent, Proc: "/proc"})
	if err != nil {
		return nil, fmt.Errorf("make an engine: %w", err)
	}
	return &host{e, ckpt.Options{
		Node: "bench", Engine: e, Docker: client, Cgroups: groups, Proc: "/proc", Runtime: "qosctl", Keep: 1, DumpTime: time.Minute, RestoreTime: time.Minute,
	}}, nil
}

// ways are those that this node can do; of the others it says why not.
func (h *host) ways(ctx context.Context, out io.Writer) (list []way, err error) {
	for _, place := range []place{{driver: "runtime"}, {driver: "docker"}, {driver: "runtime", apart: true}} {
		w, why, err := h.keeper(ctx, place)
		if err != nil {
			return list, err
		}
		if w == nil {
			fmt.Fprintf(out, "checkpoints: %s is not measured: %s\n", place, why)
			continue
		}
		list = append(list, w)
	}
	bare, err := newBare(ctx, h)
	if err != nil {
		return list, err
	}
	list = append(list, bare)
	p := &plain{h}
	if _, err := p.once(ctx, 1); err != nil {
		line, _, _ := strings.Cut(err.Error(), "\n")
		fmt.Fprintf(out, "checkpoints: plain Docker is not measured, it can't: %s\n", line)
		return list, nil
	}
	return append(list, p), nil
}

// spec is a job's container.
func spec(id, execution string, mib int) container.Spec {
	return container.Spec{
		ID: id, Image: imageName, Args: jobArgs(mib), Network: "none", Parent: execution,
		Labels: map[string]string{"qosctl.job": execution},
	}
}

// command runs a program and returns what it has written.
func command(ctx context.Context, argv ...string) (string, error) {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// daemons are the bytes that dockerd and containerd have written to files, pipes and sockets so far.
func daemons() (sum int64) {
	list, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, e := range list {
		name, err := os.ReadFile("/proc/" + e.Name() + "/comm")
		if err != nil || !slices.Contains([]string{"dockerd", "containerd"}, strings.TrimSpace(string(name))) {
			continue
		}
		text, err := os.ReadFile("/proc/" + e.Name() + "/io")
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if n, ok := strings.CutPrefix(line, "wchar: "); ok {
				bytes, _ := strconv.ParseInt(strings.TrimSpace(n), 10, 64) //nolint:errcheck // the kernel's
				sum += bytes
			}
		}
	}
	return sum
}
