package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"qosctl/agent"
	"qosctl/devmesos"
)

// Where the parts of a development setup listen.
const (
	defaultMarathon = "127.0.0.1:18080"
	defaultChronos  = "127.0.0.1:14400"
	defaultMesos    = "127.0.0.1:15051"
	defaultListen   = "127.0.0.1:30000"
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
}

func newDevCmd(a *app) *cobra.Command {
	var o devOpts
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run an agent and a development scheduler on this machine",
		Long: `Run an agent together with a development scheduler that speaks as Marathon, Chronos and a Mesos agent do: a cluster of one
node on loopback, with nothing to install. Both are processes of their own and are started again when they die. Ctrl-C stops
both, and everything that they made is removed. If dev itself is killed, a third process, its guard, does that; if that is killed too,
the next dev in the same directory does it before it begins. It is for development and tests.`,
		Example: `  sudo qosctl dev
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
	f.StringVar(&o.policy, "policy", "deadline", "deadline, step or none")
	f.StringVar(&o.controlMode, "control-mode", "act", "act, advise or observe")
	f.DurationVar(&o.deploy, "deploy", devmesos.DefaultDeploy, "time between a task's launch and its start (the thesis had 45s)")
	f.Float64Var(&o.cpus, "cpus", 0, "CPUs of the node; 0: the machine's")
	f.DurationVar(&o.period, "period", 2*time.Second, "time between two decisions")
	f.StringVar(&o.listen, "listen", defaultListen, "address of the agent's API")
	f.StringVar(&o.marathon, "marathon", defaultMarathon, "address of Marathon's API")
	f.StringVar(&o.chronos, "chronos", defaultChronos, "address of Chronos' API")
	f.StringVar(&o.mesos, "mesos", defaultMesos, "address of the Mesos agent's API")
	f.StringVar(&o.parent, "cgroup-parent", "", "cgroup to put all of it below (default: one of its own, and /mesos)")
	f.StringVar(&o.level, "log-level", "info", "debug, info, warn or error")
	f.BoolVar(&o.docker, "docker", false, "run jobs with an image in this machine's Docker; checkpoints, where it can take any")
	f.StringArrayVar(&o.settings, "set", nil, "another setting of the agent, KEY=VALUE; may be repeated")
	f.BoolVar(&o.keep, "keep", false, "leave the directory there at the end")
	must(cmd.RegisterFlagCompletionFunc("policy", cobra.FixedCompletions([]string{"deadline", "step", "none"}, cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.RegisterFlagCompletionFunc("control-mode", cobra.FixedCompletions([]string{"act", "advise", "observe"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func (a *app) runDev(ctx context.Context, o devOpts) error {
	if err := o.complete(a); err != nil {
		return err
	}
	cfg, err := o.config()
	if err != nil {
		return err
	}
	if err := cfg.Cgroup.Check(); err != nil {
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
	if err := o.checkPorts(); err != nil {
		return errors.Join(err, dir.remove(o.keep))
	}
	self, err := os.Executable()
	if err == nil && cfg.Run.Command != self {
		err = os.Symlink(self, cfg.Run.Command)
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("find this program: %w", err)
	}
	path := filepath.Join(o.dir, "agent.yaml")
	data, err := cfg.YAML()
	if err == nil {
		err = os.WriteFile(path, data, 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the agent's configuration: %w", err)
	}
	if err := dir.mark(devMark{PID: os.Getpid(), Agent: cfg.Cgroup.Parent, Mesos: o.mesosParent(), Keep: o.keep, Docker: cfg.Engine.Docker, Checkpoints: cfg.Checkpoint.Dir}); err != nil {
		return err
	}
	stopGuard, err := a.startGuard(self, o.dir)
	if err != nil {
		return errors.Join(err, dir.remove(o.keep))
	}
	defer stopGuard()
	a.greet(o, path)
	err = a.superviseDev(ctx, o, self, path)
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearTime)
	defer cancel()
	err = errors.Join(err, cfg.Clear(within), cfg.Cgroup.Clear(within))
	return errors.Join(err, dir.remove(o.keep))
}

// superviseDev runs both processes until ctx ends; the scheduler is stopped first, so that its tasks can still tell the agent.
func (a *app) superviseDev(ctx context.Context, o devOpts, self, config string) error {
	out := newPrefixer(a.err)
	scheduler := &child{name: "mesos", path: self, args: o.schedulerArgs(), env: childEnv(a.environ), out: out.as("mesos", 36), grace: 15 * time.Second}
	node := &child{name: "agent", path: self, args: []string{"agent", "--config", config}, env: childEnv(a.environ), out: out.as("agent", 33), grace: 15 * time.Second}
	return supervise(ctx, scheduler, node)
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

// config is the agent's configuration.
func (o devOpts) config() (agent.Config, error) {
	self, err := os.Executable()
	if err != nil {
		return agent.Config{}, fmt.Errorf("find this program: %w", err)
	}
	c := agent.Default()
	c.DataDir, c.RunDir = filepath.Join(o.dir, "data"), filepath.Join(o.dir, "run")
	c.Listen = o.listen
	c.Log.Level = o.level
	c.Cgroup.Parent = "/qosctl-dev-" + shortHash(o.dir)
	if o.parent != "" {
		c.Cgroup.Parent = filepath.Join("/", o.parent, "qosctl")
	}
	c.Engine.Images = o.imageDirs
	c.Checkpoint.Dir = filepath.Join(devCheckpoints, "dev-"+shortHash(o.dir))
	if !o.docker {
		c.Engine.Docker, c.Checkpoint.Dir = "", ""
	}
	c.Control.Mode, c.Control.Policy, c.Control.CPUs = o.controlMode, o.policy, o.cpus
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
	c.Mesos = agent.MesosConfig{URL: "http://" + o.mesos, Poll: poll}
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

func (o devOpts) schedulerArgs() []string {
	list := []string{
		"devmesos", "--dir", filepath.Join(o.dir, "devmesos"), "--marathon", o.marathon, "--chronos", o.chronos, "--mesos", o.mesos,
		"--deploy", o.deploy.String(), "--cpus", fmt.Sprint(o.cpus), "--log-level", o.level,
	}
	list = append(list, "--cgroup-parent", o.mesosParent())
	for _, i := range o.images {
		list = append(list, "--map-image", i)
	}
	if o.docker {
		list = append(list, "--docker")
	}
	return list
}

// greet says where things are.
func (a *app) greet(o devOpts, config string) {
	flag := ""
	if o.dir != a.devDir() {
		flag = " --agent " + filepath.Join(o.dir, "run", "qosctl.sock")
	}
	fmt.Fprintf(a.out, `qosctl dev: a cluster of one node. Ctrl-C stops it.
  agent     http://%s (read-only), %s
  marathon  http://%s
  chronos   http://%s
  mesos     http://%s
  settings  %s
Try in another shell:
  qosctl%s submit job.json --follow
  qosctl%s top
`, o.listen, filepath.Join(o.dir, "run", "qosctl.sock"), o.marathon, o.chronos, o.mesos, config, flag, flag)
}

// isNoCgroups says whether an agent could not start for want of rights on cgroups.
func isNoCgroups(err error) bool {
	return errors.Is(err, agent.ErrNoAccess)
}
