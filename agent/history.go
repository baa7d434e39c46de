package agent

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"

	"qosctl/agent/api"
	"qosctl/agent/history"
	"qosctl/qos"
)

// What a job's page draws: a reading at each look of the controller, and each change of phase, node and container. It is the node's that
// has the job; whoever it is handed to gets it too. Who takes a job over from a node that is gone begins anew, with the runs of the record.

const (
	historyTick = 10 * time.Second // between two looks at what is to be written
	historyKeep = time.Minute      // a crash loses so much of a history at most
	historyPart = 32               // are written at once
)

// bucketHistory has history.Encode, sealed, by job.
var bucketHistory = []byte("history")

// observe notes what was seen of a job at a look, and decided.
func (a *Agent) observe(j *job, d qos.Decision, now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.status().Execution
	if e == nil || j.history == nil || j.gone {
		return
	}
	ended := 0.0
	if j.spec().Framework == qos.Chronos {
		ended = j.status().Tally.CPU
	}
	r := history.Reading{
		At: now, Ratio: d.Ratio, Used: ended + e.Account.Progress().Seconds(), Consumed: ended + e.Account.Consumed().Seconds(), Desired: d.Desired,
		Allocation: e.Allocation, Need: d.Need, State: d.State, Late: d.Late, Index: e.Index,
	}
	st := j.status()
	n := len(st.Runs)
	switch {
	case j.live != nil:
		r.Usage = j.pulse.usage
	case n > 0 && st.Runs[n-1].Index >= e.Index: // between two iterations: the last is in the tally
		r.Used, r.Consumed = ended, ended
	case j.row.Local.Restoring > 0 && j.saved(): // its process state is on its way
		r.Used = ended + st.Saved.CPU.Seconds()
	}
	if !d.Prediction.IsZero() && !e.Deadline.IsZero() {
		r.Margin = d.Prediction.Sub(e.Deadline).Seconds()
	}
	j.history.Bound(readingsOf(a.jobs.count()))
	j.history.Add(r, a.cfg.Control.Period*4/5)
}

// chronicle notes where the job stands, if that has changed, and the runs that have ended. The caller holds j.mu.
func (j *job) chronicle(now time.Time) {
	if j.history == nil {
		return
	}
	st := j.status()
	c := history.Change{At: now, Phase: st.Phase, Node: st.Owner}
	if e := st.Execution; e != nil {
		c.Index, c.Part = e.Index, e.Account.Live.N
	}
	j.history.Enter(c)
	j.history.Ended(st.Runs)
}

// inherit takes the history that a job's former owner handed over.
func (a *Agent) inherit(j *job, encoded []byte) {
	if len(encoded) == 0 {
		return
	}
	h, err := history.Decode(encoded)
	if err != nil {
		a.log.Warn("the history that came with a job", "job", j.spec().Name, "err", err) // it begins anew
		return
	}
	j.history = h
}

// bequeath is the history that goes with a job to its next owner. The caller holds j.mu.
func (j *job) bequeath() []byte {
	if j.history == nil {
		return nil
	}
	b := j.history.Encode()
	j.history.Again() // until the other one really has it
	return b
}

// recallHistory reads a job's history from the store; of one that has ended it stays there.
func (a *Agent) recallHistory(j *job) {
	if j.status().Phase.Terminal() {
		j.history = nil
		return
	}
	if h := a.storedHistory(j); h != nil {
		j.history = h
	}
}

// storedHistory is nil if there is none that can be read.
func (a *Agent) storedHistory(j *job) *history.History {
	b, err := a.store.history(j.spec().ID)
	if err == nil && b == nil {
		return nil
	}
	var h *history.History
	if err == nil {
		h, err = history.Decode(b)
	}
	if err != nil {
		a.log.Warn("read a job's history", "job", j.spec().Name, "err", err) // it begins anew
		return nil
	}
	return h
}

// keepHistories writes those that are due, all at the agent's end. Those of jobs that have ended are in the store alone from then on.
func (a *Agent) keepHistories(now time.Time, all bool) {
	if !all && now.Sub(a.historiesKept) < historyTick {
		return
	}
	a.historiesKept = now
	for part := range slices.Chunk(a.jobs.all(), historyPart) { // all at once would be in memory four times over
		a.keepSome(part, now, all)
	}
}

// keepSome is keepHistories of some jobs.
func (a *Agent) keepSome(jobs []*job, now time.Time, all bool) {
	due, list, ended := map[string][]byte{}, []*job{}, []*job{}
	for _, j := range jobs {
		j.mu.Lock()
		over := j.status().Phase.Terminal() && j.live == nil && !j.busy
		if j.history != nil && !j.gone && (all || over || now.Sub(j.kept) >= historyKeep) {
			if j.history.Fresh() {
				due[j.spec().ID], list = j.history.Encode(), append(list, j)
			}
			if j.kept = now; over {
				ended = append(ended, j)
			}
		}
		j.mu.Unlock()
	}
	if err := a.store.putHistories(due); err != nil {
		a.stored(err)
		for _, j := range list {
			j.mu.Lock()
			j.history.Again()
			j.mu.Unlock()
		}
		return
	}
	for _, j := range ended {
		j.mu.Lock()
		if j.history != nil && !j.history.Fresh() {
			j.history = nil
		}
		j.mu.Unlock()
	}
}

// historyOf is the API's view of a job's history, of what is later than after.
func (a *Agent) historyOf(j *job, after time.Time) api.History {
	j.mu.Lock()
	defer j.mu.Unlock()
	h := j.history
	if h == nil {
		h = a.storedHistory(j)
	}
	if h == nil {
		h = history.New(j.spec().Submitted)
	}
	h.Ended(j.status().Runs) // of a job whose node is away these are all that is known
	return h.View(j.spec().ID, after)
}

func (a *Agent) getHistory(w http.ResponseWriter, r *http.Request, j *job) {
	after, err := afterOf(r)
	if err != nil {
		answerError(w, err)
		return
	}
	answer(w, http.StatusOK, a.historyOf(j, after))
}

// afterOf reads the query's after; zero: there is none.
func afterOf(r *http.Request) (t time.Time, err error) {
	q := r.URL.Query()
	if !q.Has("after") {
		return t, nil
	}
	ms, err := strconv.ParseInt(q.Get("after"), 10, 64)
	if err != nil {
		return t, refuse(codeInvalid, "after: %q is no number of milliseconds since 1970", q.Get("after"))
	}
	return time.UnixMilli(ms), nil
}

// history is a job's, as it was encoded; nil: there is none.
func (s *store) history(id string) (b []byte, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		v := tx.Bucket(bucketHistory).Get([]byte(id))
		if v == nil {
			return nil
		}
		return open(v, &b)
	})
	return b, err
}

// putHistories writes histories of jobs that have a row.
func (s *store) putHistories(list map[string][]byte) error {
	if len(list) == 0 {
		return nil
	}
	return s.update(func(tx *bolt.Tx) error {
		rows, b := tx.Bucket(bucketJobs), tx.Bucket(bucketHistory)
		for id, encoded := range list {
			if rows.Get([]byte(id)) == nil {
				continue // given up meanwhile
			}
			if err := putSealed(b, id, encoded); err != nil {
				return err
			}
		}
		return nil
	})
}
