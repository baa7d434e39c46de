package agent

import (
	"fmt"
	"time"

	"github.com/prometheus/procfs"
)

// nodeLoad measures how many CPUs of the node are in use, by jobs and by everything else, from /proc/stat.
type nodeLoad struct {
	fs   procfs.FS
	at   time.Time
	used float64 // seconds since boot, of all CPUs
	busy float64 // CPUs, at the last look that was long enough after the one before
}

func newNodeLoad(proc string) (*nodeLoad, error) {
	fs, err := procfs.NewFS(proc)
	if err != nil {
		return nil, fmt.Errorf("find /proc: %w", err)
	}
	return &nodeLoad{fs: fs}, nil
}

// look returns the CPUs in use since the last look; 0 while that is not known. Time that the hypervisor took away counts as used:
// no job can have it.
func (n *nodeLoad) look(now time.Time) float64 {
	stat, err := n.fs.Stat()
	if err != nil {
		return 0
	}
	c := stat.CPUTotal
	used := c.User + c.Nice + c.System + c.IRQ + c.SoftIRQ + c.Steal // User has Guest in it
	dt := now.Sub(n.at).Seconds()
	if dt < minWindow.Seconds() {
		return n.busy
	}
	if !n.at.IsZero() {
		n.busy = max(0, used-n.used) / dt
	}
	n.at, n.used = now, used
	return n.busy
}
