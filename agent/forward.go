package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"qosctl/agent/api"
	"qosctl/agent/peer"
	"qosctl/gossip"
	"qosctl/qos"
)

// Any agent answers for the whole cluster: what concerns a job goes to the node that looks after it.

// forwardedHeader marks a request that another agent has passed on: it is answered here or not at all.
const forwardedHeader = "Qosctl-Forwarded-By"

// listTime bounds how long an answer waits for the figures of other nodes.
const listTime = 1500 * time.Millisecond

// withJob serves a request about a job: here if the job is this node's, else by the node that looks after it.
func (a *Agent) withJob(h func(http.ResponseWriter, *http.Request, *job)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ref := r.PathValue("job")
		j, err := a.jobs.find(ref)
		if a.cluster != nil && r.Header.Get(forwardedHeader) == "" {
			if row, ok := a.findShared(ref, j); ok && (j == nil || j.spec().ID != row.Spec.ID) {
				if !sees(r.Context(), row.Spec.Tenant) {
					answerError(w, noJob(ref))
					return
				}
				a.forward(w, r, row, h)
				return
			}
		}
		if err != nil && isTenant(r.Context()) {
			err = noJob(ref) // that several begin so would tell of others'
		}
		if err != nil {
			answerError(w, err)
			return
		}
		if !sees(r.Context(), j.spec().Tenant) {
			answerError(w, noJob(ref))
			return
		}
		h(w, r, j)
	}
}

// findShared returns the row of the table that a reference means, if it is not the job of this node that it means here.
func (a *Agent) findShared(ref string, here *job) (found qos.Record, ok bool) {
	if here != nil && here.spec().ID == ref {
		return found, false
	}
	if r, ok := a.cluster.mesh.Get(ref); ok {
		return r, true
	}
	var prefixed []qos.Record
	for _, r := range a.cluster.mesh.All() {
		if n := r.Spec.Name; (n == ref || n == "/"+ref) && (!ok || r.Spec.Submitted.After(found.Spec.Submitted)) {
			found, ok = r, true
		}
		if len(ref) >= 4 && strings.HasPrefix(r.Spec.ID, ref) {
			prefixed = append(prefixed, r)
		}
	}
	if !ok && len(prefixed) == 1 {
		return prefixed[0], true
	}
	return found, ok
}

// forward passes a request on to the node that looks after a job. One that nobody can be asked about is shown as the table has it.
func (a *Agent) forward(w http.ResponseWriter, r *http.Request, row qos.Record, h func(http.ResponseWriter, *http.Request, *job)) {
	node := a.responsible(row, time.Now())
	m, ok := a.cluster.member(node)
	switch {
	case node == a.node, !ok, a.stateOf(node, time.Now()) != nodeAlive:
		a.answerUnowned(w, r, row, h)
		return
	}
	_, pattern, _ := strings.Cut(r.Pattern, " ")
	path := strings.Replace(pattern, "{job}", url.PathEscape(row.Spec.ID), 1)
	if r.URL.RawQuery != "" {
		path += "?" + r.URL.RawQuery
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		a.pass(w, r, m, path, nil) // a question has no body
		return
	}
	body, leave, err := readBytes(w, r, maxBody)
	if err != nil {
		answerError(w, err)
		return
	}
	defer leave() // it is in memory until the other node has answered
	a.pass(w, r, m, path, body)
}

// pass sends a request to a peer and its answer back, as it comes.
func (a *Agent) pass(w http.ResponseWriter, r *http.Request, m gossip.Member, path string, body []byte) {
	if len(body) == 0 {
		body = nil
	}
	resp, err := a.cluster.peers.Do(r.Context(), target(m), r.Method, peerPrefix+path, body)
	if e, answered := errors.AsType[*peer.StatusError](err); answered {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(e.Status)
		_, _ = w.Write(e.Body) // the client has gone: nobody to tell
		return
	}
	if err != nil {
		answerError(w, refuse(codeFramework, "node %s, which looks after the job, does not answer: %s", m.Name, err).hint("try again; qosctl nodes shows who is there"))
		return
	}
	defer resp.Body.Close()
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	w.WriteHeader(resp.StatusCode)
	rc, buf := http.NewResponseController(w), make([]byte, 32<<10)
	_ = rc.Flush()
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return
			}
			_ = rc.Flush() // a follower sees it at once
		}
		if err != nil {
			return // its end, or a stream that broke: the client sees that it is cut
		}
	}
}

// answerUnowned answers for a job whose node is not there: reading is by the table, and a cancel is noted for whoever takes it over.
func (a *Agent) answerUnowned(w http.ResponseWriter, r *http.Request, row qos.Record, h func(http.ResponseWriter, *http.Request, *job)) {
	switch {
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		h(w, r, a.shadow(row))
		return
	case r.Pattern == "DELETE /v1/jobs/{job}" && !row.Status.Steward.Attached: // a detach is no cancel, and who attached a job did not submit it
		if err := a.cancelRow(row); err != nil {
			answerError(w, err)
			return
		}
		answer(w, http.StatusOK, a.show(a.shadow(row), true))
		return
	}
	answerError(w, refuse(codeConflict, "node %s, which has the job, is away", row.Status.Owner).hint("it is taken over when that node is gone for good: try again"))
}

// shadow is a job as the table has it, for reading only.
func (a *Agent) shadow(r qos.Record) *job {
	j := newJob(row{Record: r})
	j.gone = true // nothing of it is written
	return j
}

// cancelRow notes a cancel of a job that no live node owns.
func (a *Agent) cancelRow(r qos.Record) error {
	if r.Status.Phase.Terminal() {
		return nil
	}
	r.Status.Intent = qos.IntentCancel
	r.Status.Steward = r.Status.Steward.Clone()
	r.Status.Steward.Duty++
	r.Status.Steward.By, r.Status.Steward.Pending = a.node, qos.ActDelete
	_, err := a.cluster.mesh.Put(r)
	a.stir()
	return err
}

// others are the jobs of the cluster that are not this node's: as their nodes show them, else as the table has them.
func (a *Agent) others(ctx context.Context, all bool) []api.Job {
	ctx, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		known = map[string]api.Job{}
		slots = make(chan struct{}, 16)
	)
	for _, m := range a.alive() {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			var list api.JobList
			if err := a.askPeer(ctx, m, http.MethodGet, fmt.Sprintf("%s/v1/jobs?all=%t", peerPrefix, all), nil, &list); err != nil {
				return // the table has what it last told
			}
			mu.Lock()
			defer mu.Unlock()
			for _, j := range list.Jobs {
				if had, ok := known[j.ID]; !ok || had.Epoch < j.Epoch {
					known[j.ID] = j
				}
			}
		})
	}
	wg.Wait()
	var list []api.Job
	for _, r := range a.cluster.mesh.All() {
		if a.jobs.get(r.Spec.ID) != nil || !all && r.Status.Phase.Terminal() {
			continue
		}
		j, ok := known[r.Spec.ID]
		if !ok {
			j = a.show(a.shadow(r), false)
		}
		list = append(list, j)
	}
	return list
}

func sortJobs(list []api.Job) {
	slices.SortFunc(list, func(x, y api.Job) int {
		return cmp.Or(x.Submitted.Compare(y.Submitted), cmp.Compare(x.ID, y.ID))
	})
}

// peerPrefix stands before the routes of the API for people when an agent passes a request on.
const peerPrefix = "/peer/v1/forward"

// peerRoutes is what other agents of the cluster may ask.
func (a *Agent) peerRoutes() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("POST /peer/v1/mesh/{kind}", a.postMesh)
	m.HandleFunc("POST /peer/v1/jobs/{job}/yield", a.postYield)
	m.HandleFunc("POST /peer/v1/jobs/{job}/account", a.postAccount)
	m.HandleFunc("POST /peer/v1/jobs/{job}/debt", a.postDebt)
	m.HandleFunc("POST /peer/v1/jobs/{job}/told", a.postTold)
	m.HandleFunc("POST "+reachPath, a.postReach)
	m.HandleFunc("GET /peer/v1/jobs/{job}/bearing", func(w http.ResponseWriter, r *http.Request) {
		n := 0
		_ = json.Unmarshal([]byte(r.URL.Query().Get("execution")), &n) // no number: none was given
		peer.Answer(w, http.StatusOK, a.getBearing(r.PathValue("job"), n))
	})
	admin := http.StripPrefix(peerPrefix, a.adminRoutes())
	m.HandleFunc(peerPrefix+"/", func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set(forwardedHeader, peer.Caller(r.Context()))
		admin.ServeHTTP(w, r)
	})
	m.HandleFunc("/", noRoute)
	a.checkpointRoutes(m)
	a.keyringRoutes(m)
	return m
}

// postMesh serves the table's own questions.
func (a *Agent) postMesh(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		body, err = a.cluster.mesh.Answer(r.Context(), peer.Caller(r.Context()), r.PathValue("kind"), body)
	}
	if err != nil {
		failPeer(w, refuse(codeInvalid, "%s", err))
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(body) // the peer has gone: nobody to tell
}
