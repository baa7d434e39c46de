package devmesos

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Options set a development scheduler up. Zero values are filled in as the comments say.
type Options struct {
	Marathon, Chronos, Mesos string            // listen addresses, on loopback; "127.0.0.1:0": any free port. Default: any
	Dir                      string            // sandboxes, snapshots; needed
	CPUs                     float64           // offered; 0: what the machine has
	MemMiB                   float64           // offered; 0: what the machine has
	Deploy                   time.Duration     // between launch and start; 0: 1 s; negative: none
	Attributes               map[string]string // of the agent; nil: {"qosctl": "yes"}
	Hostname                 string            // of the agent; "": the machine's
	CgroupRoot               string            // "": /sys/fs/cgroup
	Proc                     string            // "": /proc
	CgroupParent             string            // cgroup of all tasks; "": /mesos
	ChronosPrefix            string            // "": /v1/scheduler; /scheduler: as 2.x
	MarathonVersion          string            // "": 1.11.0; below 1.5: old shapes
	HTTPCredentials          string            // "user:password" for basic authentication everywhere; "": none
	Images                   map[string]string // container image → directory whose entries are laid over the host's root
	Docker                   bool              // tasks of type DOCKER are run by docker run, as by Mesos' Docker containerizer
	Logger                   *slog.Logger      // nil: discards
}

// DefaultDeploy is the latency between a task's launch and its start.
const DefaultDeploy = time.Second

func (o *Options) complete() error {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&o.Marathon, "127.0.0.1:0")
	def(&o.Chronos, "127.0.0.1:0")
	def(&o.Mesos, "127.0.0.1:0")
	def(&o.CgroupRoot, "/sys/fs/cgroup")
	def(&o.Proc, "/proc")
	def(&o.CgroupParent, "/mesos")
	def(&o.ChronosPrefix, "/v1/scheduler")
	def(&o.MarathonVersion, "1.11.0")
	if o.Hostname == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("devmesos: find the host name: %w", err)
		}
		o.Hostname = name
	}
	if o.CPUs == 0 {
		o.CPUs = float64(runtime.NumCPU())
	}
	if o.MemMiB == 0 {
		var info unix.Sysinfo_t
		if err := unix.Sysinfo(&info); err != nil {
			return fmt.Errorf("devmesos: find the machine's memory: %w", err)
		}
		o.MemMiB = float64(uint64(info.Totalram)*uint64(info.Unit)>>20) * 0.9 //nolint:unconvert // 32 bits wide on a 32-bit machine
	}
	switch {
	case o.Deploy == 0:
		o.Deploy = DefaultDeploy
	case o.Deploy < 0:
		o.Deploy = 0
	}
	if o.Attributes == nil {
		o.Attributes = map[string]string{"qosctl": "yes"}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o.validate()
}

func (o *Options) validate() error {
	var errs []error
	if o.Dir == "" {
		errs = append(errs, errors.New("dir: must not be empty"))
	}
	for name, addr := range map[string]string{"marathon": o.Marathon, "chronos": o.Chronos, "mesos": o.Mesos} {
		if err := loopback(addr); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	if !strings.HasPrefix(o.ChronosPrefix, "/") || strings.HasSuffix(o.ChronosPrefix, "/") {
		errs = append(errs, fmt.Errorf("chronos prefix: want /v1/scheduler or /scheduler (got %q)", o.ChronosPrefix))
	}
	if user, _, ok := strings.Cut(o.HTTPCredentials, ":"); o.HTTPCredentials != "" && (!ok || user == "") {
		errs = append(errs, errors.New("http credentials: want user:password"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("devmesos: %w", err)
	}
	return nil
}

// loopback refuses addresses that others could reach: whoever reaches the scheduler runs commands as its user.
func loopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("listen address: %w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("listen address: must be on loopback, for it runs whatever it is told to (got %q)", addr)
	}
	return nil
}
