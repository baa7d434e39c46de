package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"qosctl/agent/doctor"
	"qosctl/agent/peer"
	"qosctl/gossip"
)

// reachTime bounds each way by which a peer is tried to be reached.
const reachTime = 3 * time.Second

// reachPath is where an agent asks another to reach it. What is tried are the addresses that the table has of the one that asks, no others.
const reachPath = "/peer/v1/reach"

func (a *Agent) postReach(w http.ResponseWriter, r *http.Request) {
	m, ok := a.cluster.member(peer.Caller(r.Context()))
	if !ok {
		failPeer(w, refuse(codeNotFound, "node %s is no member here", peer.Caller(r.Context())))
		return
	}
	peer.Answer(w, http.StatusOK, a.reach(r.Context(), m))
}

// reach tries the ways to a member, one after the other.
func (a *Agent) reach(ctx context.Context, m gossip.Member) doctor.Reached {
	try := func(way func(context.Context) error) string {
		ctx, stop := context.WithTimeout(ctx, reachTime)
		defer stop()
		if err := way(ctx); err != nil {
			return err.Error()
		}
		return ""
	}
	return doctor.Reached{
		TCP: try(func(ctx context.Context) error { return gossip.Knock(ctx, m.Address, a.cfg.Cluster.Label) }),
		UDP: try(func(ctx context.Context) error {
			p, ok := a.cluster.mesh.(interface {
				Ping(ctx context.Context, name string) (time.Duration, error)
			})
			if !ok {
				return nil
			}
			_, err := p.Ping(ctx, m.Name)
			return err
		}),
		Peer: try(func(ctx context.Context) error {
			return a.askPeer(ctx, m, http.MethodGet, peerPrefix+"/v1/health", nil, nil)
		}),
	}
}

// askReach asks a peer to reach this node.
func (a *Agent) askReach(ctx context.Context, p doctor.Peer) (r doctor.Reached, err error) {
	err = a.askPeer(ctx, p.Member, http.MethodPost, reachPath, struct{}{}, &r)
	return r, err
}

// tooOld says whether a peer knows no such question.
func tooOld(err error) bool {
	e, ok := errors.AsType[*peer.StatusError](err)
	return ok && e.Status == http.StatusNotFound
}

// distance asks a peer for its clock: any answer has it.
func (a *Agent) distance(ctx context.Context, p doctor.Peer) (doctor.Distance, error) {
	asked := time.Now()
	if err := a.askPeer(ctx, p.Member, http.MethodGet, peerPrefix+"/v1/health", nil, nil); err != nil {
		return doctor.Distance{}, err
	}
	d, at, ok := a.cluster.skews.of(p.Name)
	if !ok || at.Before(asked) {
		return d, fmt.Errorf("the answer of %s took too long to tell its clock", p.Name)
	}
	return d, nil
}
