package agent

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	"qosctl/agent/api"
	"qosctl/agent/page"
	"qosctl/container"
)

// pingTime bounds how long the node's page waits for a framework.
const pingTime = 2 * time.Second

// adminRoutes is the API for people and for Prometheus.
func (a *Agent) adminRoutes() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("POST /v1/jobs", a.postJob)
	m.HandleFunc("GET /v1/jobs", a.listJobs)
	m.HandleFunc("GET /v1/jobs/{job}", a.withJob(a.getJob))
	m.HandleFunc("DELETE /v1/jobs/{job}", a.withJob(a.deleteJob))
	m.HandleFunc("GET /v1/jobs/{job}/explain", a.withJob(func(w http.ResponseWriter, _ *http.Request, j *job) { answer(w, http.StatusOK, a.explain(j)) }))
	m.HandleFunc("GET /v1/jobs/{job}/history", a.withJob(a.getHistory))
	m.HandleFunc("GET /v1/jobs/{job}/events", a.withJob(a.jobEvents))
	m.HandleFunc("GET /v1/events", a.clusterEvents)
	m.HandleFunc("GET /v1/jobs/{job}/logs", a.withJob(a.getLogs))
	m.HandleFunc("POST /v1/jobs/{job}/checkpoints", a.withJob(a.postCheckpoint))
	m.HandleFunc("POST /v1/jobs/{job}/restore", a.withJob(a.postRestore))
	m.HandleFunc("GET /v1/checkpoints", a.listCheckpoints)
	m.HandleFunc("DELETE /v1/checkpoints", a.deleteCheckpoint)
	m.HandleFunc("GET /v1/doctor", a.getDoctor)
	m.HandleFunc("POST /v1/doctor", a.postDoctor)
	m.HandleFunc("POST /v1/attach", a.postAttach)
	m.HandleFunc("DELETE /v1/attach/{job}", a.withJob(a.deleteAttach))
	m.HandleFunc("GET /v1/node", a.getNode)
	m.HandleFunc("GET /v1/nodes", a.getNodes)
	m.HandleFunc("GET /v1/targets", a.getTargets)
	m.HandleFunc("GET /v1/usage", a.getUsage)
	m.HandleFunc("POST /v1/jobs/{job}/migrate", a.withJob(a.postMigrate))
	m.HandleFunc("POST /v1/drain", a.postDrain)
	m.HandleFunc("GET /v1/drain/{node}", a.getDrain)
	m.HandleFunc("GET /v1/keyring", a.getKeyring)
	m.HandleFunc("POST /v1/keyring", a.postKeyring)
	m.HandleFunc("GET /v1/hold", a.getHolds)
	m.HandleFunc("POST /v1/hold", a.postHold)
	m.HandleFunc("GET /v1/health", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, struct{}{}) })
	m.HandleFunc("GET /v1/ready", a.getReady)
	m.Handle("GET /metrics", a.metricsPage())
	m.Handle("/", page.Handler(http.HandlerFunc(noRoute)))
	return m
}

// debugRoutes are for who looks for a fault in an agent, on the admin socket alone.
func (a *Agent) debugRoutes(m *http.ServeMux) {
	m.HandleFunc("GET /v1/debug/state", a.getDebugState)
	m.HandleFunc("GET /v1/debug/config", a.getDebugConfig)
	m.HandleFunc("GET /v1/debug/pprof/{profile}", a.getProfile)
}

// standinRoutes is all that the stand-ins' socket accepts.
func (a *Agent) standinRoutes() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("POST /v1/standin/{job}/claim", a.postClaim)
	m.HandleFunc("POST /v1/standin/{job}/stop", a.postStop)
	m.HandleFunc("GET /v1/standin/{job}/output", a.getOutput)
	m.HandleFunc("/", noRoute)
	return m
}

func noRoute(w http.ResponseWriter, r *http.Request) {
	answerError(w, refuse(codeNotFound, "no route %s %s", r.Method, r.URL.Path).hint("docs/openapi.yaml lists them"))
}

func (a *Agent) postJob(w http.ResponseWriter, r *http.Request) {
	var body api.SubmitRequest
	if err := readBody(w, r, &body); err != nil {
		answerError(w, err)
		return
	}
	// Once begun, a submission is brought to an end: a client that hangs up leaves nothing half done.
	resp, fresh, err := a.submit(context.WithoutCancel(r.Context()), body)
	switch {
	case err != nil:
		answerError(w, err)
	case fresh:
		answer(w, http.StatusCreated, resp)
	default:
		answer(w, http.StatusOK, resp)
	}
}

func (a *Agent) listJobs(w http.ResponseWriter, r *http.Request) {
	all := r.URL.Query().Get("all") == "true"
	if r.Header.Get(forwardedHeader) != "" {
		answer(w, http.StatusOK, api.JobList{Jobs: a.own(all)})
		return
	}
	answer(w, http.StatusOK, api.JobList{Jobs: a.list(r.Context(), all)})
}

// own are the jobs of this node.
func (a *Agent) own(all bool) []api.Job {
	list := []api.Job{}
	for _, j := range a.jobs.all() {
		if v := a.show(j, false); all || !v.Phase.Terminal() {
			list = append(list, v)
		}
	}
	return list
}

// list are the jobs of the cluster.
func (a *Agent) list(ctx context.Context, all bool) []api.Job {
	list := a.own(all)
	if a.cluster != nil {
		list = append(list, a.others(ctx, all)...)
		sortJobs(list)
	}
	return slices.DeleteFunc(list, func(j api.Job) bool { return !sees(ctx, j.Tenant) })
}

func (a *Agent) getJob(w http.ResponseWriter, r *http.Request, j *job) {
	q := r.URL.Query()
	if q.Has("wait") {
		since, err := strconv.ParseUint(q.Get("since"), 10, 64)
		wait, err2 := time.ParseDuration(q.Get("wait"))
		if err != nil || err2 != nil || wait < 0 {
			answerError(w, refuse(codeInvalid, "since and wait: want a revision and a duration, as since=7&wait=30s"))
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), min(wait, maxWait))
		waitChange(ctx, j, since)
		cancel()
	}
	answer(w, http.StatusOK, a.show(j, true))
}

func (a *Agent) deleteJob(w http.ResponseWriter, r *http.Request, j *job) {
	if err := a.cancel(j); err != nil {
		answerError(w, err)
		return
	}
	answer(w, http.StatusOK, a.show(j, true))
}

func (a *Agent) getLogs(w http.ResponseWriter, r *http.Request, j *job) {
	q := r.URL.Query()
	c, err := parseCursor(q.Get("cursor"))
	only := container.Stream(q.Get("stream"))
	if err == nil && only != "" && only != container.Stdout && only != container.Stderr {
		err = refuse(codeInvalid, "stream: %q is neither stdout nor stderr", only)
	}
	if err != nil {
		answerError(w, err)
		return
	}
	a.stream(w, r, c, &outputs{agent: a, job: j, only: only, follow: q.Get("follow") == "true"})
}

// stream answers with NDJSON until the outputs end or the client goes.
func (a *Agent) stream(w http.ResponseWriter, r *http.Request, c cursor, o *outputs) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	rc, enc := http.NewResponseController(w), json.NewEncoder(w)
	_ = rc.Flush() // the client learns that it is attached
	o.send = func(line api.Output) error {
		if err := enc.Encode(line); err != nil {
			return err
		}
		return rc.Flush()
	}
	if err := o.run(r.Context(), c); err != nil && r.Context().Err() == nil {
		a.log.Debug("output stream", "job", o.job.spec().Name, "err", err)
	}
}

func (a *Agent) getNode(w http.ResponseWriter, r *http.Request) {
	n := a.describeNode()
	for kind, p := range a.ports {
		ctx, cancel := context.WithTimeout(r.Context(), pingTime)
		n.Frameworks[string(kind)] = "answers"
		if err := p.Ping(ctx); err != nil {
			n.Frameworks[string(kind)] = err.Error()
		}
		cancel()
	}
	answer(w, http.StatusOK, n)
}

func (a *Agent) getReady(w http.ResponseWriter, _ *http.Request) {
	if !a.settled.Load() {
		answer(w, http.StatusServiceUnavailable, api.Error{Status: http.StatusServiceUnavailable, Code: codeConflict, Text: "what ran before is still being taken up"})
		return
	}
	answer(w, http.StatusOK, struct{}{})
}

func callerOf(r *http.Request) caller {
	c, ok := r.Context().Value(callerKey{}).(caller)
	if !ok {
		return caller{uid: 65534, gid: 65534} // nobody: not a unix socket
	}
	return c
}

func (a *Agent) postClaim(w http.ResponseWriter, r *http.Request) {
	var c api.Claim
	err := readBody(w, r, &c)
	var j *job
	if err == nil {
		j, err = a.bring(r.Context(), r.PathValue("job"), bearer(r), c, callerOf(r))
	}
	var resp api.ClaimResponse
	if err == nil {
		resp, err = a.claim(j, c, callerOf(r))
	}
	if err != nil {
		answerError(w, err)
		return
	}
	answer(w, http.StatusOK, resp)
}

func (a *Agent) postStop(w http.ResponseWriter, r *http.Request) {
	var s api.Stop
	err := readBody(w, r, &s)
	var j *job
	if err == nil {
		j, err = a.admit(r.Context(), r.PathValue("job"), bearer(r), nil, callerOf(r))
	}
	if err == nil {
		err = a.stopTask(j, s)
	}
	if err != nil {
		answerError(w, err)
		return
	}
	answer(w, http.StatusOK, struct{}{})
}

func (a *Agent) getOutput(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	j, err := a.admit(r.Context(), r.PathValue("job"), bearer(r), nil, callerOf(r))
	var c cursor
	if err == nil {
		c, err = parseCursor(q.Get("cursor"))
	}
	if err == nil {
		j.mu.Lock()
		if j.task(q.Get("task")) == nil {
			err = refuse(codeNotFound, "task %q holds no claim", q.Get("task"))
		}
		j.mu.Unlock()
	}
	if err != nil {
		answerError(w, err)
		return
	}
	a.attach(j, 1)
	defer a.attach(j, -1)
	a.stream(w, r, c, &outputs{agent: a, job: j, task: q.Get("task"), follow: true})
}

func (a *Agent) postAttach(w http.ResponseWriter, r *http.Request) {
	var body api.Attach
	err := readBody(w, r, &body)
	var j *job
	if err == nil {
		j, err = a.attachApp(r.Context(), body)
	}
	if err != nil {
		answerError(w, err)
		return
	}
	answer(w, http.StatusCreated, a.show(j, true))
}

func (a *Agent) deleteAttach(w http.ResponseWriter, r *http.Request, j *job) {
	if err := a.detach(r.Context(), j); err != nil {
		answerError(w, err)
		return
	}
	answer(w, http.StatusOK, struct{}{})
}
