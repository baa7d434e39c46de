// Command bench measures what an agent costs that has nothing to do: from its start to its first answer at /metrics, the memory it
// sits in afterwards, and the size of its binary. It exits 1 if one is above its limit. `make bench` runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The limits that the project sets itself.
const (
	mostStart  = 150 * time.Millisecond
	mostMemory = 25 << 20 // bytes resident
	mostBinary = 26e6     // bytes; 17e6 before gossip, TLS between agents, Monasca and the simulator came with their libraries
)

const (
	starts   = 9               // the median counts
	settle   = 3 * time.Second // until its memory is read: some sampling periods
	answerIn = 10 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	set.SetOutput(errOut)
	binary := set.String("qosctl", "bin/qosctl", "the qosctl to measure")
	if err := set.Parse(args); err != nil {
		return 2
	}
	ok, err := bench(ctx, *binary, out)
	if err != nil {
		fmt.Fprintf(errOut, "bench: %v\n", err)
		return 1
	}
	if !ok {
		return 1
	}
	return 0
}

func bench(ctx context.Context, binary string, out io.Writer) (bool, error) {
	info, err := os.Stat(binary)
	if err != nil {
		return false, fmt.Errorf("look at the binary (make build makes it): %w", err)
	}
	var times []time.Duration
	var memory int64
	for i := range starts {
		wait := time.Duration(0)
		if i == starts-1 {
			wait = settle
		}
		took, rss, err := once(ctx, binary, wait)
		if err != nil {
			return false, err
		}
		times, memory = append(times, took), rss
	}
	slices.Sort(times)
	median := times[len(times)/2]
	const row = "%-34s %10s   limit %8s   %s\n"
	fmt.Fprintf(out, row, "agent: start to first /metrics", median.Round(time.Millisecond), mostStart, verdict(median <= mostStart))
	fmt.Fprintf(out, row, "agent: resident when idle", mib(memory), mib(mostMemory), verdict(memory <= mostMemory))
	fmt.Fprintf(out, row, "qosctl: size of the binary", megabytes(info.Size()), megabytes(mostBinary), verdict(info.Size() <= mostBinary))
	return median <= mostStart && memory <= mostMemory && info.Size() <= mostBinary, nil
}

func mib(n int64) string       { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

func verdict(ok bool) string {
	if ok {
		return "ok"
	}
	return "TOO MUCH"
}

// once starts an agent with a data directory of its own, asks it for its metrics until it answers, and ends it.
func once(ctx context.Context, binary string, wait time.Duration) (took time.Duration, rss int64, err error) {
	dir, err := os.MkdirTemp("", "qosctl-bench-")
	if err != nil {
		return 0, 0, fmt.Errorf("make a directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	address, config, err := configure(dir)
	if err != nil {
		return 0, 0, err
	}
	var log strings.Builder
	cmd := exec.CommandContext(ctx, binary, "agent", "--config", config)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = answerIn
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, fmt.Errorf("start the agent: %w", err)
	}
	err = firstAnswer(ctx, "http://"+address+"/metrics")
	took = time.Since(start)
	if err == nil {
		rss, err = memoryAfter(ctx, cmd.Process.Pid, wait)
	}
	if stop := cmd.Process.Signal(syscall.SIGTERM); stop != nil && !errors.Is(stop, os.ErrProcessDone) {
		err = errors.Join(err, stop)
	}
	if end := cmd.Wait(); end != nil || err != nil {
		return 0, 0, fmt.Errorf("measure the agent: %w\n%s", errors.Join(err, end), log.String())
	}
	return took, rss, nil
}

// configure writes the least configuration: no framework, no job.
func configure(dir string) (address, path string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", fmt.Errorf("find a free port: %w", err)
	}
	address = l.Addr().String()
	if err := l.Close(); err != nil {
		return "", "", fmt.Errorf("find a free port: %w", err)
	}
	path = filepath.Join(dir, "agent.yaml")
	text := fmt.Sprintf("data_dir: %s/data\nrun_dir: %s/run\nlisten: %s\n", dir, dir, address)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", "", fmt.Errorf("write the configuration: %w", err)
	}
	return address, path, nil
}

// firstAnswer asks every millisecond until somebody answers 200.
func firstAnswer(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerIn, fmt.Errorf("no answer within %s", answerIn))
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if ask(ctx, url) == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func ask(ctx context.Context, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("ask for metrics: %w", err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("ask for metrics: %w", err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return fmt.Errorf("read metrics: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("ask for metrics: %s", answer.Status)
	}
	return nil
}

// memoryAfter waits and returns the resident memory of a process, in bytes.
func memoryAfter(ctx context.Context, pid int, wait time.Duration) (int64, error) {
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read the agent's memory: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read the agent's memory: %w", err)
			}
			return kib << 10, nil
		}
	}
	return 0, errors.New("read the agent's memory: /proc does not say")
}
