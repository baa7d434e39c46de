package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"qosctl/agent/peer"
	"qosctl/ckpt"
	"qosctl/gossip"
	"qosctl/qos"
)

// offer is a checkpoint that a node has.
type offer struct {
	Sequence    int           `json:"sequence"`
	Execution   int           `json:"execution"` // 0: not known yet, of an unsealed one
	Incarnation int           `json:"incarnation"`
	Node        string        `json:"node"` // that took it
	CPU         time.Duration `json:"cpu"`
	Bytes       int64         `json:"bytes"`
	Taken       time.Time     `json:"taken"`
	Digest      string        `json:"digest"`
	Unsealed    bool          `json:"unsealed,omitempty"` // it can't be had yet, and may be soon; since gossip.ProtocolUnsealed

	at []gossip.Member // that have it
}

// same says whether two offers are of one checkpoint.
func (o offer) same(p offer) bool {
	return o.Sequence == p.Sequence && o.Digest == p.Digest && (!o.Unsealed || o.Node == p.Node)
}

// askUnsealed is the query of who wants to hear of unsealed checkpoints, too. A node of an earlier protocol would take them for sealed ones.
const askUnsealed = "unsealed"

// offers are the checkpoints of a job that this node has: those that are sealed and, if they are asked for, those of its own that will be. Before
// it is known what the agent before this one has left there is no answer.
func (a *Agent) offers(ctx context.Context, job string, unsealed bool) ([]offer, error) {
	k := a.engines.keeper
	if k == nil {
		return nil, nil
	}
	if !isClosed(a.recovered) {
		return nil, refuse(codeConflict, "what became of this node's checkpoints is being found out; ask again")
	}
	list, err := k.List(ctx, job)
	if err != nil {
		return nil, err
	}
	out := []offer{}
	for _, m := range list {
		o := offer{Sequence: m.Sequence, Execution: m.Execution, Incarnation: m.Incarnation, Node: m.Node, CPU: m.CPU, Bytes: m.Bytes, Taken: m.Taken}
		r := ckpt.Ref{Job: m.Job, Sequence: m.Sequence}
		switch _, o.Digest, err = k.Describe(ctx, r); {
		case err == nil:
			out = append(out, o)
		case unsealed && errors.Is(err, ckpt.ErrBusy) && a.willSeal(m):
			o.Unsealed = true
			out = append(out, o)
		} // else it is just being removed, or another node's
	}
	if l := a.late[job]; unsealed && l != nil && !isClosed(l.done) {
		for _, r := range l.refs {
			out = append(out, offer{Sequence: r.Sequence, Node: a.node, Unsealed: true})
		}
	}
	return out, nil
}

// willSeal says whether an unsealed checkpoint is one that this node goes on trying to seal.
func (a *Agent) willSeal(m ckpt.Manifest) bool {
	_, given := a.unsealable.Load(ckpt.Ref{Job: m.Job, Sequence: m.Sequence})
	return m.Node == a.node && !given
}

// askOffers asks peers for the checkpoints that they have of an execution of a job. silent is a node whose answer was needed and did not come:
// one that is not gone may answer the next time.
func (a *Agent) askOffers(ctx context.Context, job string, execution int, needed string) (all []offer, silent error) {
	ctx, cancel := context.WithTimeout(ctx, findTime)
	defer cancel()
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		slots = make(chan struct{}, 8)
	)
	near := a.near()
	if known := slices.ContainsFunc(near, func(m gossip.Member) bool { return m.Name == needed }); !known && needed != a.node && a.stateOf(needed, time.Now()) != nodeGone {
		silent = fmt.Errorf("node %s, which has its checkpoint, does not answer", needed)
	}
	for _, m := range near {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			list, err := a.askOffer(ctx, m, job)
			mu.Lock()
			defer mu.Unlock()
			if err != nil && m.Name == needed {
				silent = fmt.Errorf("ask node %s for its checkpoints: %w", m.Name, err)
			}
			for _, o := range list {
				if o.Execution != execution && (o.Execution != 0 || !o.Unsealed) {
					continue
				}
				if i := slices.IndexFunc(all, o.same); i >= 0 {
					all[i].at = append(all[i].at, m)
					continue
				}
				o.at = []gossip.Member{m}
				all = append(all, o)
			}
		})
	}
	wg.Wait()
	slices.SortFunc(all, func(x, y offer) int {
		return cmp.Or(cmp.Compare(x.Sequence, y.Sequence), cmp.Compare(x.Digest, y.Digest))
	})
	return all, silent
}

// askOffer asks one peer.
func (a *Agent) askOffer(ctx context.Context, m gossip.Member, job string) (list []offer, err error) {
	path := checkpointPath + url.PathEscape(job)
	if m.Meta.Common() >= gossip.ProtocolUnsealed {
		path += "?" + askUnsealed
	}
	err = a.askPeer(ctx, m, http.MethodGet, path, nil, &list)
	return list, err
}

// getOffers answers a peer.
func (a *Agent) getOffers(w http.ResponseWriter, r *http.Request) {
	unsealed := gossip.ProtocolMax >= gossip.ProtocolUnsealed && r.URL.Query().Has(askUnsealed)
	list, err := a.offers(r.Context(), r.PathValue("job"), unsealed)
	if err != nil {
		failPeer(w, err)
		return
	}
	peer.Answer(w, http.StatusOK, list)
}

// of says whether an offer is of the checkpoint that a row names.
func (o offer) of(s qos.Saved) bool {
	return o.Sequence == s.Sequence && o.Node == s.Node && (s.Digest == "" || s.Digest == o.Digest)
}

// follows says whether an offer is of a later checkpoint of the container that the one in a row was taken of, of which the row has not heard:
// known is the highest sequence that it knows of, that of one that somebody has discarded too. Of other containers nobody can tell by
// sequence: two nodes that were parted give the same ones.
func (o offer) follows(s qos.Saved, known int) bool {
	return !o.Unsealed && o.Node == s.Node && o.Execution == s.Execution && o.Incarnation == s.Incarnation && o.Sequence > max(s.Sequence, known)
}

// pick chooses the checkpoint that somebody wants, else the newest that follows the one that a row names, else that, else the one with the
// most progress.
func pick(list []offer, s qos.Saved, known, want int) *offer {
	if want != s.Sequence {
		if i := slices.IndexFunc(list, func(o offer) bool { return o.Sequence == want }); i >= 0 {
			return &list[i]
		}
	}
	rank := func(o offer) (kind, within int64) {
		switch {
		case o.follows(s, known):
			return 2, int64(o.Sequence)
		case o.of(s):
			return 1, 0
		}
		return 0, int64(o.CPU)
	}
	var best *offer
	for i, o := range list {
		if best == nil {
			best = &list[i]
			continue
		}
		k, w := rank(o)
		if kb, wb := rank(*best); k > kb || k == kb && w > wb {
			best = &list[i]
		}
	}
	return best
}

// newest is the newest checkpoint on offer of what ran last by a status: of the container that lives by it, else of the one that the
// checkpoint was taken of that it names. nil: there is none of which the status has not heard. What another container of the execution left, in
// another part of a cluster that was cut, is no successor of it.
func newest(list []offer, st qos.Status) (best *offer) {
	e, from := st.Execution, qos.Saved{}
	if st.Saved != nil && st.Saved.Execution == e.Index {
		from = *st.Saved
	}
	live, saved := e.Account.Live, qos.Incarnation{N: from.Incarnation, Node: from.Node}
	for i, o := range list {
		of := qos.Incarnation{N: o.Incarnation, Node: o.Node}
		heir := of == live && live.N > saved.N
		switch {
		case o.Execution != e.Index || !heir && of != saved || o.Sequence <= max(from.Sequence, st.Sequence):
		case best == nil, cmp.Or(cmp.Compare(o.Incarnation, best.Incarnation), cmp.Compare(o.Sequence, best.Sequence)) > 0:
			best = &list[i]
		}
	}
	return best
}
