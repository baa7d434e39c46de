package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"qosctl/agent/api"
	"qosctl/ckpt"
	"qosctl/qos"
)

func (a *Agent) postCheckpoint(w http.ResponseWriter, r *http.Request, j *job) {
	var body api.CheckpointRequest
	if err := readBody(w, r, &body); err != nil {
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
		j, err := a.jobs.find(ref)
		if err != nil {
			answerError(w, err)
			return
		}
		id = j.spec().ID
	}
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
		return a.discard(j, *wish)
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

// discard stops the container without saving what it has done since the checkpoint that the job then goes on from. The caller holds j.mu.
func (a *Agent) discard(j *job, m ckpt.Manifest) error {
	l := j.live
	if l != nil && (l.stopping || l.saving) {
		return refuse(codeConflict, "%s is being saved or stopped already", j.spec().Name)
	}
	j.row.Local.Wish = m.Sequence
	j.status().Saved = &qos.Saved{Node: a.node, Sequence: m.Sequence, Execution: m.Execution, Incarnation: m.Incarnation, CPU: m.CPU, Taken: m.Taken, Digest: "-"}
	if l == nil {
		return a.save(j)
	}
	j.row.Local.Stop = &stopOrder{Why: fmt.Sprintf("discarded for checkpoint %d", m.Sequence), Again: true}
	a.halt(j, "discarded")
	return nil
}

func (a *Agent) getDoctor(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, a.doctor())
}

func (a *Agent) postDoctor(w http.ResponseWriter, r *http.Request) {
	if k := a.engines.keeper; k != nil {
		if !a.untilTested(r.Context()) {
			answerError(w, r.Context().Err())
			return
		}
		k.Test(r.Context())
	}
	answer(w, http.StatusOK, a.doctor())
}

// doctor is what is known of this node's checkpoints.
func (a *Agent) doctor() api.Doctor {
	if a.engines.keeper == nil {
		return api.Doctor{Checks: []api.Check{{Name: "docker", Text: "no Docker is configured: jobs are plain processes, resized in place", Remedy: "engine.docker in the configuration"}}}
	}
	if !isClosed(a.tested) {
		return api.Doctor{Checks: []api.Check{{Name: "self-test", Text: "it is under way", Remedy: "ask again"}}}
	}
	report := a.engines.keeper.Report()
	d := api.Doctor{Driver: report.Driver, Checks: []api.Check{}}
	for _, c := range report.Checks {
		d.Checks = append(d.Checks, api.Check{Name: c.Name, OK: c.OK, Text: c.Text, Remedy: c.Remedy, Took: c.Took.Seconds()})
	}
	return d
}
