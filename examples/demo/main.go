// Command demo drives the main job: it starts `qosctl dev` on this machine's real cores, submits the thesis' jobs in small, a real
// LINPACK each, shows what becomes of them, and says which deadlines were met. It exits 0 if all were, 3 if one was missed, 1 on error.
//
// `make demo` builds what it needs and runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"qosctl/agent/api"
	"qosctl/qos"
)

const image = "serlophug/openmplinpack" // of the thesis' job files; mapped to a directory that holds our linpack

const (
	exitMet    = 0
	exitError  = 1
	exitUsage  = 2
	exitMissed = 3
)

func main() {
	// A development setup dies with the thread that started it (see dev.go): that must be one that stays.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are the command line.
type options struct {
	qosctl  string
	linpack string
	policy  string
	seconds time.Duration
	keep    string
	tenant  float64
	curves  int
	chaos   int
	seed    uint64
	json    bool
}

func parse(args []string, errOut io.Writer) (options, error) {
	var o options
	set := flag.NewFlagSet("demo", flag.ContinueOnError)
	set.SetOutput(errOut)
	set.StringVar(&o.qosctl, "qosctl", "bin/qosctl", "the qosctl to run")
	set.StringVar(&o.linpack, "linpack", "bin/linpack", "the linpack to run")
	set.StringVar(&o.policy, "policy", "deadline", "deadline, step, step-code or none (what was asked for at submission, unchanged)")
	seconds := set.Float64("seconds", 100, "the Chronos jobs' deadline")
	set.StringVar(&o.keep, "keep", "", "keep all files in `DIR`, which must be empty or not there")
	set.Float64Var(&o.tenant, "tenant", 0, "another tenant of the node, that Mesos has sold so many CPUs to and that burns all it can get; 0: none")
	set.IntVar(&o.curves, "curves", 0, "do it so many times, and hold the CPUs that jobs were given over time against the simulator's")
	set.IntVar(&o.chaos, "chaos", 0, "kill -9 the agent so many times, at random moments")
	set.Uint64Var(&o.seed, "seed", 1, "of the random moments")
	set.BoolVar(&o.json, "json", false, "print the outcome as JSON")
	if err := set.Parse(args); err != nil {
		return o, err
	}
	o.seconds = time.Duration(*seconds * float64(time.Second))
	switch {
	case set.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", set.Arg(0))
	case !(*seconds >= 30 && *seconds <= 3600):
		return o, fmt.Errorf("seconds must be 30 to 3600 (got %g)", *seconds)
	case !(o.tenant == 0 || o.tenant >= 0.1 && o.tenant <= 64):
		return o, fmt.Errorf("tenant must be 0 or 0.1 to 64 (got %g)", o.tenant)
	case o.curves < 0 || o.curves > 0 && (o.chaos > 0 || o.keep != "" || o.json || o.tenant > 0):
		return o, errors.New("curves must be >= 0, and goes with neither chaos, tenant, keep nor json")
	case o.chaos < 0:
		return o, fmt.Errorf("chaos must be >= 0 (got %d)", o.chaos)
	case !slices.Contains(qos.PolicyNames(), o.policy):
		return o, fmt.Errorf("policy must be one of %v (got %q)", qos.PolicyNames(), o.policy)
	case os.Geteuid() != 0:
		return o, errors.New("the demo gives jobs an image of their own and writes cgroups: run it as root")
	}
	return o, nil
}

func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	o, err := parse(args, errOut)
	if errors.Is(err, flag.ErrHelp) {
		return exitMet
	}
	if err != nil {
		fmt.Fprintf(errOut, "demo: %v\n", err)
		return exitUsage
	}
	talk := out
	if o.json {
		talk = errOut // standard output is for the outcome alone
	}
	o.qosctl, o.linpack = absolute(o.qosctl), absolute(o.linpack)
	if o.curves > 0 {
		return curves(ctx, o, out, errOut)
	}
	res, _, err := demo(ctx, o, talk)
	if err != nil {
		fmt.Fprintf(errOut, "demo: %v\n", err)
		return exitError
	}
	if o.json {
		err = res.writeJSON(out)
	} else {
		err = res.writeTable(out)
	}
	if err != nil {
		fmt.Fprintf(errOut, "demo: %v\n", err)
		return exitError
	}
	return res.exitCode()
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// demo is the whole demonstration. Whatever happens, nothing of it is left running.
func demo(ctx context.Context, o options, out io.Writer) (res result, c course, err error) {
	dir, remove, err := workDir(o.keep)
	if err != nil {
		return res, c, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	imageDir, sharedDir, err := lay(dir, o.linpack)
	if err != nil {
		return res, c, err
	}

	cpus := min(runtime.NumCPU(), mostCPUs)
	threads := min(cpus, mostThreads)
	fmt.Fprintf(out, "calibrating LINPACK on %d of %d CPUs ...\n", cpus, runtime.NumCPU())
	speeds, err := calibrate(ctx, o.linpack, dir, threads)
	if err != nil {
		return res, c, err
	}
	p, err := makePlan(speeds, cpus, threads, o.seconds, o.tenant)
	if err != nil {
		return res, c, err
	}
	if err := p.write(out, speeds); err != nil {
		return res, c, err
	}

	d, err := startDev(ctx, devOptions{
		qosctl: o.qosctl, dir: dir, policy: o.policy, image: image + "=" + imageDir, cpus: cpus, keep: o.keep != "",
	})
	if err != nil {
		return res, c, err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	client, err := api.New(api.Options{Address: d.address})
	if err != nil {
		return res, c, err
	}
	defer client.Close()
	if err := d.ready(ctx, client); err != nil {
		return res, c, err
	}
	fmt.Fprintf(out, "\nqosctl dev is ready: policy %s, API %s\n", o.policy, d.address)

	if err := d.invite(ctx, o.tenant, cpus); err != nil {
		return res, c, err
	}

	s := show{client: client, plan: p, out: out, shared: sharedDir}
	if err := s.submit(ctx); err != nil {
		return res, c, err
	}
	k := newChaos(o, d)
	if err := s.watch(ctx, d, k); err != nil {
		return res, c, err
	}
	res, err = s.result(ctx, o, k)
	return res, s.course, err
}

// workDir makes the directory that everything is in; remove takes it away again, but for one that is to be kept.
func workDir(keep string) (dir string, remove func() error, err error) {
	if keep != "" {
		dir = absolute(keep)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", nil, fmt.Errorf("make the directory to keep: %w", err)
		}
		if there, err := os.ReadDir(dir); err != nil || len(there) > 0 {
			return "", nil, errors.Join(fmt.Errorf("directory %s is not empty: keep this demo elsewhere", dir), err)
		}
		return dir, func() error { return nil }, nil
	}
	dir, err = os.MkdirTemp("", "qosctl-demo-")
	if err != nil {
		return "", nil, fmt.Errorf("make a directory: %w", err)
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}

// lay makes the image of the jobs, a directory with our linpack under the thesis' name, and the directory that they share.
func lay(dir, linpack string) (imageDir, sharedDir string, err error) {
	imageDir, sharedDir = filepath.Join(dir, "image"), filepath.Join(dir, "shared")
	for _, d := range []string{imageDir, sharedDir} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return "", "", fmt.Errorf("make %s: %w", d, err)
		}
	}
	program, err := os.ReadFile(linpack)
	if err != nil {
		return "", "", fmt.Errorf("read linpack (make build makes it): %w", err)
	}
	if err := os.WriteFile(filepath.Join(imageDir, "linpack_openmp"), program, 0o755); err != nil {
		return "", "", fmt.Errorf("copy linpack: %w", err)
	}
	return imageDir, sharedDir, nil
}
