package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"qosctl/agent/peer"
	"qosctl/gossip"
)

// meshPeers carries the table's own questions over the peer API.
type meshPeers struct{ peers peerCaller }

// Call asks a member.
func (p meshPeers) Call(ctx context.Context, to gossip.Member, kind string, body []byte) ([]byte, error) {
	if to.Meta.Peer == "" {
		return nil, fmt.Errorf("node %s has not told the address of its peer API: %w", to.Name, peer.ErrUnreachable)
	}
	resp, err := p.peers.Do(ctx, target(to), http.MethodPost, "/peer/v1/mesh/"+kind, body)
	if e, answered := errors.AsType[*peer.StatusError](err); answered && (e.Status == http.StatusUnprocessableEntity || e.Status == http.StatusRequestEntityTooLarge) {
		return nil, fmt.Errorf("%w: %w", gossip.ErrRefused, err)
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, gossip.MaxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the answer of node %s: %w", to.Name, err)
	case len(data) > gossip.MaxAnswer:
		return nil, fmt.Errorf("%w: the answer of node %s is longer than %d bytes", gossip.ErrRefused, to.Name, gossip.MaxAnswer)
	}
	return data, nil
}

// accounts are those of the jobs that run here, for their replicas.
func (a *Agent) accounts() []gossip.Account {
	var list []gossip.Account
	for _, j := range a.jobs.all() {
		j.mu.Lock()
		if e := j.status().Execution; e != nil && j.live != nil && !j.gone {
			list = append(list, gossip.Account{Job: j.spec().ID, Execution: e.Index, Account: e.Account.Clone()})
		}
		j.mu.Unlock()
	}
	return list
}

// marked looks at what was put on hold, or is to be drained.
func (a *Agent) marked() {
	a.decideSoon()
	a.stewardSoon()
	a.stir()
}
