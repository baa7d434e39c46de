package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// burn burns CPU and sums up what its process clock says. CRIU does not restore CPU times: the clock of a restored process begins with what
// CRIU has burned restoring it, which is none of the program's. So a difference across a restore is dropped.
type burn struct {
	threads int
	work    atomic.Uint64 // pieces done; never goes back

	mu    sync.Mutex
	clock int64  // last reading, ns
	born  string // start time of the process at that reading
	sum   int64  // of the differences, ns
	drops int    // restores seen
	err   error

	wait sync.WaitGroup
}

// most is a difference between two readings that needs a second look, ns: a piece takes 20 to 50 µs.
const most = 2e6

func (b *burn) flags(set *flag.FlagSet) {
	set.IntVar(&b.threads, "threads", 1, "that burn at once")
}

func (b *burn) begin([]string) error {
	if b.threads < 1 {
		return fmt.Errorf("-threads must be at least 1 (got %d)", b.threads)
	}
	runtime.GOMAXPROCS(b.threads + 1) // one prints
	var err error
	if b.born, err = startTime(); err != nil {
		return err
	}
	for range b.threads {
		b.wait.Go(func() { // ends with the process
			runtime.LockOSThread()
			for x := 1.0; ; {
				for range 4000 {
					x = math.Sqrt(x + 1)
				}
				b.work.Add(uint64(x)) // 1.6: one more, and the roots are needed
				b.read()
			}
		})
	}
	return nil
}

// read adds what the process has had since the last reading, by whatever thread: whoever burns reads soon after.
func (b *burn) read() {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		b.err = fmt.Errorf("read the process clock: %w", err)
		return
	}
	now := ts.Nano()
	d := now - b.clock
	b.clock = now
	if d >= 0 && d < most {
		b.sum += d
		return
	}
	born, err := startTime()
	if err != nil {
		b.err = err
		return
	}
	if born == b.born && d >= 0 {
		b.sum += d
		return
	}
	b.born = born
	b.drops++
}

// step prints the sum in nanoseconds, the pieces done and how often it was restored.
func (b *burn) step(int64) (string, error) {
	b.read()
	b.mu.Lock()
	defer b.mu.Unlock()
	return fmt.Sprintf("%d %d %d", b.sum, b.work.Load(), b.drops), b.err
}

// startTime is when this process was made, in clock ticks since boot. A restored process was made at its restore.
func startTime() (string, error) {
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return "", fmt.Errorf("read the start time: %w", err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	if len(f) < 20 {
		return "", fmt.Errorf("/proc/self/stat has another form: %q", text)
	}
	return f[19], nil
}
