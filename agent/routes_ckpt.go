package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"qosctl/agent/api"
	"qosctl/ckpt"
	"qosctl/qos"
)

func (a *Agent) postCheckpoint(w http.ResponseWriter, r *http.Request, j *job) {
	var body api.CheckpointRequest
	err := readBody(w, r, &body)
	if err == nil {
		err = boundReason(body.Reason)
	}
	if err != nil {
		answerError(w, err)
		return
	}
	m, err := a.checkpointNow(r.Context(), j, body)
	if err != nil {
		answerError(w, err)
		return
	}
	answer(w, http.StatusCreated, a.describeCheckpoint(m, true))
}

// checkpointNow saves a job's state and waits until that is done.
func (a *Agent) checkpointNow(ctx context.Context, j *job, r api.CheckpointRequest) (m ckpt.Manifest, err error) {
	if r.Reason == "" {
		r.Reason = "asked for"
	}
	type outcome struct {
		m   ckpt.Manifest
		err error
	}
	done := make(chan outcome, 1)
	j.mu.Lock()
	if r.Stop {
		err = a.stopSaved(j, stopOrder{Why: r.Reason, Signal: 15, done: func(m ckpt.Manifest, err error) { done <- outcome{m, err} }})
	} else {
		err = a.checkpoint(j, r.Reason, func(m ckpt.Manifest, err error) { done <- outcome{m, err} })
	}
	j.mu.Unlock()
	if err != nil {
		return m, err
	}
	select {
	case o := <-done:
		return o.m, refusedCheckpoint(o.err)
	case <-ctx.Done():
		return m, ctx.Err()
	}
}

// refusedCheckpoint puts a checkpoint that was not taken into an answer.
func refusedCheckpoint(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ckpt.ErrBusy):
		return refuse(codeConflict, "%s", err)
	case errors.Is(err, ckpt.ErrStopped):
		return refuse(codeConflict, "%s", err).hint("its images are kept, and completed as soon as that is possible: qosctl explain says when")
	case errors.Is(err, ckpt.ErrRefused), errors.Is(err, ckpt.ErrDump), errors.Is(err, ckpt.ErrSpace), errors.Is(err, ckpt.ErrDisabled):
		return refuse(codeConflict, "%s", err).hint("the job runs on; qosctl doctor says what this node can do")
	}
	return err
}

// stopSaved suspends a job on request. The caller holds j.mu.
func (a *Agent) stopSaved(j *job, order stopOrder) error {
	switch l := j.live; {
	case !a.keeps(j):
		return a.whyNotKept(j)
	case l == nil:
		return refuse(codeConflict, "%s is %s: nothing of it runs", j.spec().Name, j.status().Phase)
	case l.stopping || l.saving:
		return refuse(codeConflict, "%s is being saved or stopped already", j.spec().Name)
	}
	return a.suspend(j, order)
}

func (a *Agent) describeCheckpoint(m ckpt.Manifest, sealed bool) api.Checkpoint {
	return api.Checkpoint{
		Job: m.Job, Name: m.Name, Sequence: m.Sequence, Execution: m.Execution, Incarnation: m.Incarnation, Container: m.Container.ID, Cgroup: m.Container.Cgroup,
		Node: m.Node, Driver: m.Class.Driver, Taken: m.Taken, CPU: m.CPU.Seconds(), Bytes: m.Bytes, Resident: m.Resident, Kept: m.Kept, Sealed: sealed,
		Frozen: m.Dump.Frozen.Seconds(), Took: m.Dump.Whole.Seconds(), Reason: m.Reason,
	}
}

func (a *Agent) listCheckpoints(w http.ResponseWriter, r *http.Request) {
	list := api.CheckpointList{Checkpoints: []api.Checkpoint{}}
	k, id := a.engines.keeper, ""
	if ref := r.URL.Query().Get("job"); ref != "" {
		var err error
		if id, err = a.idOf(ref); err != nil {
			answerError(w, err)
			return
		}
	}
	list.Checkpoints = append(list.Checkpoints, a.checkpointsElsewhere(r.Context(), r, id)...)
	if k == nil {
		answer(w, http.StatusOK, list)
		return
	}
	all, err := k.List(r.Context(), id)
	if err != nil {
		answerError(w, err)
		return
	}
	for _, m := range all {
		c := a.describeCheckpoint(m, len(m.Files) > 0)
		c.Holder = a.node
		if r.URL.Query().Get("verify") == "true" && c.Sealed {
			c.Verified = "ok"
			if _, err := k.Verify(r.Context(), ckpt.Ref{Job: m.Job, Sequence: m.Sequence}); err != nil {
				c.Verified = err.Error()
			}
		}
		list.Checkpoints = append(list.Checkpoints, c)
	}
	answer(w, http.StatusOK, list)
}

// idOf is the ID of the job that is meant, of this node or another.
func (a *Agent) idOf(ref string) (string, error) {
	j, err := a.jobs.find(ref)
	if err == nil {
		return j.spec().ID, nil
	}
	if a.cluster != nil {
		if r, ok := a.findShared(ref, nil); ok {
			return r.Spec.ID, nil
		}
	}
	return "", err
}

// checkpointsElsewhere are those that other nodes have of a job ("": of all), as far as they answer in time.
func (a *Agent) checkpointsElsewhere(ctx context.Context, r *http.Request, id string) []api.Checkpoint {
	if a.cluster == nil || r.Header.Get(forwardedHeader) != "" {
		return nil
	}
	q := r.URL.Query()
	q.Set("job", id)
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		list []api.Checkpoint
	)
	for _, m := range a.alive() {
		wg.Go(func() {
			var l api.CheckpointList
			if err := a.askPeer(ctx, m, http.MethodGet, peerPrefix+"/v1/checkpoints?"+q.Encode(), nil, &l); err != nil {
				a.log.Debug("ask a peer for its checkpoints", "node", m.Name, "err", err) // what it has is shown when it answers again
				return
			}
			mu.Lock()
			defer mu.Unlock()
			list = append(list, l.Checkpoints...)
		})
	}
	wg.Wait()
	slices.SortFunc(list, func(x, y api.Checkpoint) int {
		return cmp.Or(cmp.Compare(x.Job, y.Job), cmp.Compare(x.Sequence, y.Sequence), cmp.Compare(x.Holder, y.Holder))
	})
	return list
}

func (a *Agent) deleteCheckpoint(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	sequence, err := strconv.Atoi(q.Get("sequence"))
	if err != nil || sequence < 1 {
		answerError(w, refuse(codeInvalid, "sequence: %q is none; they count from 1", q.Get("sequence")))
		return
	}
	j, err := a.jobs.find(q.Get("job"))
	if err == nil {
		err = a.dropCheckpoint(r.Context(), j, sequence)
	}
	if err != nil {
		answerError(w, err)
		return
	}
	answer(w, http.StatusOK, struct{}{})
}

func (a *Agent) dropCheckpoint(ctx context.Context, j *job, sequence int) error {
	if a.engines.keeper == nil {
		return refuse(codeNotFound, "no checkpoint %d of %s", sequence, j.spec().Name)
	}
	j.mu.Lock()
	s := j.status().Saved
	needed := s != nil && s.Sequence == sequence && j.live == nil && !j.status().Phase.Terminal()
	j.mu.Unlock()
	if needed {
		return refuse(codeConflict, "%s goes on from checkpoint %d when its next task comes", j.spec().Name, sequence).hint("qosctl cancel ends the job")
	}
	err := a.engines.keeper.Remove(ctx, ckpt.Ref{Job: j.spec().ID, Sequence: sequence})
	switch {
	case errors.Is(err, ckpt.ErrNone):
		return refuse(codeNotFound, "no checkpoint %d of %s", sequence, j.spec().Name).hint("qosctl checkpoints lists them")
	case errors.Is(err, ckpt.ErrBusy):
		return refuse(codeConflict, "%s", err)
	case errors.Is(err, ckpt.ErrStopped):
		return refuse(codeConflict, "%s", err).hint("its images are kept, and completed as soon as that is possible: qosctl explain says when")
	}
	return err
}

func (a *Agent) postRestore(w http.ResponseWriter, r *http.Request, j *job) {
	var body api.RestoreRequest
	err := readBody(w, r, &body)
	if err == nil {
		err = a.restoreNow(r.Context(), j, body)
	}
	if err != nil {
		answerError(w, err)
		return
	}
	answer(w, http.StatusOK, a.show(j, true))
}

// restoreNow ends a job's container and lets it go on, for the same task, from a checkpoint of its present execution.
func (a *Agent) restoreNow(ctx context.Context, j *job, r api.RestoreRequest) error {
	if a.engines.keeper == nil {
		return a.whyNotKept(j)
	}
	list, err := a.engines.keeper.List(ctx, j.spec().ID)
	if err != nil {
		return err
	}
	digests := map[int]string{}
	for _, m := range list {
		if _, d, err := a.engines.keeper.Describe(ctx, ckpt.Ref{Job: m.Job, Sequence: m.Sequence}); err == nil { // else it is not sealed yet
			digests[m.Sequence] = d
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.status().Execution
	if e == nil {
		return refuse(codeConflict, "%s has not run yet", j.spec().Name)
	}
	var wish *ckpt.Manifest
	for _, m := range list {
		if m.Execution == e.Index && (r.Sequence == 0 || m.Sequence == r.Sequence) {
			wish = &m
		}
	}
	if wish == nil {
		return refuse(codeNotFound, "no checkpoint %s of the present run of %s", orNewest(r.Sequence), j.spec().Name).hint("qosctl checkpoints lists them; a checkpoint of a run that has ended can't be restored")
	}
	if r.Discard {
		return a.discard(j, *wish, digests[wish.Sequence])
	}
	if j.live == nil {
		j.row.Local.Wish = wish.Sequence
		return a.save(j)
	}
	order := stopOrder{Why: fmt.Sprintf("to be restored from checkpoint %s", orNewest(r.Sequence)), Signal: 15, Again: true}
	if r.Sequence > 0 {
		j.row.Local.Wish = r.Sequence
	}
	return a.stopSaved(j, order)
}

func orNewest(sequence int) string {
	if sequence == 0 {
		return "(the newest)"
	}
	return strconv.Itoa(sequence)
}

// discard stops the container without saving what it has done since the checkpoint that the job then goes on from; digest is "" if that is not
// sealed yet. The caller holds j.mu.
func (a *Agent) discard(j *job, m ckpt.Manifest, digest string) error {
	l := j.live
	if l != nil && (l.stopping || l.saving) {
		return refuse(codeConflict, "%s is being saved or stopped already", j.spec().Name)
	}
	j.row.Local.Wish = m.Sequence
	j.status().Saved = &qos.Saved{
		Node: cmp.Or(m.Node, a.node), Sequence: m.Sequence, Execution: m.Execution, Incarnation: m.Incarnation, CPU: m.CPU, Taken: m.Taken, Digest: digest,
	}
	if l == nil {
		return a.save(j)
	}
	j.row.Local.Stop = &stopOrder{Why: fmt.Sprintf("discarded for checkpoint %d", m.Sequence), Again: true}
	a.halt(j, "discarded")
	return nil
}
