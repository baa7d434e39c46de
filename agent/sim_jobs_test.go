package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"qosctl/agent/api"
)

// submit hands a job of one execution in at a node until it is taken, or refused for good.
func (w *world) submit(n *simNode, id, name, command string, cpus float64) *simJob {
	return w.submitAgain(n, id, name, command, cpus, 1)
}

// submitAgain does so with a job of several executions.
func (w *world) submitAgain(n *simNode, id, name, command string, cpus float64, executions int) *simJob {
	file := fmt.Sprintf(`{"id":%q,"cmd":%q,"cpus":%g,"mem":32,"container":{"type":"DOCKER","docker":{"image":"img"}},
		"qos":{"duration":600,"desv_deadline":0.1,"deadline":7200,"executions":%d}}`, name, command, cpus, executions)
	code, body := n.admin(context.Background(), http.MethodPost, "/v1/jobs", api.SubmitRequest{ID: id, File: json.RawMessage(file)})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.say("%s: submit %s: %d", n.name, name, code)
	if code != http.StatusCreated {
		w.say("%s", body)
		return nil
	}
	j := &simJob{id: id, name: name}
	w.jobs = append(w.jobs, j)
	return j
}

// whereOne is the node where the one container of a job runs; nil: not one runs.
func (w *world) whereOne(j *simJob) *simNode {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := w.runningOf(j.id); len(r) == 1 {
		return w.node(r[0].node)
	}
	return nil
}

// begun says whether an execution of a job has had a container. The caller holds mu.
func (w *world) begun(j *simJob, execution int) bool {
	return slices.ContainsFunc(w.starts, func(s simStart) bool {
		return s.job == j.id && strings.HasPrefix(s.id, fmt.Sprintf("%s-%d-", j.id, execution))
	})
}

// tallied checks that all CPU time of the ended executions of a job is in its tally, and none twice.
func (w *world) tallied(j *simJob) {
	r, ok := w.alike(j, w.agents())
	w.mu.Lock()
	defer w.mu.Unlock()
	var counted time.Duration
	for _, c := range w.ledger {
		present := r.Status.Execution != nil && !r.Status.Phase.Terminal() && strings.HasPrefix(c.ID, fmt.Sprintf("%s-%d-", j.id, r.Status.Execution.Index))
		if c.job == j.id && !present {
			counted += c.kernel
		}
	}
	if booked := time.Duration(r.Status.Tally.CPU * float64(time.Second)); !ok || (booked-counted).Abs() > time.Millisecond {
		w.fault("the tally of %s says %v, the kernel counted %v", j.name, booked, counted)
	}
}
