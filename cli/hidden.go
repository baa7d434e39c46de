package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"qosctl/container/process"
	"qosctl/devmesos"
	"qosctl/framework"
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
	nodes      string // file
	master     string // URL; "": this is the master
	tokenFile  string
	socket     string
}

// newDevmesosCmd is the scheduler that `qosctl dev` starts.
func newDevmesosCmd(a *app) *cobra.Command {
	var o devmesosOpts
	cmd := &cobra.Command{
		Use:   "devmesos",
		Short: "Run the development scheduler alone (`qosctl dev` starts this)",
		Long: `Run the development scheduler alone: Marathon, Chronos, a Mesos master and its agents. With --node-of it is one agent of another's
cluster, which the master must allow with a token that both have. It is for development and tests.

--listen-any lifts the bound to loopback. Whoever can reach the addresses then runs commands on the nodes, as the user that these run as: by
Marathon's and Chronos' APIs without any credentials, by the protocol between master and nodes with the token. Only for networks that nobody
else is in.`,
		Example: `  qosctl devmesos --dir /tmp/mesos --marathon 127.0.0.1:18080
  qosctl devmesos --dir /tmp/far --node-of http://192.0.2.1:15050 --node-token /etc/token --hostname far`,
		Args: args(cobra.NoArgs),
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
	f.StringVar(&d.Master, "mesos-master", "", "address of the Mesos master's API; empty: any")
	f.DurationVar(&d.PingTimeout, "ping-timeout", 15*time.Second, "silence after which a node is unreachable (Mesos has 75s)")
	f.StringVar(&o.nodes, "nodes", "", "file with a JSON list of the nodes of this process")
	f.BoolVar(&d.Remote, "no-nodes", false, "no node of this process: only those that follow it from elsewhere")
	f.StringVar(&o.master, "node-of", "", "URL of a master to be a node of")
	f.StringVar(&o.tokenFile, "node-token", "", "file with what master and nodes show each other; needed with --listen-any")
	f.BoolVar(&d.Open, "listen-any", false, "allow addresses that others can reach: whoever does runs commands as this user")
	f.BoolVar(&d.NoOperators, "no-operators", false, "permit nobody to drain agents or to maintain machines")
	f.StringVar(&o.socket, "node-socket", "", "QOSCTL_NODE_SOCKET of the node's tasks")
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
	if err := o.complete(&d); err != nil {
		return err
	}
	if o.master != "" {
		return a.runDevNode(ctx, o.master, d)
	}
	s, err := devmesos.New(d) //nolint:contextcheck // it has none
	if err != nil {
		return inUse(err)
	}
	marathon, chronos, _ := s.Addrs()
	d.Logger.Info("development scheduler", "marathon", "http://"+marathon, "chronos", "http://"+chronos, "master", "http://"+s.MasterAddr(), "mesos", s.NodeAddrs())
	if err := s.Run(ctx); err != nil && (ctx.Err() == nil || !errors.Is(err, context.Canceled)) {
		return err
	}
	return nil
}

func inUse(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return withHint(err, "another program has that address, or another development scheduler runs")
	}
	return err
}

// complete reads the files that the flags name.
func (o devmesosOpts) complete(d *devmesos.Options) error {
	if o.nodes != "" {
		b, err := os.ReadFile(o.nodes)
		if err == nil {
			err = json.Unmarshal(b, &d.Nodes)
		}
		if err != nil {
			return fmt.Errorf("read the list of nodes: %w", err)
		}
	}
	if o.socket != "" { // of the only node
		d.Nodes = []devmesos.LocalNode{{Hostname: d.Hostname, Mesos: d.Mesos, CgroupParent: d.CgroupParent, ExecutorEnv: map[string]string{framework.EnvNodeSocket: o.socket}}}
	}
	if o.tokenFile == "" {
		return nil
	}
	b, err := os.ReadFile(o.tokenFile)
	if err != nil {
		return fmt.Errorf("read the token of master and nodes: %w", err)
	}
	if d.Token = strings.TrimSpace(string(b)); d.Token == "" {
		return &usageError{fmt.Errorf("--node-token: %s is empty", o.tokenFile), ""}
	}
	return nil
}

// runDevNode is a node of another process' cluster.
func (a *app) runDevNode(ctx context.Context, master string, d devmesos.Options) error {
	n, err := devmesos.NewNode(master, d) //nolint:contextcheck // it has none
	if err != nil {
		return inUse(err)
	}
	d.Logger.Info("node of a development cluster", "master", master, "mesos", "http://"+n.Addr())
	if err := n.Run(ctx); err != nil && (ctx.Err() == nil || !errors.Is(err, context.Canceled)) {
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
