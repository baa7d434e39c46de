package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"qosctl/agent/peer"
	"qosctl/ckpt"
	"qosctl/gossip"
	"qosctl/qos"
)

// A job that goes on here from a checkpoint of another node has it brought here first.

// errUnsealed says that a checkpoint is not durable yet: until then it can't leave its node.
var errUnsealed = errors.New("it is being sealed there")

// summon brings the checkpoint that a job is to go on from to this node: a later one than its row names if somebody has it, else that, else
// the one with the most progress that anybody has. An error says that it is worth to try again.
func (a *Agent) summon(ctx context.Context, j *job) error {
	if a.cluster == nil {
		return nil
	}
	j.mu.Lock()
	st := j.status()
	if st.Saved == nil || st.Execution == nil {
		j.mu.Unlock()
		return nil
	}
	saved, known, want, execution := *st.Saved, st.Sequence, j.row.Local.Restoring, st.Execution.Index
	j.mu.Unlock()
	here, err := a.candidates(ctx, j)
	if err != nil {
		return err
	}
	if want == saved.Sequence && a.goesFurther(j, here) {
		return nil
	}
	if slices.ContainsFunc(here, func(m ckpt.Manifest) bool {
		return m.Sequence == want && (m.Node == saved.Node || want != saved.Sequence)
	}) {
		return nil
	}
	others, silent := a.askOffers(ctx, j.spec().ID, execution, saved.Node)
	best := pick(others, saved, known, want)
	meant := best != nil && (best.follows(saved, known) || best.of(saved) || want != saved.Sequence && best.Sequence == want)
	if best == nil || silent != nil && !meant {
		return silent // nobody has any, or the one who had it may answer next time
	}
	if !meant && slices.ContainsFunc(here, func(m ckpt.Manifest) bool { return m.CPU >= best.CPU }) {
		return nil
	}
	if best.Unsealed {
		return fmt.Errorf("checkpoint %d of node %s: %w", best.Sequence, best.Node, errUnsealed)
	}
	f, err := a.fetchFrom(ctx, j.spec().ID, *best)
	if errors.Is(err, ckpt.ErrDamaged) {
		a.log.Error("a checkpoint of another node can't be had", "job", j.spec().Name, "checkpoint", best.Sequence, "err", err)
		return nil // what is here has to do
	}
	if err != nil {
		return err
	}
	a.summoned(j, *best, f)
	return nil
}

// goesFurther makes the newest checkpoint here that follows the one that a job's row names the one that it goes on from; false: there is none.
func (a *Agent) goesFurther(j *job, here []ckpt.Manifest) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	st := j.status()
	if st.Saved == nil {
		return false
	}
	var best *offer
	for _, m := range here {
		o := offer{Sequence: m.Sequence, Execution: m.Execution, Incarnation: m.Incarnation, Node: m.Node, CPU: m.CPU, Bytes: m.Bytes, Taken: m.Taken}
		whole := m.Node == a.node || len(m.Files) > 0 // one of this node's can be restored before it is sealed
		if whole && o.follows(*st.Saved, st.Sequence) && (best == nil || o.Sequence > best.Sequence) {
			best = &o
		}
	}
	if best == nil {
		return false
	}
	j.noteLater(*st.Saved, *best)
	st.Saved = best.saved()
	st.Sequence = max(st.Sequence, best.Sequence)
	j.row.Local.Restoring = best.Sequence
	_ = a.save(j) // nothing runs yet; a later write has it
	return true
}

// saved is what a row says of a checkpoint on offer.
func (o offer) saved() *qos.Saved {
	s := &qos.Saved{
		Node: o.Node, Sequence: o.Sequence, Execution: o.Execution, Incarnation: o.Incarnation, Digest: o.Digest, CPU: o.CPU, Taken: o.Taken, Bytes: o.Bytes,
	}
	for _, m := range o.at {
		if m.Name != o.Node {
			s.Copies = append(s.Copies, m.Name)
		}
	}
	return s
}

// noteLater says that a later checkpoint was found than was known. The caller holds j.mu.
func (j *job) noteLater(known qos.Saved, o offer) {
	j.note(time.Now(), "checkpoint", "%d of node %s is later than %d, the last that was told of: it is taken", o.Sequence, o.Node, known.Sequence)
}

// hearSaved has a record of a job that this node is about to have name the newest checkpoint that can be had of what ran last: its owner may
// have died before its row had gone round, and have left copies. Those that nobody answers for are found by the restore itself.
func (a *Agent) hearSaved(ctx context.Context, r *qos.Record) {
	st := &r.Status
	e := st.Execution
	if a.engines.keeper == nil || e == nil || st.Over() || st.Steward.Adopted || a.engines.of(&r.Spec, a.cfg.Engine.Images) != a.engines.docker || pastExecution(*st, e.Index) {
		return
	}
	list, _ := a.askOffers(ctx, r.Spec.ID, e.Index, a.node)
	list = slices.DeleteFunc(list, func(o offer) bool { return o.Unsealed })
	own, err := a.offers(ctx, r.Spec.ID, true)
	if err != nil && ctx.Err() == nil {
		a.log.Warn("list checkpoints", "job", r.Spec.Name, "err", err)
	}
	for _, o := range own {
		if !slices.ContainsFunc(list, o.same) {
			list = append(list, o)
		}
	}
	if o := newest(list, *st); o != nil {
		a.log.Info("a later checkpoint was found than was told of", "job", r.Spec.Name, "checkpoint", o.Sequence, "node", o.Node)
		st.Saved, st.Sequence = o.saved(), max(st.Sequence, o.Sequence)
	}
}

// fetchFrom gets a checkpoint from one of those that have it.
func (a *Agent) fetchFrom(ctx context.Context, job string, o offer) (f ckpt.Fetched, err error) {
	c := checkpointClient{keeper: a.engines.keeper, client: a.cluster.peers, rate: a.rate, maxBytes: int64(a.cfg.Checkpoint.MaxMB) << 20}
	var errs []error
	for _, m := range o.at {
		f, err = c.fetchCheckpoint(ctx, target(m), ckpt.Ref{Job: job, Sequence: o.Sequence}, o.Digest)
		if errors.Is(err, ckpt.ErrTaken) && a.makeWay(ctx, job, o) {
			f, err = c.fetchCheckpoint(ctx, target(m), ckpt.Ref{Job: job, Sequence: o.Sequence}, o.Digest)
		}
		if err == nil {
			return f, nil
		}
		errs = append(errs, fmt.Errorf("from node %s: %w", m.Name, err))
		if ctx.Err() != nil {
			break
		}
	}
	return f, errors.Join(errs...)
}

// makeWay removes the checkpoint of an execution before an offer's that has the offer's sequence on this node: nobody goes on from it any
// more. Two of one execution, taken in two parts of a cluster that was cut, both stay.
func (a *Agent) makeWay(ctx context.Context, job string, o offer) bool {
	list, err := a.engines.keeper.List(ctx, job)
	if err != nil || !slices.ContainsFunc(list, func(m ckpt.Manifest) bool { return m.Sequence == o.Sequence && m.Execution < o.Execution }) {
		return false
	}
	if err := a.engines.keeper.Remove(ctx, ckpt.Ref{Job: job, Sequence: o.Sequence}); err != nil && !errors.Is(err, ckpt.ErrNone) {
		a.log.Warn("remove the checkpoint of an execution that has ended", "checkpoint", o.Sequence, "err", err)
		return false
	}
	return true
}

// summoned makes a checkpoint that was brought here the one that the job goes on from.
func (a *Agent) summoned(j *job, o offer, f ckpt.Fetched) {
	j.mu.Lock()
	defer j.mu.Unlock()
	st := j.status()
	if st.Saved == nil || st.Execution == nil {
		return
	}
	if w := j.row.Local.Wish; w > 0 && w != o.Sequence {
		j.note(time.Now(), "fault", "checkpoint %d, which was asked for, can't be reached; checkpoint %d of node %s is taken", w, o.Sequence, o.Node)
	} else if w == 0 && o.follows(*st.Saved, st.Sequence) {
		j.noteLater(*st.Saved, o)
	} else if w == 0 && !o.of(*st.Saved) {
		j.note(time.Now(), "fault", "checkpoint %d of node %s can't be reached; checkpoint %d of node %s is taken", st.Saved.Sequence, st.Saved.Node, o.Sequence, o.Node)
	}
	st.Saved = &qos.Saved{
		Node: o.Node, Copies: []string{a.node}, Sequence: o.Sequence, Execution: o.Execution, Incarnation: o.Incarnation, Digest: o.Digest,
		CPU: f.Manifest.CPU, Taken: f.Manifest.Taken,
	}
	st.Sequence = max(st.Sequence, o.Sequence)
	j.row.Local.Restoring = o.Sequence
	j.note(time.Now(), "checkpoint", "%d of node %s was brought here: %.1f MiB, %.1f MiB on the way", o.Sequence, o.Node, mib(f.Manifest.Bytes), mib(f.Wire))
	_ = a.save(j) // nothing runs yet; a later write has it
	a.log.Info("checkpoint fetched", "job", j.spec().Name, "checkpoint", o.Sequence, "node", o.Node, "bytes", f.Manifest.Bytes, "wire", f.Wire, "tries", f.Tries)
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// checkpointRoutes are what peers may ask about checkpoints.
func (a *Agent) checkpointRoutes(m *http.ServeMux) {
	m.HandleFunc("GET "+checkpointPath+"{job}", a.getOffers)
	m.HandleFunc("GET /peer/v1/jobs/{job}/output", a.getPeerOutput)
	m.HandleFunc("POST "+checkpointPath+"{job}/{sequence}/copy", a.postCopy)
	m.Handle(checkpointPath, checkpointServer{keeper: anyKeeper{a}, rate: a.rate, log: a.log}.routes())
}

// anyKeeper gives the checkpoints of a node that may have no keeper: then it has none.
type anyKeeper struct{ agent *Agent }

// Describe says what a checkpoint is.
func (k anyKeeper) Describe(ctx context.Context, r ckpt.Ref) (ckpt.Manifest, string, error) {
	if k.agent.engines.keeper == nil {
		return ckpt.Manifest{}, "", ckpt.ErrNone
	}
	return k.agent.engines.keeper.Describe(ctx, r)
}

// Send sends it.
func (k anyKeeper) Send(ctx context.Context, r ckpt.Ref, w io.Writer, o ckpt.SendOptions) error {
	if k.agent.engines.keeper == nil {
		return ckpt.ErrNone
	}
	return k.agent.engines.keeper.Send(ctx, r, w, o)
}

// copyRequest asks a node to keep a copy of a checkpoint of the one that asks.
type copyRequest struct {
	Offer offer `json:"offer"`
}

// copyAnswer ends the answer to it; its headers come at once.
type copyAnswer struct {
	Error string `json:"error,omitempty"`
}

// postCopy gets a copy of a peer's checkpoint.
func (a *Agent) postCopy(w http.ResponseWriter, r *http.Request) {
	var c copyRequest
	if err := peer.Read(r, &c); err != nil {
		failPeer(w, err)
		return
	}
	if a.engines.keeper == nil {
		failPeer(w, refuse(codeConflict, "this node keeps no checkpoints"))
		return
	}
	from, ok := a.cluster.member(peer.Caller(r.Context()))
	if !ok {
		failPeer(w, refuse(codeConflict, "node %s is not known here yet; ask again", peer.Caller(r.Context())))
		return
	}
	job := r.PathValue("job")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush() // the copy takes its time
	c.Offer.at = []gossip.Member{from}
	_, err := a.fetchFrom(r.Context(), job, c.Offer)
	answer := copyAnswer{}
	if err != nil {
		answer.Error = err.Error()
	} else {
		a.trimCopies(r.Context(), job, c.Offer.Sequence)
	}
	_ = json.NewEncoder(w).Encode(answer) // a peer that has gone asks again
}

// trimCopies keeps the newest copies of a job's checkpoints, by their sequence (a clock may have been set back), and in any case the one that
// was just made.
func (a *Agent) trimCopies(ctx context.Context, job string, made int) {
	if a.jobs.get(job) != nil {
		return // this node has the job by now: its own rules hold
	}
	k := a.engines.keeper
	list, err := k.List(ctx, job)
	if err != nil {
		return // the next copy tries again
	}
	slices.SortFunc(list, func(x, y ckpt.Manifest) int {
		switch {
		case x.Sequence == made:
			return -1
		case y.Sequence == made:
			return 1
		}
		return cmp.Or(cmp.Compare(y.Execution, x.Execution), cmp.Compare(y.Sequence, x.Sequence))
	})
	for _, m := range list[min(len(list), a.cfg.Checkpoint.Keep):] {
		if err := k.Remove(ctx, ckpt.Ref{Job: m.Job, Sequence: m.Sequence}); err != nil && !errors.Is(err, ckpt.ErrNone) {
			a.log.Warn("remove a copy", "checkpoint", m.Sequence, "err", err)
		}
	}
}

// copyTime bounds the making of one copy.
const copyTime = 10 * time.Minute

// replicate has other nodes of this one's restore class keep copies of a checkpoint of a job that goes on.
func (a *Agent) replicate(ctx context.Context, j *job, m ckpt.Manifest, digest string) {
	n := a.cfg.Checkpoint.Replicas
	if a.cluster == nil || !m.Kept || n == 0 || a.cfg.Checkpoint.Shared {
		return
	}
	o := offer{
		Sequence: m.Sequence, Execution: m.Execution, Incarnation: m.Incarnation, Node: a.node, CPU: m.CPU, Bytes: m.Bytes, Taken: m.Taken, Digest: digest,
	}
	class, copies := a.engines.keeper.Report().Class.Digest(), []string{}
	for _, node := range a.cluster.mesh.Replicas(m.Job, maxReplicas+1) {
		p, ok := a.cluster.member(node)
		if !ok || p.State != gossip.Alive || !p.Meta.Checkpoints || p.Meta.Class != class || node == a.node {
			continue
		}
		if err := a.copyTo(ctx, p, m.Job, o); err != nil {
			a.log.Warn("copy a checkpoint", "job", m.Name, "checkpoint", m.Sequence, "node", node, "err", err)
			continue
		}
		if copies = append(copies, node); len(copies) == n {
			break
		}
	}
	if len(copies) < n && ctx.Err() == nil {
		a.log.Warn("a checkpoint has fewer copies than wanted", "job", m.Name, "checkpoint", m.Sequence, "copies", copies, "want", n)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if s := j.status().Saved; s != nil && s.Sequence == m.Sequence && len(copies) > 0 {
		s.Copies = copies
		_ = a.save(j) // written by a later sweep if not now
	}
}

// copyTo has one node make a copy, and waits for it.
func (a *Agent) copyTo(ctx context.Context, to gossip.Member, job string, o offer) error {
	body, err := json.Marshal(copyRequest{o})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, copyTime)
	defer cancel()
	resp, err := a.cluster.peers.Do(ctx, target(to), http.MethodPost, checkpointURL(ckpt.Ref{Job: job, Sequence: o.Sequence})+"/copy", body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var c copyAnswer
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxPeerAnswer)).Decode(&c); err != nil {
		return fmt.Errorf("the copy was not brought to its end: %w", err)
	}
	if c.Error != "" {
		return errors.New(c.Error)
	}
	return nil
}
