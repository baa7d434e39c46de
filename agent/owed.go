package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"qosctl/agent/peer"
	"qosctl/gossip"
	"qosctl/qos"
)

// What a job has spent here while another node had it is known here alone: gossip tells an account only of its owner's jobs, and a row
// without another version does not travel. So a node that gives a job up owes the owner its account, on disk, until the owner has it.

// owed is the account of an execution as far as this node has counted it.
type owed struct {
	Job       string      `json:"job"`
	Execution int         `json:"execution"`
	Account   qos.Account `json:"account"`
	Sequence  int         `json:"sequence,omitempty"` // the highest of a checkpoint that this node knows of
	Since     time.Time   `json:"since"`
	Deposit   bool        `json:"deposit,omitempty"` // on disk: another node owes it
}

// maxOwed bounds what is owed at once. Above it accounts are told to the table only, as the one row that this node gives.
const maxOwed = 10_000

// owe notes what the owner of a job must be told of the CPU time that it has had here. The caller holds j.mu.
func (a *Agent) owe(j *job) {
	e := j.status().Execution
	if e == nil {
		return
	}
	mine := owed{Job: j.spec().ID, Execution: e.Index, Account: qos.Account{Entries: map[qos.Incarnation]qos.Entry{}}, Sequence: j.status().Sequence, Since: time.Now().Round(0)}
	for i, entry := range e.Account.Entries {
		if i.Node == a.node && entry.Own > 0 {
			mine.Account.Entries[i] = entry
		}
	}
	a.noteOwed(j.spec().Name, append(slices.Clone(j.row.Local.Received), mine)...)
}

// noteOwed puts what is owed on disk, and has it paid soon.
func (a *Agent) noteOwed(job string, list ...owed) {
	for _, o := range list {
		if len(o.Account.Entries) == 0 {
			continue
		}
		if err := a.store.owe(o); err != nil {
			a.log.Error("an account that another node must have is not on disk", "job", job, "execution", o.Execution, "err", err)
		}
	}
	a.stir()
}

// keepReceived bounds what a job remembers of having been told by others.
const keepReceived = 16

// received remembers what another node was told that it has paid: should this node have to give the job up, it owes that in its place.
// The caller holds j.mu.
func (j *job) received(o owed) {
	l := &j.row.Local.Received
	i := slices.IndexFunc(*l, func(r owed) bool { return r.Execution == o.Execution })
	if i >= 0 {
		o.Account, o.Sequence = o.Account.Merge((*l)[i].Account), max(o.Sequence, (*l)[i].Sequence)
		*l = slices.Delete(slices.Clone(*l), i, i+1)
	}
	*l = append(slices.Clone(*l), o)
	*l = (*l)[max(0, len(*l)-keepReceived):]
}

// payEvery is how often an owner is told of an account that it has not taken yet.
const payEvery = 2 * time.Second

// pay tells owners what is owed to them.
func (a *Agent) pay(now time.Time) {
	if !a.settled.Load() || !a.cluster.mesh.Settled() {
		return
	}
	list, err := a.store.owing()
	if err != nil {
		a.log.Error("read what is owed to other nodes", "err", err) // read again
		return
	}
	for _, o := range list {
		r, known := a.cluster.mesh.Get(o.Job)
		if !known || now.Sub(o.Since) > keepEnded { // nobody wants it any more
			a.paid(o)
			continue
		}
		m, ok := a.cluster.member(r.Status.Owner)
		here := r.Status.Owner == a.node
		if !a.cluster.tell(o, now) {
			continue
		}
		if !here && (!ok || m.State != gossip.Alive) {
			a.deposit(o, r.Status.Owner)
			continue
		}
		a.spawn(func(ctx context.Context) {
			err := error(nil)
			if here {
				err = a.receive(a.node, o)
			} else {
				err = a.askPeer(ctx, m, http.MethodPost, "/peer/v1/jobs/"+url.PathEscape(o.Job)+"/account", o, nil)
			}
			if err != nil {
				a.log.Debug("an account is not taken yet", "job", r.Spec.Name, "node", r.Status.Owner, "err", err)
				return
			}
			a.paid(o)
		})
	}
}

// deposit has a replica owe, too, what the owner can't be told now: until it is back, this node's store would have it alone.
func (a *Agent) deposit(o owed, owner string) {
	if o.Deposit || a.cluster.deposited(o) {
		return
	}
	for _, node := range a.cluster.mesh.Replicas(o.Job, accountReplicas+1) {
		m, ok := a.cluster.member(node)
		if !ok || m.State != gossip.Alive || m.Meta.Peer == "" || node == a.node || node == owner {
			continue
		}
		a.spawn(func(ctx context.Context) {
			if err := a.askPeer(ctx, m, http.MethodPost, "/peer/v1/jobs/"+url.PathEscape(o.Job)+"/debt", o, nil); err != nil {
				a.log.Debug("an account is not deposited", "job", o.Job, "node", node, "err", err) // tried again
				return
			}
			a.cluster.keepDeposited(o)
		})
		return
	}
}

// postDebt takes an account over that another node owes to an owner that does not answer.
func (a *Agent) postDebt(w http.ResponseWriter, r *http.Request) {
	o, err := readOwed(r)
	if err == nil {
		o.Deposit, o.Since = true, time.Now().Round(0)
		err = a.store.owe(o)
	}
	if err != nil {
		failPeer(w, err)
		return
	}
	peer.Answer(w, http.StatusOK, struct{}{})
}

func readOwed(r *http.Request) (o owed, err error) {
	if err = peer.Read(r, &o); err == nil && (o.Job != r.PathValue("job") || !o.sane()) {
		err = refuse(codeInvalid, "it is an account of another job, or none")
	}
	return o, err
}

// deposited says whether another node has all of an account already, as far as this life of the agent knows.
func (c *cluster) deposited(o owed) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	had, is := c.deposits[o.key()]
	return is && had >= o.Account.Consumed()
}

func (c *cluster) keepDeposited(o owed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.deposits) > maxOwed {
		clear(c.deposits)
	}
	c.deposits[o.key()] = o.Account.Consumed()
}

func (a *Agent) paid(o owed) {
	if err := a.store.paid(o); err != nil {
		a.log.Warn("forget an account that was told", "job", o.Job, "err", err) // it is told again, which changes nothing
	}
}

// tell says whether it is time to tell an account.
func (c *cluster) tell(o owed, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := o.key()
	if now.Sub(c.told[key]) < payEvery {
		return false
	}
	if len(c.told) > maxOwed {
		clear(c.told)
	}
	c.told[key] = now
	return true
}

func (o owed) key() string { return fmt.Sprintf("%s/%d", o.Job, o.Execution) }

// postAccount takes what another node has counted of a job of this one.
func (a *Agent) postAccount(w http.ResponseWriter, r *http.Request) {
	o, err := readOwed(r)
	if err == nil {
		err = a.receive(peer.Caller(r.Context()), o)
	}
	if err != nil {
		failPeer(w, err)
		return
	}
	peer.Answer(w, http.StatusOK, struct{}{})
}

// mostCPU bounds what is believed of one figure: nine years, as in the table. More would stand in the account for ever, since the greater wins,
// and the table would take no row of the job any more.
const mostCPU = 1 << 58

// sane says whether an account is one that a node could have counted.
func (o owed) sane() bool {
	if len(o.Account.Entries) > 4096 {
		return false
	}
	for _, e := range o.Account.Entries {
		for _, d := range []time.Duration{e.Own, e.Base, e.Zero, e.Borrowed, e.Overhead} {
			if d < 0 || d > mostCPU {
				return false
			}
		}
	}
	return true
}

// receive merges the entries of a node into the account of a job of this one, and is done when that is on disk. It may come twice.
func (a *Agent) receive(from string, o owed) error {
	j := a.jobs.get(o.Job)
	if j == nil {
		return refuse(codeNotFound, "this node does not have the job")
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	st := j.status()
	switch {
	case j.gone || j.rival != nil:
		return refuse(codeNotFound, "this node does not own the job any more")
	case st.Execution == nil || st.Execution.Index < o.Execution:
		return refuse(codeConflict, "this node has not heard of execution %d", o.Execution)
	case st.Execution.Index > o.Execution:
		return a.receiveLate(j, from, o)
	}
	account := &st.Execution.Account
	if _, tells := o.Account.Entries[account.Live]; tells && j.live != nil {
		return refuse(codeConflict, "container %s runs here", account.Live)
	}
	later := j.outnumbered(o)
	_, _ = j.bookLate(o) // its run may have ended already
	before, live := account.Consumed(), account.Live
	*account = account.Merge(o.Account)
	account.Live = live
	late := account.Consumed() - before
	if late <= 0 && !later {
		return nil
	}
	if late > 0 {
		j.note(time.Now(), "account", "node %s had %.1f s of CPU time more of it", from, late.Seconds())
	}
	j.received(o)
	j.news = [sha256.Size]byte{} // the row travels again
	return a.save(j)
}

// receiveLate books what a node tells of an execution that is over. The caller holds j.mu.
func (a *Agent) receiveLate(j *job, from string, o owed) error {
	late, booked := j.bookLate(o)
	later := j.outnumbered(o)
	switch {
	case !booked:
		j.note(time.Now(), "account", "node %s had %.1f s of CPU time of execution %d, whose account is not kept any more: what is new of it is not booked", from, o.Account.Consumed().Seconds(), o.Execution)
	case late <= 0 && !later:
		return nil
	case late > 0:
		j.note(time.Now(), "account", "node %s had %.1f s of CPU time more of execution %d", from, late.Seconds(), o.Execution)
		j.received(o)
	}
	return a.save(j)
}

// outnumbered takes over what another node knows of the sequences that the job's checkpoints have: two nodes that were parted have given the
// same ones, and the owner's next is to be above both. It says whether they were higher. The caller holds j.mu.
func (j *job) outnumbered(o owed) bool {
	higher := o.Sequence > j.status().Sequence && o.Sequence <= maxSequence
	if higher {
		j.status().Sequence = o.Sequence
	}
	return higher
}

// maxSequence bounds what is believed of a peer: no job has so many checkpoints.
const maxSequence = 1 << 30

// bookLate books what an account says beyond what is booked of its execution. The caller holds j.mu.
func (j *job) bookLate(o owed) (late time.Duration, booked bool) {
	st, before := j.status(), j.status().Tally
	if late, booked = st.BookLate(o.Execution, o.Account); late > 0 {
		i := slices.IndexFunc(st.Runs, func(r qos.Run) bool { return r.Index == o.Execution })
		j.row.Local.Used.book(before, st.Tally, st.Runs[i].Ended)
	}
	return late, booked
}

// errOwed says that no more can be owed.
var errOwed = errors.New("too many accounts are owed to other nodes")
