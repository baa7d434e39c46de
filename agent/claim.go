package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"qosctl/agent/api"
	"qosctl/agent/peer"
	"qosctl/container"
	"qosctl/gossip"
	"qosctl/qos"
)

// A claim by a stand-in on a node that does not own the job: the row is read from those who know it, the recorded owner is asked to
// suspend and to hand over, and only then this node writes the next epoch.

// handover is what a job's owner gives to the node that claims it.
type handover struct {
	Record  qos.Record `json:"record"`
	Local   local      `json:"local"`
	History []byte     `json:"history,omitempty"` // history.Encode; none: from a node that keeps none, or that is gone
}

// yieldRequest asks the owner for a job.
type yieldRequest struct {
	Node string `json:"node"`
	Task string `json:"task"`
	Why  string `json:"why"`
}

// askTime bounds a question to one peer, findTime the search for a job that this node does not know, hearTime that for later checkpoints of one
// that was handed over.
const (
	askTime  = 5 * time.Second
	findTime = 10 * time.Second
	hearTime = 3 * time.Second
)

// bring makes the job that a stand-in names this node's, if it may be.
func (a *Agent) bring(ctx context.Context, id, secret string, c api.Claim, who caller) (*job, error) {
	if a.cluster == nil {
		return a.admit(ctx, id, secret, c.Spec, who)
	}
	if j := a.jobs.get(id); j != nil {
		if !j.trusts(secret) {
			return nil, refuse(codeForbidden, "no job %s with that secret", id)
		}
		if !a.cluster.mesh.Settled() && !j.knowsTask(c.Task) {
			return nil, refuse(codeConflict, "this agent is still getting to know its peers, who may have the job by now; ask again")
		}
		if a.ours(j) {
			return j, a.notHanded(id, a.node)
		}
		return nil, refuse(codeConflict, "what this node still holds of the job is being put aside; ask again")
	}
	m := a.cluster.mesh
	if !m.Settled() {
		return nil, refuse(codeConflict, "this agent is still getting to know its peers; ask again")
	}
	r, ok := a.findRow(ctx, id)
	if !ok {
		if !m.Quorate() {
			return nil, refuse(codeConflict, "this agent sees less than half of its peers, and does not know the job; ask again")
		}
		return a.admit(ctx, id, secret, c.Spec, who)
	}
	if !knows(r.Status.Steward, secret) {
		return nil, refuse(codeForbidden, "no job %s with that secret", id)
	}
	h, err := a.obtain(ctx, r, c.Task)
	if err != nil {
		return nil, err
	}
	if a.forgotten(h.Record) {
		return a.recall(ctx, handover{Record: a.askReplicas(ctx, h.Record)}, fmt.Sprintf("claimed by task %s", c.Task))
	}
	a.hearLeft(a.listed(ctx), &h.Record)
	return a.take(ctx, h, fmt.Sprintf("claimed by task %s", c.Task))
}

// knowsTask says whether a task has claimed the job already.
func (j *job) knowsTask(id string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.task(id) != nil
}

// ours says whether this node may go on with a job of its registry.
func (a *Agent) ours(j *job) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.rival == nil
}

// handedFor is how long a job that was handed to a peer is not given to anybody else.
const handedFor = 15 * time.Second

// handing says to whom a job was handed, and when.
type handing struct {
	to string
	at time.Time
}

// notHanded refuses a job that was handed to a peer whose claim has not arrived yet. That peer itself may ask again: the answer may have
// been lost.
func (a *Agent) notHanded(id, asker string) error {
	if a.cluster == nil {
		return nil
	}
	a.cluster.mu.Lock()
	defer a.cluster.mu.Unlock()
	if h, ok := a.cluster.handed[id]; ok {
		switch {
		case time.Since(h.at) >= handedFor:
			delete(a.cluster.handed, id)
		case h.to != asker:
			return refuse(codeConflict, "the job has just been handed to node %s; ask again", h.to)
		}
	}
	return nil
}

// findRow reads a job's row: from the table, else from whoever of the peers has it.
func (a *Agent) findRow(ctx context.Context, id string) (qos.Record, bool) {
	m := a.cluster.mesh
	r, ok := m.Get(id)
	ctx, cancel := context.WithTimeout(ctx, findTime)
	defer cancel()
	for _, p := range a.alive() {
		if ok && p.Name != r.Status.Owner { // the owner's word alone may be newer than the table
			continue
		}
		if err := m.Pull(ctx, p.Name, id); err != nil && ctx.Err() == nil {
			a.log.Debug("ask a peer for a job", "node", p.Name, "err", err)
		}
		if r, ok = m.Get(id); ok && r.Status.Owner == p.Name || ctx.Err() != nil {
			break
		}
	}
	return r, ok
}

// obtain gets a job from its recorded owner; of one that is gone, from what its replicas know.
func (a *Agent) obtain(ctx context.Context, r qos.Record, task string) (handover, error) {
	owner := r.Status.Owner
	switch a.stateOf(owner, time.Now()) {
	case nodeAlive:
		if owner == a.node || owner == "" { // this node forgot it
			return handover{Record: r}, nil
		}
		return a.askYield(ctx, r, yieldRequest{Node: a.node, Task: task, Why: fmt.Sprintf("task %s on node %s goes on with it", task, a.node)})
	case nodeSilent:
		return handover{}, refuse(codeConflict, "node %s, which has the job, does not answer; it is waited for; ask again", owner)
	}
	if !a.cluster.mesh.Quorate() {
		return handover{}, refuse(codeConflict, "node %s, which has the job, is gone, and this agent sees less than half of its peers; ask again", owner)
	}
	return handover{Record: a.askAround(ctx, r)}, nil
}

// askYield asks the owner of a job to put it aside and hand it over. It says codeConflict while that is under way.
func (a *Agent) askYield(ctx context.Context, r qos.Record, y yieldRequest) (h handover, err error) {
	owner, ok := a.cluster.member(r.Status.Owner)
	if !ok {
		return h, refuse(codeConflict, "node %s, which has the job, is not known here any more; ask again", r.Status.Owner)
	}
	err = a.askPeer(ctx, owner, http.MethodPost, "/peer/v1/jobs/"+url.PathEscape(r.Spec.ID)+"/yield", y, &h)
	if e, refused := errors.AsType[*peer.StatusError](err); refused && e.Status == http.StatusNotFound {
		if h.Record, ok = a.cluster.mesh.Get(r.Spec.ID); !ok || h.Record.Status.Owner == owner.Name {
			return handover{Record: a.askAround(ctx, r)}, nil // it knows nothing of the job: its store was lost
		}
		return h, refuse(codeConflict, "the job has moved on to node %s; ask again", h.Record.Status.Owner)
	}
	if err != nil {
		return h, refuse(codeConflict, "node %s: %s; ask again", owner.Name, err)
	}
	if h.Record.Spec.ID != r.Spec.ID {
		return h, refuse(codeInternal, "node %s handed over another job", owner.Name)
	}
	if e := h.Record.Status.Execution; e != nil && e.Account.Live.Node != owner.Name { // else it knows best itself what it took
		within, cancel := context.WithTimeout(ctx, hearTime) // the claim is to come while it is handed to this node
		defer cancel()
		a.hearSaved(within, &h.Record)
	}
	return h, nil
}

// askAround reads the newest that others know of a job whose owner is gone, or has forgotten it, and which checkpoints they have of it.
func (a *Agent) askAround(ctx context.Context, r qos.Record) qos.Record {
	r = a.askReplicas(ctx, r)
	a.hearSaved(ctx, &r)
	return r
}

// askReplicas reads the newest that others know of a job whose owner is gone: its account above all.
func (a *Agent) askReplicas(ctx context.Context, r qos.Record) qos.Record {
	ctx, cancel := context.WithTimeout(ctx, findTime)
	defer cancel()
	m := a.cluster.mesh
	for _, node := range m.Replicas(r.Spec.ID, accountReplicas+1) { // who replicates may have changed by one
		if node == a.node {
			continue
		}
		if err := m.Pull(ctx, node, r.Spec.ID); err != nil {
			a.log.Warn("ask a replica for an account", "node", node, "job", r.Spec.Name, "err", err)
		}
	}
	if now, ok := m.Sound(r.Spec.ID); ok { // nobody may have the row that a broadcast tells of
		return now
	}
	return r
}

// accountReplicas is how many nodes keep the account of a job beside its owner.
const accountReplicas = 2

// askPeer asks one peer and decodes its JSON answer.
func (a *Agent) askPeer(ctx context.Context, to gossip.Member, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("ask node %s: %w", to.Name, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	resp, err := a.cluster.peers.Do(ctx, target(to), method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxPeerAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the answer of node %s: %w", to.Name, err)
	case len(data) > maxPeerAnswer:
		return fmt.Errorf("the answer of node %s is longer than %d bytes", to.Name, maxPeerAnswer)
	case out == nil || len(bytes.TrimSpace(data)) == 0:
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("read the answer of node %s: %w", to.Name, err)
	}
	return nil
}

const maxPeerAnswer = 8 << 20

// take writes the next epoch of a job and makes it this node's. What its former owner had running counts as lost.
func (a *Agent) take(ctx context.Context, h handover, why string) (*job, error) {
	r := h.Record
	epoch, err := a.claimNext(ctx, r)
	if err != nil {
		return nil, err
	}
	if current, ok := a.cluster.mesh.Get(r.Spec.ID); ok && current.Status.Newer(r.Status) {
		return nil, refuse(codeConflict, "node %s has claimed the job meanwhile; ask again", current.Status.Owner)
	}
	if st := r.Status; st.Phase.Terminal() && st.Ended.IsZero() { // known by a broadcast alone; the row may have come meanwhile
		if whole, ok := a.cluster.mesh.Whole(r.Spec.ID); ok && whole.Status.Compare(st) == 0 {
			r = whole
		}
	}
	a.hearModel(r)
	j := newJob(row{Record: r, Local: h.Local})
	a.inherit(j, h.History)
	j.mu.Lock()
	defer j.mu.Unlock()
	st, former := j.status(), r.Status.Owner
	st.Epoch, st.Seq, st.Owner = epoch, 0, a.node
	j.note(time.Now(), "owner", "node %s has it now, before it was %s: %s", a.node, former, why)
	held, fresh := a.jobs.add(j)
	if !fresh {
		return held, nil // another stand-in, or the steward, was quicker
	}
	if st.Phase == qos.PhaseRunning && !j.steward().Adopted {
		a.concludeLost(j, fmt.Sprintf("node %s is gone", former))
	}
	if st.Phase.Terminal() && st.Ended.IsZero() { // known by a broadcast alone
		a.endWith(j, former)
	}
	if st.Intent == qos.IntentCancel {
		a.obeyCancel(j)
	}
	if err := a.save(j); err != nil {
		j.gone = true
		a.jobs.remove(r.Spec.ID)
		return nil, err
	}
	a.log.Info("job taken", "job", r.Spec.Name, "id", r.Spec.ID, "from", former, "epoch", st.Epoch, "why", why)
	return j, nil
}

// concludeLost books what a former owner had running, once. The caller holds j.mu.
func (a *Agent) concludeLost(j *job, why string) {
	st, now := j.status(), time.Now()
	e := st.Execution
	if e != nil && !st.Ran(e.Index) {
		a.conclude(j, container.Exit{Code: container.CodeUnknown, Unknown: true, Finished: now}, why)
		return
	}
	if err := j.enter(qos.PhaseLost, now, why+", and what it ran is not known"); err != nil {
		a.log.Error("phase", "job", j.spec().Name, "err", err)
	}
}

// endWith ends a job here whose former owner has ended it, and could tell no more than that. The caller holds j.mu.
func (a *Agent) endWith(j *job, former string) {
	st := j.status()
	if err := j.enter(st.Phase, time.Now(), fmt.Sprintf("node %s has said so; what it knew of the last run is lost", former)); err != nil {
		a.log.Error("phase", "job", j.spec().Name, "err", err)
	}
	if !j.steward().Attached {
		j.steward().Pending = qos.ActDelete
	}
}
