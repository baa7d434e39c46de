package agent

import (
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"qosctl/qos"
)

// What runs of a name take is learnt on the node where they end. It stands in the job's row (some 120 bytes), which goes to every node, and
// each keeps it by name: a job that is moved, or handed in elsewhere again, is not a stranger there. Of two the one that has seen more runs holds.

// maxHeard bounds what peers have told and is not on disk yet.
const maxHeard = 4096

// models is what peers' rows have told of runs, by framework and name, until it is written.
type models struct {
	mu    sync.Mutex
	heard map[string]qos.Model
	kept  time.Time // by the sampling loop alone
}

// model is what is known of the runs of jobs by this name; the zero Model: nothing.
func (a *Agent) model(f qos.Framework, name string) qos.Model {
	m := a.store.model(f, name)
	a.models.mu.Lock()
	defer a.models.mu.Unlock()
	if h := a.models.heard[string(modelKey(f, name))]; h.N > m.N {
		return h
	}
	return m
}

// hearModel takes in what a row tells of its job's runs.
func (a *Agent) hearModel(r qos.Record) {
	m := r.Status.Model
	if m == nil || !m.Sound() {
		return
	}
	key := string(modelKey(r.Spec.Framework, r.Spec.Name))
	a.models.mu.Lock()
	defer a.models.mu.Unlock()
	if h, known := a.models.heard[key]; m.N > h.N && (known || len(a.models.heard) < maxHeard) {
		if a.models.heard == nil {
			a.models.heard = map[string]qos.Model{}
		}
		a.models.heard[key] = *m
	}
}

// keepModels writes what was heard; all at the agent's end.
func (a *Agent) keepModels(now time.Time, all bool) {
	a.models.mu.Lock()
	defer a.models.mu.Unlock()
	if len(a.models.heard) == 0 || !all && now.Sub(a.models.kept) < historyTick {
		return
	}
	a.models.kept = now
	if err := a.store.mergeModels(a.models.heard); err != nil {
		a.stored(err)
		return
	}
	a.models.heard = nil
}

// learn adds a good run to the model of jobs by this name. What was spent on lost work, and the time without a container, are no part of
// what a run takes. The caller holds j.mu.
func (a *Agent) learn(j *job, run qos.Run) {
	spec := j.spec()
	m := a.model(spec.Framework, spec.Name)
	work := run.CPU - run.Lost()
	held := run.Ended.Sub(run.Started).Seconds() - run.Down
	m.Observe(held*work/max(run.CPU, work, 1e-9), run.MeanCPUs, work)
	if m.N == 0 {
		return
	}
	j.status().Model = &m
	if err := a.store.mergeModels(map[string]qos.Model{string(modelKey(spec.Framework, spec.Name)): m}); err != nil {
		a.log.Warn("what was learnt of a run is lost", "job", spec.Name, "err", err)
	}
}

// model returns what is known of the runs of jobs by this name.
func (s *store) model(f qos.Framework, name string) qos.Model {
	var m qos.Model
	_ = s.db.View(func(tx *bolt.Tx) error {
		if v := tx.Bucket(bucketModels).Get(modelKey(f, name)); v != nil && open(v, &m) != nil {
			m = qos.Model{} // a torn model is no knowledge
		}
		return nil
	})
	return m
}

func modelKey(f qos.Framework, name string) []byte { return []byte(string(f) + " " + name) }

// mergeModels keeps of each name the model that has seen more runs.
func (s *store) mergeModels(list map[string]qos.Model) error {
	return s.update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketModels)
		for key, m := range list {
			var old qos.Model
			if v := b.Get([]byte(key)); v != nil && open(v, &old) == nil && old.N >= m.N {
				continue
			}
			if err := putSealed(b, key, m); err != nil {
				return err
			}
		}
		return nil
	})
}
