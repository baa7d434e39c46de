package agent

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"qosctl/agent/history"
	"qosctl/cgroup"
	"qosctl/container"
	"qosctl/qos"
)

// job is one job of this node in memory. Its mutex guards all fields; nothing that can wait for long is done while it is held.
type job struct {
	mu       sync.Mutex
	row      row
	live     *live     // its container; nil: none
	busy     bool      // a container is being started
	dirty    bool      // the row on disk is older
	untold   bool      // and so is the table's: a step was numbered that could not be written
	gone     bool      // it was removed: nothing of it is done or written any more
	attached int       // output streams of stand-ins
	detached time.Time // since when there has been none, if there is none
	changed  chan struct{}
	rev      uint64
	rival    *rival            // another node that has claimed it; nil: none
	news     [sha256.Size]byte // of its status, and
	errand   qos.Stewardship   // what was numbered last

	history    *history.History // nil: it is in the store alone
	kept       time.Time        // when that was last written
	pulse      pulse
	cfs        cfs
	need       float64        // CPUs that its last decision found necessary, its estimate taken as it is; 0: more would not help
	decisions  []qos.Decision // newest last, the last maxDecisions
	nextTry    time.Time      // of its duty towards the framework
	tries      int            // of the duty, in a row
	startAsked time.Time      // of Chronos
	bound      time.Time      // when Chronos was told which hosts may launch it
	unsure     [][]string     // hosts that Chronos may have been told of: its answer was lost
	noPlace    time.Time      // until then it is told of none: no task has come
	tasks      []string       // adopted: its tasks in the framework
	stray      string         // task that its framework lost sight of while it rested here, and
	strayed    time.Time      // since when
	noMove     time.Time      // until then it is resized in place: a move was refused
	handing    bool           // it is being submitted to its framework right now
	missing    time.Time      // since when its framework does not know it; zero: it does
	doubt      time.Time      // since when its framework may have taken a submission that failed; zero: no doubt
}

// Bounds of the decisions that explain shows: of one job, and of all jobs together, of which each keeps a few all the same.
const (
	maxDecisions = 60
	allDecisions = 5_000
	fewDecisions = 5
)

// decisionsOf is how many decisions each of n jobs keeps.
func decisionsOf(n int) int { return min(maxDecisions, max(fewDecisions, allDecisions/max(n, 1))) }

// Bounds of the readings that histories have: of all jobs together, of which each keeps some all the same.
const (
	allReadings = 60_000 // 44 bytes each
	fewReadings = 30
)

// readingsOf is how many readings the history of each of n jobs has.
func readingsOf(n int) int { return max(fewReadings, allReadings/max(n, 1)) }

// live is what the agent holds of a running container, and the rates that it has seen.
type live struct {
	container string
	engine    engine
	reader    *cgroup.Reader
	stopping  bool
	group     cgroup.Group    // that reader reads
	since     time.Time       // held by this agent
	saving    bool            // it is being checkpointed: its counters are not read meanwhile
	ended     *container.Exit // it ended while it was being checkpointed
	ordered   time.Time       // when this process began to stop it
	back      time.Time       // when it was restored where it was: an end before that is none
	lost      bool            // its cgroup was removed

	seen         cgroup.Sample // last reading
	rate         float64       // CPUs, between the last two readings
	saved        time.Time     // when the account was last persisted
	mended       time.Time     // last time a foreign change was set right
	checkpointed time.Time     // last checkpoint that was begun while it went on
	failed       int           // checkpoints that failed, in a row
	failedAt     time.Time     // the last of them
	written      time.Time     // last write of the quota, by anyone of us
}

func newJob(r row) *job {
	j := &job{row: r, history: history.New(r.Record.Spec.Submitted), changed: make(chan struct{}), decisions: r.Local.Decisions, detached: time.Now()}
	j.news, j.errand = digestOf(j.status()), j.steward().Clone()
	j.errand.Duty, j.errand.By = 0, ""
	return j
}

func (j *job) spec() *qos.Spec     { return &j.row.Record.Spec }
func (j *job) status() *qos.Status { return &j.row.Record.Status }

func (j *job) steward() *qos.Stewardship { return &j.row.Record.Status.Steward }

// touch tells whoever waits for news of the job that there is some.
func (j *job) touch() {
	j.rev++
	close(j.changed)
	j.changed = make(chan struct{})
}

// note records an event.
func (j *job) note(now time.Time, kind, format string, args ...any) {
	l := &j.row.Local
	l.Events = append(l.Events, event{At: now, Kind: kind, Text: fmt.Sprintf(format, args...)})
	if n := len(l.Events) - maxEvents; n > 0 {
		l.Events = slices.Delete(l.Events, 0, n)
	}
}

// enter moves the job to another phase; an illegal move is an error that names both.
func (j *job) enter(p qos.Phase, now time.Time, reason string) error {
	st := j.status()
	if st.Phase != p {
		if err := st.Phase.To(p); err != nil {
			return err
		}
		st.Phase, st.Since = p, now
	}
	st.Reason = reason
	if p.Terminal() {
		st.Ended = now
		j.row.Local.Move = nil // nothing is left to be moved
		j.row.Local.Decisions = slices.Clone(j.decisions[max(0, len(j.decisions)-keptDecisions):])
	}
	j.note(now, "phase", "%s: %s", p, reason)
	return nil
}

// digestOf is the digest of a status' news: the text of it takes half a kilobyte for each job.
func digestOf(st *qos.Status) [sha256.Size]byte { return sha256.Sum256([]byte(st.News())) }

// number gives what has changed since the last time the next sequence, or the next duty: peers tell old from new by them. It says whether
// anything had. The caller holds j.mu.
func (j *job) number(node string) bool {
	st, news, errand := j.status(), digestOf(j.status()), *j.steward()
	errand.Duty, errand.By = 0, ""
	changed := false
	if news != j.news {
		st.Seq++
		j.news, changed = news, true
	}
	if c := errand.Compare(j.errand); c != 0 {
		st.Steward.Duty++
		st.Steward.By = node
		j.errand, changed = errand.Clone(), true
	}
	return changed
}

// task returns the stand-in's task by its id, nil if it never claimed.
func (j *job) task(id string) *task {
	i := slices.IndexFunc(j.row.Local.Tasks, func(t task) bool { return t.ID == id })
	if i < 0 {
		return nil
	}
	return &j.row.Local.Tasks[i]
}

// after returns the tasks that claimed after one.
func (j *job) after(id string) []task {
	i := slices.IndexFunc(j.row.Local.Tasks, func(t task) bool { return t.ID == id })
	return j.row.Local.Tasks[i+1:]
}

// openTask returns the last task if its stand-in was not told to exit yet, else nil.
func (j *job) openTask() *task {
	if l := j.row.Local.Tasks; len(l) > 0 && l[len(l)-1].Exit == nil {
		return &l[len(l)-1]
	}
	return nil
}

// request is the CPUs that Mesos sold the job: what its task was launched with, else what the framework knows.
func (j *job) request() float64 {
	if t := j.openTask(); t != nil && t.CPUs > 0 {
		return t.CPUs
	}
	return j.known()
}

// known is the cpus that the framework knows now: those submitted, unless somebody changed them there.
func (j *job) known() float64 {
	if r := j.steward().Request; r > 0 {
		return r
	}
	return j.spec().CPUs
}

// is says whether what a framework shows under the job's name is the job.
func (j *job) is(s sight) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return s.ID == j.spec().ID || j.steward().Attached
}

func (j *job) addTask(t task) {
	l := &j.row.Local
	l.Tasks = append(l.Tasks, t)
	if n := len(l.Tasks) - maxTasks; n > 0 {
		l.Tasks = slices.Delete(l.Tasks, 0, n)
	}
}

// jobs is the registry of a node's jobs.
type jobs struct {
	mu     sync.RWMutex
	byID   map[string]*job
	sorted []*job     // what all returns; nil: to be made
	naming sync.Mutex // held while a name is looked for and taken
}

func (s *jobs) count() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.byID)
}

func (s *jobs) get(id string) *job {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byID[id]
}

// all returns the jobs in order of submission, then id. The list is everybody's, and not to be changed: it is asked for several times a second.
func (s *jobs) all() []*job {
	s.mu.RLock()
	list := s.sorted
	s.mu.RUnlock()
	if list != nil {
		return list
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sorted = slices.Clip(slices.SortedFunc(maps.Values(s.byID), func(a, b *job) int { // Spec never changes: no lock
		return cmp.Or(a.spec().Submitted.Compare(b.spec().Submitted), strings.Compare(a.spec().ID, b.spec().ID))
	}))
	return s.sorted
}

// find returns the job meant by a UUID, a unique prefix of one, or a name (the newest of that name).
func (s *jobs) find(ref string) (*job, error) {
	if j := s.get(ref); j != nil {
		return j, nil
	}
	var named, prefixed []*job
	for _, j := range s.all() {
		if n := j.spec().Name; n == ref || n == "/"+ref {
			named = append(named, j)
		}
		if len(ref) >= 4 && strings.HasPrefix(j.spec().ID, ref) {
			prefixed = append(prefixed, j)
		}
	}
	switch {
	case len(named) > 0:
		return named[len(named)-1], nil
	case len(prefixed) == 1:
		return prefixed[0], nil
	case len(prefixed) > 1:
		return nil, refuse(codeInvalid, "%d jobs begin with %q", len(prefixed), ref).hint("give more of the id")
	}
	return nil, noJob(ref)
}

// add registers a job unless its id is taken; it returns the job that is registered then, and whether it is the new one.
func (s *jobs) add(j *job) (*job, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.byID[j.spec().ID]; old != nil {
		return old, false
	}
	s.byID[j.spec().ID], s.sorted = j, nil
	return j, true
}

func (s *jobs) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, id)
	s.sorted = nil
}

// named returns the job by this framework and name whose life has not ended, nil if there is none.
func (s *jobs) named(f qos.Framework, name string) *job {
	for _, j := range s.all() {
		if j.spec().Framework != f || j.spec().Name != name {
			continue
		}
		j.mu.Lock()
		ended := j.status().Phase.Terminal()
		j.mu.Unlock()
		if !ended {
			return j
		}
	}
	return nil
}
