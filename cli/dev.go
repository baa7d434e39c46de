package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"qosctl/agent"
	"qosctl/devmesos"
	"qosctl/qos"
)

// Where the parts of a development setup listen.
const (
	defaultMarathon = "127.0.0.1:18080"
	defaultChronos  = "127.0.0.1:14400"
	defaultMesos    = "127.0.0.1:15051"
	defaultListen   = "127.0.0.1:30000"
	defaultMaster   = "127.0.0.1:15050"
	defaultGossip   = "127.0.0.1:17946"
	defaultPeer     = "127.0.0.1:30500"
)

// cgroupHint is what to do without write access to cgroups.
const cgroupHint = "run it as root, or in a delegated subtree: `systemd-run --user --scope -p Delegate=yes qosctl dev …`, named with --cgroup-parent"

type devOpts struct {
	dir         string
	images      []string
	imageDirs   map[string]string
	policy      string
	controlMode string
	deploy      time.Duration
	cpus        float64
	period      time.Duration
	listen      string
	marathon    string
	chronos     string
	mesos       string
	parent      string
	level       string
	keep        bool
	docker      bool
	settings    []string
	nodeCount   int
	master      string
	gossip      string
	peer        string
}

func newDevCmd(a *app) *cobra.Command {
	var o devOpts
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run an agent and a development scheduler on this machine",
		Long: `Run an agent together with a development scheduler that speaks as Marathon, Chronos and a Mesos agent do: a cluster of one
node on loopback, with nothing to install. Both are processes of their own and are started again when they die. Ctrl-C stops
both, and everything that they made is removed. If dev itself is killed, a third process, its guard, does that; if that is killed too,
the next dev in the same directory does it before it begins. It is for development and tests.

With --nodes N it is a cluster of N nodes, called node1, node2, …, on this machine: N agents, each with directories, sockets, cgroups and a
share of the CPUs of its own, and a Mesos agent for each. The ports of the further ones follow those of the first. A node can be cut off from
its Mesos master with POST /dev/nodes/NAME/cut at Marathon's address, and let back with …/heal.`,
		Example: `  sudo qosctl dev
  sudo qosctl dev --nodes 3
  sudo qosctl dev --map-image serlophug/openmplinpack=$PWD/images/linpack
  sudo qosctl dev --policy none --deploy 45s
  sudo qosctl dev --docker --set control.resize=reschedule`,
		Args: args(cobra.NoArgs),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			return a.runDev(cmd.Context(), o)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&o.dir, "dir", "", "directory for everything (default: qosctl-dev-UID in $XDG_RUNTIME_DIR or /tmp)")
	f.StringArrayVar(&o.images, "map-image", nil, "run a container image from a directory, IMAGE=DIR; may be repeated")
	f.StringVar(&o.policy, "policy", "deadline", policyList())
	f.StringVar(&o.controlMode, "control-mode", "act", "act, advise or observe")
	f.DurationVar(&o.deploy, "deploy", devmesos.DefaultDeploy, "time between a task's launch and its start (the thesis had 45s)")
	f.Float64Var(&o.cpus, "cpus", 0, "CPUs of each node; 0: the machine's, divided among them")
	f.DurationVar(&o.period, "period", 2*time.Second, "time between two decisions")
	f.StringVar(&o.listen, "listen", defaultListen, "address of the agent's API")
	f.StringVar(&o.marathon, "marathon", defaultMarathon, "address of Marathon's API")
	f.StringVar(&o.chronos, "chronos", defaultChronos, "address of Chronos' API")
	f.StringVar(&o.mesos, "mesos", defaultMesos, "address of the Mesos agent's API")
	f.StringVar(&o.parent, "cgroup-parent", "", "cgroup to put all of it below (default: one of its own, and /mesos)")
	f.StringVar(&o.level, "log-level", "info", "debug, info, warn or error")
	f.BoolVar(&o.docker, "docker", false, "run jobs with an image in this machine's Docker; checkpoints, where it can take any")
	f.StringArrayVar(&o.settings, "set", nil, "another setting of the agent, KEY=VALUE; may be repeated")
	f.IntVar(&o.nodeCount, "nodes", 1, "number of nodes")
	f.StringVar(&o.gossip, "gossip", defaultGossip, "address of the first agent's gossip, with several nodes")
	f.StringVar(&o.peer, "peer", defaultPeer, "address of the first agent's API for its peers, with several nodes")
	f.StringVar(&o.master, "mesos-master", "", "address of the Mesos master's API (default: any; with several nodes "+defaultMaster+")")
	f.BoolVar(&o.keep, "keep", false, "leave the directory there at the end")
	must(cmd.RegisterFlagCompletionFunc("policy", cobra.FixedCompletions(qos.PolicyNames(), cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.RegisterFlagCompletionFunc("control-mode", cobra.FixedCompletions([]string{"act", "advise", "observe"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func (a *app) runDev(ctx context.Context, o devOpts) error {
	if err := o.complete(a); err != nil {
		return err
	}
	nodes, configs, err := o.configs()
	if err != nil {
		return err
	}
	if err := configs[0].Cgroup.Check(); err != nil {
		return &exitStatus{exitForbidden, withHint(err, cgroupHint)}
	}
	dir, err := openDevDir(ctx, o.dir)
	if err != nil {
		return err
	}
	defer dir.close()
	if dir.dead != nil {
		fmt.Fprintf(a.err, "a dev in %s was killed: ending its jobs and removing what it made\n", o.dir)
	}
	if err := dir.sweep(ctx); err != nil {
		return err
	}
	if err := o.checkPorts(nodes); err != nil {
		return errors.Join(err, dir.remove(o.keep))
	}
	self, err := os.Executable()
	if err == nil && configs[0].Run.Command != self {
		err = os.Symlink(self, configs[0].Run.Command)
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("find this program: %w", err)
	}
	mark := devMark{PID: os.Getpid(), Keep: o.keep}
	for i, n := range nodes { // before anything is made
		mark.add(n.mark(configs[i]))
	}
	if err := dir.mark(mark); err != nil {
		return err
	}
	if err := writeNodes(nodes, configs); err != nil {
		return errors.Join(err, dir.remove(o.keep))
	}
	stopGuard, err := a.startGuard(self, o.dir)
	if err != nil {
		return errors.Join(err, dir.remove(o.keep))
	}
	defer stopGuard()
	a.greet(o, nodes)
	err = a.superviseDev(ctx, o, self, nodes)
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearTime)
	defer cancel()
	for _, c := range configs {
		err = errors.Join(err, c.Clear(within), c.Cgroup.Clear(within))
	}
	return errors.Join(err, dir.remove(o.keep))
}

// configs are the nodes, and the configurations of their agents.
func (o devOpts) configs() ([]devNode, []agent.Config, error) {
	nodes, err := o.nodes()
	if err != nil {
		return nil, nil, err
	}
	var list []agent.Config
	for _, n := range nodes {
		c, err := n.config(o)
		if err != nil {
			return nil, nil, err
		}
		list = append(list, c)
	}
	return nodes, list, nil
}

// superviseDev runs all processes until ctx ends; the scheduler is stopped first, so that its tasks can still tell the agents.
func (a *app) superviseDev(ctx context.Context, o devOpts, self string, nodes []devNode) error {
	file, err := o.writeNodesFile(nodes)
	if err != nil {
		return err
	}
	out := newPrefixer(a.err)
	children := []*child{{name: "mesos", path: self, args: o.schedulerArgs(file), env: childEnv(a.environ), out: out.as("mesos", 36), grace: 15 * time.Second}}
	for _, n := range nodes {
		name := cmp.Or(n.name, "agent")
		children = append(children, &child{
			name: name, path: self, args: []string{"agent", "--config", n.file()}, env: childEnv(a.environ), out: out.as(name, 33), grace: 15 * time.Second,
		})
	}
	return supervise(ctx, children...)
}

// complete fills the defaults in and checks.
func (o *devOpts) complete(a *app) error {
	if o.dir == "" {
		o.dir = a.devDir()
	}
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return fmt.Errorf("find --dir: %w", err)
	}
	o.dir = dir
	switch {
	case !plainPath.MatchString(o.dir):
		return &usageError{fmt.Errorf("--dir must be a path without blanks or characters that a shell minds (got %q)", o.dir), ""}
	case o.deploy < 0:
		return &usageError{fmt.Errorf("--deploy must not be negative (got %s)", o.deploy), ""}
	case !(o.cpus >= 0) || math.IsInf(o.cpus, 0):
		return &usageError{fmt.Errorf("--cpus must be a number that is not negative (got %g)", o.cpus), ""}
	case o.nodeCount < 1 || o.nodeCount > maxDevNodes:
		return &usageError{fmt.Errorf("--nodes must be from 1 to %d (got %d)", maxDevNodes, o.nodeCount), ""}
	case o.nodeCount > 1 && o.docker:
		return &usageError{errors.New("--docker goes with one node: the agents of several would each take all of this machine's Docker for theirs"), "leave one of --nodes and --docker out"}
	}
	if o.master == "" {
		o.master = "127.0.0.1:0"
		if o.nodeCount > 1 {
			o.master = defaultMaster
		}
	}
	if _, err := childLogger(nil, o.level); err != nil {
		return err
	}
	images, err := parseImages(o.images)
	o.imageDirs = images
	return err
}

// parseImages reads IMAGE=DIR; the directories must be there.
func parseImages(given []string) (map[string]string, error) {
	images := make(map[string]string, len(given))
	for _, g := range given {
		image, dir, ok := strings.Cut(g, "=")
		if !ok || image == "" || dir == "" {
			return nil, &usageError{fmt.Errorf("--map-image must be IMAGE=DIR (got %q)", g), "as in --map-image serlophug/openmplinpack=/srv/linpack"}
		}
		dir, err := filepath.Abs(dir)
		if err != nil {
			return nil, fmt.Errorf("find the directory of image %s: %w", image, err)
		}
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return nil, &usageError{fmt.Errorf("--map-image %s: %s is not a directory", image, dir), "it must hold what the image has beside the host's files, as in bin/linpack_openmp"}
		}
		images[image] = dir
	}
	return images, nil
}

// common sets what the agents of all nodes have alike.
func (o devOpts) common(c *agent.Config, self string) {
	c.Log.Level = o.level
	c.Engine.Images = o.imageDirs
	if !o.docker {
		c.Engine.Docker = ""
	}
	c.Control.Mode, c.Control.Policy = o.controlMode, o.policy
	c.Control.Period = o.period
	c.Control.Sample = min(c.Control.Sample, o.period)
	c.Control.Dwell = min(c.Control.Dwell, 2*o.period)
	c.Control.DeployTime = o.deploy
	c.Run.Command = o.command(self)
	poll := 2 * time.Second
	c.Frameworks = map[string]agent.FrameworkConfig{
		"marathon": {Type: "marathon", URLs: []string{"http://" + o.marathon}, Timeout: 10 * time.Second, Poll: poll},
		"chronos":  {Type: "chronos", URLs: []string{"http://" + o.chronos}, Timeout: 10 * time.Second, Poll: poll},
	}
	c.Mesos.Poll = poll
}

// withSettings lays the settings of --set over a configuration, and checks it.
func (o devOpts) withSettings(c agent.Config) (agent.Config, error) {
	if len(o.settings) > 0 {
		text, err := c.YAML()
		if err == nil {
			c, err = agent.Parse(text, nil, o.settings...)
		}
		if err != nil {
			return c, &usageError{fmt.Errorf("--set: %w", err), "docs/qosctl.yaml lists the keys"}
		}
	}
	if err := c.Validate(); err != nil {
		return c, &usageError{fmt.Errorf("these flags don't make a configuration:\n  %s", strings.ReplaceAll(err.Error(), "\n", "\n  ")), "`qosctl dev --help` lists the flags"}
	}
	return c, nil
}

// devCheckpoints is where checkpoints of development setups stand: our OCI runtime believes what is there.
const devCheckpoints = "/var/lib/qosctl/checkpoints"

// plainPath is one that a framework's shell takes as it is.
var plainPath = regexp.MustCompile(`^[A-Za-z0-9_./+:@,=-]+$`)

// command is what frameworks run: this program, or a link to it in dev's directory if its path has blanks in it or the like.
func (o devOpts) command(self string) string {
	if plainPath.MatchString(self) {
		return self
	}
	return filepath.Join(o.dir, "qosctl")
}

// mesosParent is the cgroup of the scheduler's tasks.
func (o devOpts) mesosParent() string { return filepath.Join("/", o.parent, "mesos") }

// schedulerArgs are those of the scheduler; nodes is the file that lists them, "" for one.
func (o devOpts) schedulerArgs(nodes string) []string {
	list := []string{
		"devmesos", "--dir", filepath.Join(o.dir, "devmesos"), "--marathon", o.marathon, "--chronos", o.chronos, "--mesos", o.mesos,
		"--deploy", o.deploy.String(), "--cpus", fmt.Sprint(o.cpus), "--log-level", o.level,
	}
	list = append(list, "--cgroup-parent", o.mesosParent(), "--mesos-master", o.master)
	if nodes != "" {
		list = append(list, "--nodes", nodes)
	}
	for _, i := range o.images {
		list = append(list, "--map-image", i)
	}
	if o.docker {
		list = append(list, "--docker")
	}
	return list
}

// greet says where things are.
func (a *app) greet(o devOpts, nodes []devNode) {
	flag := ""
	if o.dir != a.devDir() {
		flag = " --agent " + filepath.Join(o.dir, "run", "qosctl.sock")
	}
	what := "one node"
	if len(nodes) > 1 {
		what = strconv.Itoa(len(nodes)) + " nodes"
	}
	fmt.Fprintf(a.out, `qosctl dev: a cluster of %s. Ctrl-C stops it.
`, what)
	for _, n := range nodes {
		fmt.Fprintf(a.out, "  %-9s http://%s (read-only), %s\n", cmp.Or(n.name, "agent"), n.listen, filepath.Join(n.dir, "run", "qosctl.sock"))
	}
	fmt.Fprintf(a.out, "  marathon  http://%s\n  chronos   http://%s\n", o.marathon, o.chronos)
	for _, n := range nodes {
		fmt.Fprintf(a.out, "  mesos     http://%s\n", n.mesos)
	}
	if len(nodes) > 1 {
		fmt.Fprintf(a.out, "  master    http://%s\n", o.master)
	}
	fmt.Fprintf(a.out, `  settings  %s
Try in another shell:
  qosctl%s submit job.json --follow
  qosctl%s top
`, nodes[0].file(), flag, flag)
}

// isNoCgroups says whether an agent could not start for want of rights on cgroups.
func isNoCgroups(err error) bool {
	return errors.Is(err, agent.ErrNoAccess)
}
