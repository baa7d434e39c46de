package marathon

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"qosctl/devmesos/node"
	"qosctl/devmesos/snapshot"
)

// Options set a scheduler up.
type Options struct {
	Cluster     Cluster
	Dir         string // of the snapshot; "": nothing is kept
	Version     string // "1.11.0"; below 1.5 the answers have the old shapes
	Leader      string // host:port
	FrameworkID string
	Logger      *slog.Logger
}

// Scheduler drives a Core: it serializes calls, ticks, and keeps the apps on disk.
type Scheduler struct {
	o    Options
	log  *slog.Logger
	hub  *hub
	wake chan struct{}

	mu     sync.Mutex
	core   *Core
	closed bool
}

// saveFile is what a snapshot holds: the newest definition of every app, and the tasks that outlive us. Other instances are started anew.
type saveFile struct {
	Apps      []*App     `json:"apps"`
	Instances []savedRun `json:"instances,omitempty"`
}

// New makes a scheduler with the apps of its snapshot.
func New(o Options) (*Scheduler, error) {
	if o.Cluster == nil {
		return nil, errors.New("marathon: a cluster is needed")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	legacy, err := isLegacy(o.Version)
	if err != nil {
		return nil, err
	}
	s := &Scheduler{o: o, log: o.Logger, hub: newHub(), wake: make(chan struct{}, 1)}
	s.core = NewCore(CoreOptions{Cluster: o.Cluster, Emit: s.hub.publish, Legacy: legacy})
	if o.Dir == "" {
		return s, nil
	}
	var f saveFile
	aside, err := snapshot.Load(s.path(), &f)
	if err != nil {
		return nil, err
	}
	if aside != "" {
		s.log.Error("snapshot of apps was corrupt: starting without apps", "kept", aside)
	}
	for _, a := range f.Apps {
		if a == nil || a.ID == "" || a.Version == nil || a.VersionInfo == nil {
			continue
		}
		s.core.complete(a)
		s.core.commit(a.ID, a)
	}
	s.core.restore(f.Instances)
	return s, nil
}

func (s *Scheduler) path() string { return filepath.Join(s.o.Dir, "marathon.json") }

// do changes the state under the lock and lets everything happen that follows from the change.
func (s *Scheduler) do(change func(c *Core, now time.Time) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return failure(http.StatusServiceUnavailable, "Marathon shuts down")
	}
	now := time.Now()
	before := s.core.lastVersion
	err := change(s.core, now)
	s.core.Tick(now)
	if !s.core.lastVersion.Equal(before) || s.core.changedTask {
		s.save()
	}
	select {
	case s.wake <- struct{}{}: // the loop's timer may have become wrong
	default:
	}
	return err
}

// save writes the snapshot. A full disk costs what happens from now on after a crash, not the service.
func (s *Scheduler) save() {
	if s.o.Dir == "" {
		return
	}
	f := saveFile{Apps: []*App{}, Instances: s.core.lasting()}
	s.core.changedTask = false
	for _, id := range s.core.ids() {
		f.Apps = append(f.Apps, s.core.apps[id].spec)
	}
	if err := snapshot.Save(s.path(), f); err != nil {
		s.log.Error("apps are not saved", "err", err)
	}
}

// Status takes a status update from the node.
func (s *Scheduler) Status(st node.Status) {
	_ = s.do(func(c *Core, now time.Time) error { // closed: nobody is left to hear of it
		c.Status(now, st)
		return nil
	})
}

// Offer says that resources became free.
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
			s.hub.close()
			return nil
		case <-timer.C:
		case <-s.wake:
		}
		s.mu.Lock()
		now := time.Now()
		s.core.Tick(now)
		if s.core.changedTask {
			s.save()
		}
		next := s.core.Next(now)
		s.mu.Unlock()
		timer.Stop()
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}
