// Command ckptbench measures for how long a job stands still when it is stopped and restored on the same node, by each driver of package ckpt,
// beside plain `docker checkpoint create` and `docker start --checkpoint`, and beside bare `runc checkpoint` and `runc restore`.
//
// It starts test nodes (package e2e/node) and runs itself in them. The job prints the time every millisecond: its downtime is the longest
// gap in its output. `make bench` runs it. It exits 0 whatever the figures are: they count only on a machine that is otherwise idle.
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
	"strconv"
	"strings"
	"syscall"
	"time"

	"qosctl/e2e/node"
	"qosctl/e2e/programs"
)

// Where things stand in a node.
const (
	ownPath     = "/bench/ckptbench"
	imagePath   = "/bench/image.tar"
	runtimePath = "/usr/libexec/qosctl/qosctl-runtime"
)

// options are the flags.
type options struct {
	qosctl   string
	releases []string
	sizes    []int // MiB
	runs     int
	inside   bool // of a node
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	o, err := parse(args, errOut)
	if err != nil {
		return 2
	}
	switch {
	case o.inside:
		err = measure(ctx, o, out)
	case os.Geteuid() != 0:
		fmt.Fprintln(out, "checkpoints: not measured: test nodes need root")
	default:
		err = bench(ctx, o, out, errOut)
	}
	if err != nil {
		fmt.Fprintf(errOut, "ckptbench: %v\n", err)
		return 1
	}
	return 0
}

func parse(args []string, errOut io.Writer) (o options, err error) {
	set := flag.NewFlagSet("ckptbench", flag.ContinueOnError)
	set.SetOutput(errOut)
	set.StringVar(&o.qosctl, "qosctl", "bin/qosctl", "the qosctl to measure")
	set.IntVar(&o.runs, "runs", 5, "of each kind; where one of plain Docker takes more than 20 s, three")
	set.BoolVar(&o.inside, "inside", false, "run in a node; it is called so by itself")
	releases := set.String("nodes", node.Trixie+","+node.Forky, "releases of the nodes")
	sizes := set.String("mib", "1,64,512,1024", "memory that the job touches")
	if err := set.Parse(args); err != nil {
		return o, err
	}
	o.releases = strings.Split(*releases, ",")
	for text := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || o.runs < 1 {
			err = fmt.Errorf("-mib %s -runs %d: sizes and runs count from 1", *sizes, o.runs)
			fmt.Fprintln(errOut, "ckptbench:", err)
			return o, err
		}
		o.sizes = append(o.sizes, n)
	}
	return o, nil
}

// bench measures on a node of each release.
func bench(ctx context.Context, o options, out, errOut io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "qosctl-ckptbench-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	files, err := prepare(ctx, o, dir)
	if err != nil {
		return err
	}
	for _, release := range o.releases {
		if err := benchOn(ctx, o, release, files, out, errOut); err != nil {
			return fmt.Errorf("on a node of %s: %w", release, err)
		}
	}
	return nil
}

// prepare builds what the nodes need: path in the node → file.
func prepare(ctx context.Context, o options, dir string) (map[string]string, error) {
	own, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find myself: %w", err)
	}
	if _, err := os.Stat(o.qosctl); err != nil {
		return nil, fmt.Errorf("look at the binary (make build makes it): %w", err)
	}
	job, image := filepath.Join(dir, "job"), filepath.Join(dir, "image.tar")
	if err := programs.BuildJob(ctx, job); err != nil {
		return nil, err
	}
	f, err := os.Create(image)
	if err != nil {
		return nil, fmt.Errorf("make an image: %w", err)
	}
	err = programs.Programs{programs.Job: job}.Tar(f, nil)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return map[string]string{ownPath: own, imagePath: image, runtimePath: o.qosctl}, nil
}

func benchOn(ctx context.Context, o options, release string, files map[string]string, out, errOut io.Writer) (err error) {
	n, err := node.Start(ctx, node.Options{Name: "ckptbench-" + release, Release: release, Files: files})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Stop()) }()
	var sizes []string
	for _, s := range o.sizes {
		sizes = append(sizes, strconv.Itoa(s))
	}
	cmd := n.Command(ctx, ownPath, "-inside", "-nodes", release, "-runs", strconv.Itoa(o.runs), "-mib", strings.Join(sizes, ","))
	cmd.Stdout, cmd.Stderr = out, errOut
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("measure: %w", err)
	}
	return nil
}
