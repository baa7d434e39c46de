package devmesos

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
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

	Master      string        // listen address of the Mesos master's API, as those above
	Nodes       []LocalNode   // of this process; nil: one, as the fields above say
	Remote      bool          // no node of this process: all are others' (see NewNode)
	PingTimeout time.Duration // silence after which a node is unreachable; 0: 15 s
	Token       string        // that nodes of other processes must show; needed with Open
	NoOperators bool          // nobody may drain agents or maintain machines
	// Open allows addresses that others can reach. Whoever reaches them runs commands as this process' user.
	Open bool
}

// LocalNode is a node of a cluster of several. Zero values are as in Options, but for those that must differ from node to node: host name
// (node1, node2, …), directory (Dir for the first, Dir/node2, …), cgroup (CgroupParent-node1, …), ports (31000, 32000, …).
type LocalNode struct {
	Hostname     string            `json:"hostname,omitempty"`
	Mesos        string            `json:"mesos,omitempty"` // listen address of the agent's API
	Attributes   map[string]string `json:"attributes,omitempty"`
	CPUs         float64           `json:"cpus,omitempty"`
	MemMiB       float64           `json:"mem,omitempty"`
	Dir          string            `json:"dir,omitempty"`
	CgroupParent string            `json:"cgroup_parent,omitempty"`
	FirstPort    int               `json:"first_port,omitempty"`
	ExecutorEnv  map[string]string `json:"executor_env,omitempty"` // as the agent's --executor_environment_variables
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
	def(&o.Master, "127.0.0.1:0")
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
	o.completeNodes()
	return o.validate()
}

// completeNodes makes the list of the nodes of this process.
func (o *Options) completeNodes() {
	switch {
	case o.Remote:
		o.Nodes = nil
		return
	case o.Nodes == nil:
		o.Nodes = []LocalNode{{Hostname: o.Hostname, Mesos: o.Mesos, CgroupParent: o.CgroupParent}}
	}
	o.Nodes = slices.Clone(o.Nodes)
	for i := range o.Nodes {
		n := &o.Nodes[i]
		name := fmt.Sprintf("node%d", i+1)
		if len(o.Nodes) == 1 {
			n.Hostname, n.CgroupParent = cmp.Or(n.Hostname, o.Hostname), cmp.Or(n.CgroupParent, o.CgroupParent)
		}
		n.Hostname = cmp.Or(n.Hostname, name)
		n.Mesos = cmp.Or(n.Mesos, "127.0.0.1:0")
		n.CPUs, n.MemMiB = cmp.Or(n.CPUs, o.CPUs), cmp.Or(n.MemMiB, o.MemMiB)
		n.CgroupParent = cmp.Or(n.CgroupParent, o.CgroupParent+"-"+name)
		n.FirstPort = cmp.Or(n.FirstPort, 31000+1000*i)
		if n.Attributes == nil {
			n.Attributes = o.Attributes
		}
		switch {
		case n.Dir == "" && i == 0:
			n.Dir = o.Dir
		case n.Dir == "":
			n.Dir = filepath.Join(o.Dir, name)
		}
	}
}

func (o *Options) validate() error {
	var errs []error
	if o.Dir == "" {
		errs = append(errs, errors.New("dir: must not be empty"))
	}
	addrs := map[string]string{"marathon": o.Marathon, "chronos": o.Chronos, "mesos": o.Mesos, "master": o.Master}
	names := map[string]bool{}
	for _, n := range o.Nodes {
		addrs["mesos of "+n.Hostname] = n.Mesos
		if names[n.Hostname] {
			errs = append(errs, fmt.Errorf("nodes: two are called %s", n.Hostname))
		}
		names[n.Hostname] = true
	}
	for name, addr := range addrs {
		if err := loopback(addr); err != nil && !o.Open {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	if o.Open && o.Token == "" {
		errs = append(errs, errors.New("token: must be given when others can reach the addresses"))
	}
	const most = 32 // of ranges of ports
	if len(o.Nodes) > most {
		errs = append(errs, fmt.Errorf("nodes: at most %d (got %d)", most, len(o.Nodes)))
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
