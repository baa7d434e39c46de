package agent

import (
	"fmt"
	"net/http"
	"time"

	"qosctl/agent/peer"
	"qosctl/qos"
)

// postYield answers a node whose stand-in has claimed a job of this one.
func (a *Agent) postYield(w http.ResponseWriter, r *http.Request) {
	var y yieldRequest
	err := peer.Read(r, &y)
	if err == nil && y.Node != peer.Caller(r.Context()) {
		err = refuse(codeForbidden, "node %s asks in the name of %s", peer.Caller(r.Context()), y.Node)
	}
	j := a.jobs.get(r.PathValue("job"))
	if err == nil && j == nil {
		err = refuse(codeNotFound, "this node does not have the job")
		if row, ok := a.cluster.mesh.Get(r.PathValue("job")); ok && a.forgotten(row) {
			a.stir()
			err = refuse(codeConflict, "this node's store was lost; it is finding out what runs here; ask again")
		}
	}
	var h handover
	if err == nil {
		h, err = a.yield(j, y)
	}
	if err != nil {
		failPeer(w, err)
		return
	}
	peer.Answer(w, http.StatusOK, h)
}

// yield hands a job over whose process state is safe; else it has it put aside, and says to ask again.
func (a *Agent) yield(j *job, y yieldRequest) (handover, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	st := j.status()
	switch {
	case j.gone || j.rival != nil || st.Owner != a.node && st.Owner != "":
		return handover{}, refuse(codeNotFound, "this node does not own the job any more")
	case j.handing:
		return handover{}, refuse(codeConflict, "the job is being submitted; ask again")
	case j.busy || j.live != nil && j.live.saving:
		return handover{}, refuse(codeConflict, "the job's state is being saved or restored; ask again")
	case j.live != nil:
		return handover{}, a.putAside(j, y.Why)
	case j.saved() && st.Saved.Digest == "" && st.Saved.Node == a.node && !a.cfg.Checkpoint.Shared: // another node's is asked for there
		return handover{}, refuse(codeConflict, "the job's checkpoint %d is being sealed; ask again", st.Saved.Sequence)
	}
	if err := a.notHanded(j.spec().ID, y.Node); err != nil {
		return handover{}, err
	}
	a.share(j) // what is handed over is what all know
	l := j.row.clone().Local
	a.cluster.mu.Lock()
	a.cluster.handed[j.spec().ID] = handing{y.Node, time.Now()}
	a.cluster.mu.Unlock()
	a.log.Info("job handed over", "job", j.spec().Name, "to", y.Node, "task", y.Task)
	return handover{Record: j.row.clone().Record, Local: local{
		Events: l.Events, Changed: l.Changed, Memory: l.Memory, Move: l.Move, Wish: l.Wish, Elsewhere: l.Elsewhere, InARow: l.InARow, Mended: l.Mended, Heard: l.Heard,
	}, History: j.bequeath()}, nil
}

// putAside ends the live container, with its state saved if that can be done. It returns what the asker is told. The caller holds j.mu.
func (a *Agent) putAside(j *job, why string) error {
	switch l := j.live; {
	case j.steward().Adopted:
		return refuse(codeConflict, "Mesos holds the job's container here")
	case l.stopping:
	case a.engineOf(j) == a.engines.docker && !isClosed(a.tested):
		return refuse(codeConflict, "it is not known yet whether this node can keep the job's state; ask again")
	case a.keeps(j) && j.status().Intent == qos.IntentNone && l.failed < handTries:
		if time.Since(l.failedAt) < backoff(l.failed) {
			return refuse(codeConflict, "the job's state could not be saved %s ago; ask again", time.Since(l.failedAt).Round(time.Second))
		}
		if err := a.suspend(j, stopOrder{Why: why, Signal: 15}); err != nil {
			return err
		}
	default:
		a.halt(j, why)
	}
	return refuse(codeConflict, "the job's container here is being put aside; ask again")
}

// failPeer answers a peer with an error.
func failPeer(w http.ResponseWriter, err error) {
	if e, ok := err.(*peer.StatusError); ok { //nolint:errorlint // made by peer.Read, wrapped by nobody
		peer.Fail(w, e.Status, e.Code, e.Text)
		return
	}
	r := asRefusal(err)
	peer.Fail(w, r.body.Status, r.body.Code, fmt.Sprint(r.body.Text))
}
