package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"qosctl/agent/peer"
	"qosctl/container"
	"qosctl/gossip"
)

// What a job wrote on another node is read from there.

// getPeerOutput sends what a container of this node has written, from an offset on.
func (a *Agent) getPeerOutput(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	off, err := strconv.ParseInt(q.Get("offset"), 10, 64)
	s, id := container.Stream(q.Get("stream")), q.Get("container")
	if job, _ := parseContainerID(id); err != nil || off < 0 || s != container.Stdout && s != container.Stderr || job != r.PathValue("job") {
		failPeer(w, refuse(codeInvalid, "want a container of the job, a stream and an offset"))
		return
	}
	out, err := a.openLocal(r.Context(), id, s, off)
	if err != nil {
		if errors.Is(err, container.ErrNotFound) {
			err = refuse(codeNotFound, "%s", err)
		}
		failPeer(w, err)
		return
	}
	defer out.Close() //nolint:errcheck // only read
	w.Header().Set("Content-Type", "application/octet-stream")
	_, err = io.Copy(w, out)
	if err != nil && r.Context().Err() == nil {
		a.log.Warn("send the output of a container", "container", id, "node", peer.Caller(r.Context()), "err", err)
		panic(http.ErrAbortHandler) // nobody is to take it for the end
	}
}

// openLocal reads what a container of this node has written, whatever engine held it, or what was collected of it.
func (a *Agent) openLocal(ctx context.Context, id string, s container.Stream, off int64) (io.ReadCloser, error) {
	done, cancel := context.WithCancel(ctx)
	cancel() // read what is there, do not wait for more
	for _, e := range a.engines.all() {
		r, err := e.Logs(done, id, s, off)
		if !errors.Is(err, container.ErrNotFound) {
			return r, err
		}
	}
	return a.openCollected(id, s, off)
}

// openElsewhere reads what a container of another node has written.
func (a *Agent) openElsewhere(ctx context.Context, node, job, id string, s container.Stream, off int64) (io.ReadCloser, error) {
	m, ok := a.cluster.member(node)
	if !ok || m.State != gossip.Alive {
		return nil, fmt.Errorf("output of %s is on node %s, which is away: %w", id, node, container.ErrNotFound)
	}
	q := url.Values{"container": {id}, "stream": {string(s)}, "offset": {strconv.FormatInt(off, 10)}}
	resp, err := a.cluster.peers.Do(ctx, target(m), http.MethodGet, "/peer/v1/jobs/"+url.PathEscape(job)+"/output?"+q.Encode(), nil)
	if e, answered := errors.AsType[*peer.StatusError](err); answered && e.Status == http.StatusNotFound {
		return nil, fmt.Errorf("output of %s: %w", id, container.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}
