// Command linpack solves random systems of linear equations as the LINPACK benchmark does: the work of the thesis' experiments,
// done for real. It factors an n×n matrix on as many threads as it is told, solves, and checks the residual.
//
//	linpack [-threads T] [-seed S] [-repeat K] [-cpu-seconds X] [-report FILE] [N]
//
// Flags may stand behind N too. Under the name linpack_openmp it is what the thesis' job files call.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

func main() {
	os.Exit(run(os.Args, os.Stdout, os.Stderr))
}

// options is what the command line asks for.
type options struct {
	n       int
	threads int
	seed    uint64
	repeat  int
	cpu     float64 // CPU seconds to burn at least
	report  string
}

// result is one line of a report: what was done, and what the kernel says it cost.
type result struct {
	N        int     `json:"n"`
	Threads  int     `json:"threads"`
	Repeats  int     `json:"repeats"`
	Seconds  float64 `json:"seconds"`     // wall time of the factorisations and solutions
	CPU      float64 `json:"cpu_seconds"` // user and system time of the whole process so far, by getrusage
	GFlops   float64 `json:"gflops"`
	Residual float64 `json:"residual"` // the worst
}

// run is the whole program; it returns the exit status: 0, 1 if a residual is too large or the report can't be written, 2 on wrong use.
func run(args []string, out, errOut io.Writer) int {
	o, err := parse(args, errOut)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(errOut, "linpack: %v\n", err)
		return 2
	}
	// Said outright: by itself Go takes the cgroup's quota for the number of CPUs at start, and the quota changes while we run.
	runtime.GOMAXPROCS(o.threads)
	r, err := work(o)
	if err != nil {
		fmt.Fprintf(errOut, "linpack: %v\n", err)
		return 1
	}
	fmt.Fprintf(out, "n %d threads %d repeats %d time %.3f s cpu %.3f s %.3f GFlop/s residual %.4f\n",
		r.N, r.Threads, r.Repeats, r.Seconds, r.CPU, r.GFlops, r.Residual)
	if err := report(o.report, r); err != nil {
		fmt.Fprintf(errOut, "linpack: %v\n", err)
		return 1
	}
	const tooLarge = 16 // HPL's threshold
	if !(r.Residual < tooLarge) {
		fmt.Fprintf(errOut, "linpack: residual %g is not below %d: the solution is wrong\n", r.Residual, tooLarge)
		return 1
	}
	return 0
}

func parse(args []string, errOut io.Writer) (options, error) {
	o := options{n: 1000}
	set := flag.NewFlagSet(args[0], flag.ContinueOnError)
	set.SetOutput(errOut)
	set.IntVar(&o.threads, "threads", runtime.NumCPU(), "threads")
	set.Uint64Var(&o.seed, "seed", 1, "of the random numbers")
	set.IntVar(&o.repeat, "repeat", 1, "factor and solve so many times, a new matrix each time")
	set.Float64Var(&o.cpu, "cpu-seconds", 0, "go on until so many CPU seconds are used")
	set.StringVar(&o.report, "report", "", "append a line of JSON to `FILE`")
	rest := args[1:]
	var words []string
	for {
		if err := set.Parse(rest); err != nil {
			return o, err
		}
		if set.NArg() == 0 {
			break
		}
		words, rest = append(words, set.Arg(0)), set.Args()[1:]
	}
	switch len(words) {
	case 0:
	case 1:
		n, err := strconv.Atoi(words[0])
		if err != nil {
			return o, fmt.Errorf("size %q is not a number", words[0])
		}
		o.n = n
	default:
		return o, fmt.Errorf("one size is enough (got %q)", words)
	}
	const most = 1 << 15 // 8 GiB
	if o.n < 1 || o.n > most {
		return o, fmt.Errorf("size must be 1 to %d (got %d)", most, o.n)
	}
	if o.threads < 1 || o.repeat < 1 || o.cpu < 0 {
		return o, fmt.Errorf("threads and repeat must be > 0, cpu-seconds ≥ 0 (got %d, %d, %g)", o.threads, o.repeat, o.cpu)
	}
	return o, nil
}

// work factors and solves until both repeat and cpu-seconds are satisfied. Each matrix has a seed of its own.
func work(o options) (result, error) {
	r := result{N: o.n, Threads: o.threads}
	m := matrix{n: o.n, a: make([]float64, o.n*o.n)}
	b, x, piv := make([]float64, o.n), make([]float64, o.n), make([]int, o.n)
	for r.Repeats < o.repeat || r.CPU < o.cpu {
		seed := o.seed + uint64(r.Repeats)
		fill(m, b, seed)
		copy(x, b)
		start := time.Now()
		if err := factor(m, piv, o.threads); err != nil {
			return r, fmt.Errorf("factor matrix of seed %d: %w", seed, err)
		}
		solve(m, piv, x)
		r.Seconds += time.Since(start).Seconds()
		r.Repeats++
		fill(m, b, seed) // the factors took its place
		if v := residual(m, x, b); !(v <= r.Residual) {
			r.Residual = v
		}
		cpu, err := cpuSeconds()
		if err != nil {
			return r, err
		}
		r.CPU = cpu
	}
	n := float64(o.n)
	r.GFlops = (2*n*n*n/3 + 2*n*n) * float64(r.Repeats) / r.Seconds / 1e9
	return r, nil
}

// cpuSeconds is the CPU time of this process so far.
func cpuSeconds() (float64, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("read own CPU time: %w", err)
	}
	return (time.Duration(u.Utime.Nano()) + time.Duration(u.Stime.Nano())).Seconds(), nil
}

// report appends r to a file, in one write, so that several may do so at once.
func report(path string, r result) error {
	if path == "" {
		return nil
	}
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("open report: %w", err)
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}
