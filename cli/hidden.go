package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"qosctl/container/process"
	"qosctl/devmesos"
)

// newShimCmd is what the process engine starts for each container.
func newShimCmd(*app) *cobra.Command {
	return &cobra.Command{
		Use:                "shim run|init DIR",
		Short:              "Hold one container (the agent starts this)",
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if code := process.ShimMain(args); code != exitOK {
				return &exitStatus{code: code}
			}
			return nil
		},
	}
}

type devmesosOpts struct {
	options    devmesos.Options
	images     []string
	attributes map[string]string
	level      string
}

// newDevmesosCmd is the scheduler that `qosctl dev` starts.
func newDevmesosCmd(a *app) *cobra.Command {
	var o devmesosOpts
	cmd := &cobra.Command{
		Use:     "devmesos",
		Short:   "Run the development scheduler alone (`qosctl dev` starts this)",
		Example: "  qosctl devmesos --dir /tmp/mesos --marathon 127.0.0.1:18080",
		Args:    args(cobra.NoArgs),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			return a.runDevmesos(cmd.Context(), o)
		}),
	}
	f, d := cmd.Flags(), &o.options
	f.StringVar(&d.Marathon, "marathon", defaultMarathon, "address of Marathon's API")
	f.StringVar(&d.Chronos, "chronos", defaultChronos, "address of Chronos' API")
	f.StringVar(&d.Mesos, "mesos", defaultMesos, "address of the Mesos agent's API")
	f.StringVar(&d.Dir, "dir", "", "directory for sandboxes and state")
	f.Float64Var(&d.CPUs, "cpus", 0, "CPUs that are offered; 0: the machine's")
	f.Float64Var(&d.MemMiB, "mem", 0, "memory that is offered, in MiB; 0: the machine's")
	f.DurationVar(&d.Deploy, "deploy", devmesos.DefaultDeploy, "time between a task's launch and its start")
	f.StringVar(&d.Hostname, "hostname", "", "of the Mesos agent; empty: the machine's")
	f.StringVar(&d.CgroupRoot, "cgroup-root", "", "where cgroups are mounted")
	f.StringVar(&d.Proc, "proc", "", "where proc is mounted")
	f.StringVar(&d.CgroupParent, "cgroup-parent", "", "cgroup of all tasks; empty: /mesos")
	f.StringVar(&d.ChronosPrefix, "chronos-prefix", "", "/v1/scheduler, or /scheduler as Chronos 2")
	f.StringVar(&d.MarathonVersion, "marathon-version", "", "which Marathon to be")
	f.StringToStringVar(&o.attributes, "attribute", nil, "of the Mesos agent, NAME=VALUE; may be repeated")
	f.StringArrayVar(&o.images, "map-image", nil, "IMAGE=DIR; may be repeated")
	f.BoolVar(&d.Docker, "docker", false, "run tasks of type DOCKER in this machine's Docker")
	f.StringVar(&o.level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

func (a *app) runDevmesos(ctx context.Context, o devmesosOpts) error {
	defer surviveBrokenPipe()()
	images, err := parseImages(o.images)
	if err != nil {
		return err
	}
	d := o.options
	d.Images, d.Attributes = images, o.attributes
	if d.Deploy == 0 {
		d.Deploy = -1 // there, 0 is the default
	}
	if d.Logger, err = childLogger(a.err, o.level); err != nil {
		return err
	}
	s, err := devmesos.New(d) //nolint:contextcheck // it has none
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return withHint(err, "another program has that address, or another development scheduler runs")
		}
		return err
	}
	marathon, chronos, mesos := s.Addrs()
	d.Logger.Info("development scheduler", "marathon", "http://"+marathon, "chronos", "http://"+chronos, "mesos", "http://"+mesos)
	if err := s.Run(ctx); err != nil && (ctx.Err() == nil || !errors.Is(err, context.Canceled)) {
		return err
	}
	return nil
}

func childLogger(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, &usageError{fmt.Errorf("--log-level must be debug, info, warn or error (got %q)", level), ""}
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l, ReplaceAttr: shortTime})), nil
}

// shortTime leaves the date out of a log that a person looks at.
func shortTime(_ []string, attr slog.Attr) slog.Attr {
	if attr.Key == slog.TimeKey {
		attr.Value = slog.StringValue(attr.Value.Time().Format(time.TimeOnly))
	}
	return attr
}
