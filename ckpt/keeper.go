package ckpt

import (
	"cmp"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/docker/docker/client"

	"qosctl/cgroup"
	"qosctl/container"
)

// Options are what a Keeper is made of.
type Options struct {
	Dir         string           // of the checkpoints, mode 0700; CRIU's configuration files stand in <Dir>/.conf, or one below it for each node that shares it
	Node        string           // this node's name
	Engine      container.Engine // that holds the containers: Docker
	Docker      *client.Client   // the same Docker
	Cgroups     *cgroup.FS       //
	Proc        string           // "/proc"
	Driver      string           // auto, docker, runtime, none
	Runtime     string           // name by which our OCI runtime is registered with Docker: "qosctl"
	Helper      string           // socket of a helper that has runc take the dumps of driver runtime (ServeDump); "": we have it
	Keep        int              // checkpoints of a job; the newest are kept
	Shared      bool             // all nodes have the same Dir: what another one has taken, or is taking, is its own to end and to remove
	MaxBytes    int64            // of all checkpoints together; 0: what the disk has
	DumpTime    time.Duration    // a dump that takes longer is stopped; plus a second for each 64 MiB resident
	RestoreTime time.Duration    // likewise
	Logger      *slog.Logger     // nil: nothing is logged
}

// Keeper keeps a node's checkpoints. All methods may be called at once; two operations on one container are not done at once (ErrBusy).
type Keeper struct {
	o      Options
	log    *slog.Logger
	store  *store
	locks  locks
	disk   chan struct{} // one dump at a time
	pace   pace          // of seals
	docker *client.Client
	host   host
	free   func(dir string) (int64, error)
	hook   func(step string) // of tests, between two steps; nil: none
	mounts mounts

	mu     sync.Mutex
	driver driver // nil: none was chosen
	report Report
	swept  time.Time // last look for files of containers that are gone
}

// Report says which driver was chosen, and what every check found.
type Report struct {
	Driver string  `json:"driver"` // "": none, jobs are resized in place only
	Class  Class   `json:"class"`
	Checks []Check `json:"checks"`
}

// Check is one finding of the self-test.
type Check struct {
	Name   string        `json:"name"`
	OK     bool          `json:"ok"`
	Text   string        `json:"text"`
	Remedy string        `json:"remedy,omitempty"` // what to do about it
	Took   time.Duration `json:"took,omitempty"`
}

// New opens the store. It starts nothing.
func New(o Options) (*Keeper, error) {
	if o.Engine == nil || o.Docker == nil || o.Cgroups == nil || o.Dir == "" {
		return nil, errors.New("checkpoints need an engine, Docker, cgroups and a directory")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	st, err := openStore(o.Dir)
	if err != nil {
		return nil, err
	}
	o.Dir = st.dir
	for _, name := range []string{confDir, scratchDir, o.conf(), o.scratch()} {
		if err := st.mkdir(name); err != nil {
			return nil, errors.Join(err, st.root.Close())
		}
	}
	return &Keeper{
		o: o, log: o.Logger.With("pkg", "ckpt"), store: st, disk: make(chan struct{}, 1), docker: o.Docker, host: kernel{o.Cgroups},
		free: freeBytes,
	}, nil
}

// Close closes the store.
func (k *Keeper) Close() error {
	k.mounts.wait.Wait()
	return k.store.root.Close()
}

func (k *Keeper) proc() string { return cmp.Or(k.o.Proc, "/proc") }

func (k *Keeper) step(name string) {
	if k.hook != nil {
		k.hook(name)
	}
}

// chosen is the driver; nil: none.
func (k *Keeper) chosen() driver {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.driver
}

// choose makes what a self-test has found the truth.
func (k *Keeper) choose(name string, r Report) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.driver, k.report = nil, r
	for _, d := range newDrivers(k.o) {
		if d.name() == name {
			k.driver = d
		}
	}
}

// Report is what the last Test found.
func (k *Keeper) Report() Report {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.report.clone()
}

// Prepare adds to the spec of a container that is about to be created what its checkpoints need: the OCI runtime and annotations.
// Without a driver it does nothing.
func (k *Keeper) Prepare(s *container.Spec) error {
	d := k.chosen()
	if d == nil {
		return nil
	}
	return d.ready(s)
}
