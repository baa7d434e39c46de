package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// turns is how many turns of spin take a shell about 10 ms of CPU time on this machine, so that a job's work lasts as long everywhere: the
// fastest of three measurements, at least what a slow machine does.
var turns = sync.OnceValue(func() int {
	const tried = 100000
	best := time.Hour
	for range 3 {
		c := exec.Command("sh", "-c", spinFor(tried))
		if c.Run() == nil {
			best = min(best, c.ProcessState.UserTime()+c.ProcessState.SystemTime())
		}
	}
	return max(1000, int(tried*(10*time.Millisecond).Seconds()/best.Seconds()))
})

// spin is shell text that burns about n times 10 ms of CPU time.
func spin(n int) string { return spinFor(n * turns()) }

func spinFor(turns int) string {
	return fmt.Sprintf("k=0; while [ $k -lt %d ]; do k=$((k+1)); done", turns)
}

// lasting has a command of LINPACK burn this many CPU seconds, however fast the machine is.
func lasting(command string, seconds float64) string {
	return fmt.Sprintf("%s -cpu-seconds %g", strings.TrimSpace(command), seconds)
}
