package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"qosctl/agent/api"
	"qosctl/ckpt"
	"qosctl/qos"
)

// row is what the store keeps of a job: the record that peers may see, and what only this node knows.
type row struct {
	version uint64 // grows with each change in memory: an older one never replaces a newer one on disk

	Record qos.Record `json:"record"`
	Local  local      `json:"local"`
}

// clone copies what is changed in place, so that a row can be encoded while its job goes on.
func (r row) clone() row {
	st, l := &r.Record.Status, &r.Local
	st.Steward = st.Steward.Clone()
	st.Runs, l.Tasks, l.Events = slices.Clone(st.Runs), slices.Clone(l.Tasks), slices.Clone(l.Events)
	if st.Saved != nil {
		saved := *st.Saved
		st.Saved = &saved
	}
	if l.Move != nil {
		move := *l.Move
		l.Move = &move
	}
	if l.Stop != nil {
		stop := *l.Stop
		l.Stop = &stop
	}
	if st.Execution != nil {
		e := *st.Execution
		e.Account = e.Account.Clone()
		st.Execution = &e
	}
	return r
}

// local is this node's own knowledge of a job. It is never shown to peers.
type local struct {
	Tasks     []task         `json:"tasks,omitempty"`     // stand-ins that claimed, the last maxTasks
	Events    []event        `json:"events,omitempty"`    // the last maxEvents
	Decisions []qos.Decision `json:"decisions,omitempty"` // the last keptDecisions of a job that has ended
	Changed   time.Time      `json:"changed,omitzero"`    // last change of the allocation
	Memory    qos.Memory     `json:"memory,omitzero"`     // of the policy, for its next look
	Stop      *stopOrder     `json:"stop,omitempty"`      // of the present container; nil: none was given
	Restoring int            `json:"restoring,omitempty"` // sequence of the checkpoint that the present incarnation is being restored from; 0: none
	Move      *move          `json:"move,omitempty"`      // resize by reschedule that is under way
	Sandbox   string         `json:"sandbox,omitempty"`   // of the task that began the present execution: its open files are there
	Wish      int            `json:"wish,omitempty"`      // sequence of the checkpoint that the next restore is to be from; 0: the newest
	Elsewhere int            `json:"elsewhere,omitempty"` // how many nodes in a row gave the claim back, as another may restore its checkpoint
	Used      used           `json:"used,omitzero"`       // of it, booked by this node
	Mended    int            `json:"mended,omitempty"`    // quota changes by others, set right again
	Received  []owed         `json:"received,omitempty"`  // accounts that other nodes have told, the last keepReceived
	InARow    int            `json:"in_a_row,omitempty"`  // of them, the last in a row: for the back-off of warm iterations
	Heard     heard          `json:"heard,omitzero"`      // by the thesis' protocol
}

// task is a stand-in's task: which executions it carried, and the code it was told to exit with.
type task struct {
	ID    string    `json:"id"`
	First int       `json:"first"`          // its first execution
	Part  int       `json:"part,omitempty"` // and the incarnation of it; 0: the first
	UID   int       `json:"uid"`            // whom it runs as
	GID   int       `json:"gid"`
	Dir   string    `json:"dir,omitempty"`  // its sandbox
	Env   []string  `json:"env,omitempty"`  // HOST, PORTn, MESOS_*
	CPUs  float64   `json:"cpus,omitempty"` // that it was launched with; 0: nobody said
	Exit  *int      `json:"exit,omitempty"`
	Cause string    `json:"cause,omitempty"`
	Left  bool      `json:"left,omitempty"` // it ends before its container does
	At    time.Time `json:"at"`
}

// stopOrder says that a container is to be stopped.
type stopOrder struct {
	Why    string    `json:"why"`
	At     time.Time `json:"at"`
	Save   bool      `json:"save,omitempty"`   // its process state is to be kept
	Again  bool      `json:"again,omitempty"`  // and restored at once, for the same task
	Signal int       `json:"signal,omitempty"` // that the stand-in was told to stop by
	Leaves bool      `json:"leaves,omitempty"` // the series goes to another node: its task has done its work

	done func(ckpt.Manifest, error) // told when it is done; lost in a crash
}

// event is something that happened to a job.
type event struct {
	At   time.Time `json:"at"`
	Kind string    `json:"kind"`
	Text string    `json:"text"`
}

// Bounds of a row's lists.
const (
	maxTasks      = 16
	maxEvents     = 100
	keptDecisions = 20
)

var (
	bucketJobs   = []byte("jobs")
	bucketModels = []byte("models") // qos.Model by framework and job name
)

// storeFile is the store's name in the data directory.
const storeFile = "agent.db"

var errCorrupt = errors.New("store is corrupt")

// store keeps rows in one bbolt file. Each value carries its own checksum, so that a torn row is told from a good one.
type store struct {
	db      *bolt.DB
	written map[string]uint64 // version of each row on disk; guarded by bbolt's one writer

	usageMu sync.Mutex                 // held while rows are written, and what they have used is added to the days
	used    map[string]api.UsageCounts // what the rows on disk say that was booked of each job
	begun   int                        // rows of days, since the start
}

// openStore opens the store in dir. A store that can't be read is moved aside, said loudly, and begun anew: what runs is found again by its labels.
func openStore(dir string, log *slog.Logger) (*store, []row, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	path := filepath.Join(dir, storeFile)
	s, rows, err := tryStore(path, log)
	if err == nil || !errors.Is(err, errCorrupt) {
		return s, rows, err
	}
	aside := asideName(path)
	if mvErr := os.Rename(path, aside); mvErr != nil {
		return nil, nil, fmt.Errorf("set the corrupt store aside: %w", errors.Join(err, mvErr))
	}
	log.Error("the store can't be read; it is kept aside, and a new one is built from what runs", "err", err, "kept", aside)
	return tryStore(path, log)
}

func tryStore(path string, log *slog.Logger) (s *store, rows []row, err error) {
	defer func() { // bbolt panics on some damaged pages
		if p := recover(); p != nil {
			s, rows, err = nil, nil, fmt.Errorf("%w: %v", errCorrupt, p)
		}
	}()
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 5 * time.Second})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, nil, fmt.Errorf("open %s: another agent holds it", path)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, nil, fmt.Errorf("%w: %w", errCorrupt, err)
	case err != nil:
		return nil, nil, fmt.Errorf("open the store: %w", err)
	}
	s = &store{db: db, written: map[string]uint64{}, used: map[string]api.UsageCounts{}}
	if err := s.init(); err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	rows, torn, err := s.rows()
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	if len(torn) > 0 {
		aside := asideName(path)
		log.Error("rows of the store can't be read; they are given up, a copy is kept", "jobs", torn, "kept", aside)
		if err := s.dropTorn(aside, torn); err != nil {
			return nil, nil, errors.Join(err, db.Close())
		}
	}
	for _, r := range rows {
		s.used[r.Record.Spec.ID] = r.Local.Used.Sum
	}
	return s, rows, nil
}

// asideName is where a damaged store is kept.
func asideName(path string) string {
	return fmt.Sprintf("%s.corrupt-%s", path, time.Now().UTC().Format("20060102T150405.000Z"))
}

// dropTorn removes rows that can't be read; a copy of the store is kept as it was.
func (s *store) dropTorn(aside string, torn []string) error {
	err := s.db.View(func(tx *bolt.Tx) error { return tx.CopyFile(aside, 0o600) })
	if err != nil {
		return fmt.Errorf("keep the damaged store aside: %w", err)
	}
	return s.db.Update(func(tx *bolt.Tx) error {
		for _, id := range torn {
			if err := errors.Join(tx.Bucket(bucketJobs).Delete([]byte(id)), tx.Bucket(bucketHistory).Delete([]byte(id))); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *store) init() error {
	err := s.db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketJobs, bucketModels, bucketMarks, bucketHistory, bucketUsage} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("prepare the store: %w", err)
	}
	return nil
}

// rows reads all rows; torn are the ids of those that can't be read.
func (s *store) rows() (rows []row, torn []string, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		for problem := range tx.Check() {
			return fmt.Errorf("%w: %w", errCorrupt, problem)
		}
		return tx.Bucket(bucketJobs).ForEach(func(k, v []byte) error {
			var r row
			if open(v, &r) != nil || r.Record.Spec.ID != string(k) {
				torn = append(torn, string(k))
				return nil
			}
			rows = append(rows, r)
			return nil
		})
	})
	return rows, torn, err
}

// remove takes a row out for good: none by its id is written any more.
func (s *store) remove(id string) error {
	s.usageMu.Lock()
	defer s.usageMu.Unlock()
	delete(s.used, id)
	return s.db.Update(func(tx *bolt.Tx) error {
		s.written[id] = math.MaxUint64
		return errors.Join(tx.Bucket(bucketJobs).Delete([]byte(id)), tx.Bucket(bucketHistory).Delete([]byte(id)))
	})
}

// removed says whether a row was taken out for good in this agent's life.
func (s *store) removed(id string) (bool, error) {
	tx, err := s.db.Begin(true) // written is the writer's
	if err != nil {
		return false, fmt.Errorf("read the store: %w", err)
	}
	is := s.written[id] == math.MaxUint64
	return is, tx.Rollback()
}

// size is that of the store's file, in bytes.
func (s *store) size() int64 {
	var n int64
	_ = s.db.View(func(tx *bolt.Tx) error { n = tx.Size(); return nil }) // closed: 0
	return n
}

func (s *store) close() error { return s.db.Close() }

// update makes changes in one transaction: all or none, on disk when it returns.
func (s *store) update(f func(*bolt.Tx) error) error {
	if err := s.db.Update(f); err != nil {
		return fmt.Errorf("write the store: %w", err)
	}
	return nil
}

// putSealed writes v under key.
func putSealed(b *bolt.Bucket, key string, v any) error {
	sealed, err := seal(v)
	if err != nil {
		return err
	}
	return b.Put([]byte(key), sealed)
}
