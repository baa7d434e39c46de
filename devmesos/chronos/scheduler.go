package chronos

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"qosctl/devmesos/node"
	"qosctl/devmesos/snapshot"
)

// Options set a scheduler up.
type Options struct {
	Cluster Cluster
	Dir     string // of the snapshot; "": nothing is kept
	Prefix  string // "/v1/scheduler"; "/scheduler": as 2.x
	Leader  string // host:port
	Logger  *slog.Logger
}

// Scheduler drives a Core: it serializes calls, ticks, and keeps the jobs on disk.
type Scheduler struct {
	o    Options
	log  *slog.Logger
	wake chan struct{}

	mu     sync.Mutex
	core   *Core
	closed bool
}

// saveFile is what a snapshot holds: jobs in the order of their creation, and the tasks that had not ended. Those of this process' own node
// are lost to the next life, and counted so; of the others it will hear.
type saveFile struct {
	Jobs    []json.RawMessage `json:"jobs"`
	Running []string          `json:"running"`
	Lasting []string          `json:"lasting,omitempty"`
}

// New makes a scheduler with the jobs of its snapshot.
func New(o Options) (*Scheduler, error) {
	if o.Cluster == nil || o.Prefix == "" {
		return nil, errors.New("chronos: a cluster and a prefix are needed")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Scheduler{o: o, log: o.Logger, wake: make(chan struct{}, 1), core: NewCore(o.Cluster, o.Prefix == oldPrefix)}
	if o.Dir == "" {
		return s, nil
	}
	var f saveFile
	aside, err := snapshot.Load(s.path(), &f)
	if err != nil {
		return nil, err
	}
	if aside != "" {
		s.log.Error("snapshot of jobs was corrupt: starting without jobs", "kept", aside)
	}
	for _, raw := range f.Jobs {
		j, err := readJob(raw, s.core.old)
		if err != nil {
			s.log.Error("job of the snapshot is not readable", "err", err)
			continue
		}
		s.core.store[j.Name] = j
		s.core.order = append(s.core.order, j.Name)
		s.core.graph[j.Name] = true
	}
	for _, id := range f.Running {
		s.core.lost(id, time.Now())
	}
	for _, id := range f.Lasting {
		s.core.resume(id)
	}
	s.save()
	return s, nil
}

const oldPrefix = "/scheduler"

func (s *Scheduler) path() string { return filepath.Join(s.o.Dir, "chronos.json") }

// do changes the state under the lock and lets everything happen that follows from the change.
func (s *Scheduler) do(change func(c *Core, now time.Time) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return &apiError{http.StatusServiceUnavailable, "Chronos shuts down"}
	}
	now := time.Now()
	err := change(s.core, now)
	s.core.Tick(now)
	s.save()
	s.Offer()
	return err
}

// save writes the snapshot if something has changed. A full disk costs what happens from now on after a crash, not the service.
func (s *Scheduler) save() {
	if !s.core.changed || s.o.Dir == "" {
		return
	}
	f := saveFile{Jobs: []json.RawMessage{}, Running: []string{}}
	for _, id := range slices.Sorted(maps.Keys(s.core.running)) {
		if s.core.running[id].lasting {
			f.Lasting = append(f.Lasting, id)
		} else {
			f.Running = append(f.Running, id)
		}
	}
	for _, name := range s.core.order {
		b, err := json.Marshal(s.core.store[name].shown(false))
		if err != nil {
			s.log.Error("job is not saved", "job", name, "err", err)
			continue
		}
		f.Jobs = append(f.Jobs, b)
	}
	if err := snapshot.Save(s.path(), f); err != nil {
		s.log.Error("jobs are not saved", "err", err)
		return
	}
	s.core.changed = false
}

// Status takes a status update from the node.
func (s *Scheduler) Status(st node.Status) {
	_ = s.do(func(c *Core, now time.Time) error { // closed: nobody is left to hear of it
		c.Status(now, st)
		return nil
	})
}

// Offer says that resources became free, or that the loop's timer may have become wrong.
func (s *Scheduler) Offer() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run ticks until ctx ends. From then on nothing is launched.
func (s *Scheduler) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			s.mu.Lock()
			s.closed = true
			s.mu.Unlock()
			return nil
		case <-timer.C:
		case <-s.wake:
		}
		s.mu.Lock()
		s.core.Tick(time.Now())
		s.save()
		next := s.core.Next()
		s.mu.Unlock()
		timer.Stop()
		timer.Reset(time.Until(next))
	}
}
