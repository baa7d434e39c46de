package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"qosctl/agent/api"
	"qosctl/qos"
)

// fakeAgent answers from files in its directory: jobs.json has for each job the list of what it looks like, one after the other, each
// time that it is watched; left.json likewise what is left on a node; node.json, explain.json, claim.json, logs.ndjson and output.ndjson are answers as they stand;
// error.json is the answer of every changing request. Requests are noted in the file requests.
type fakeAgent struct {
	dir  string
	mu   sync.Mutex
	jobs [][]api.Job
	left []api.DrainStatus
}

// startFakeAgent listens on a socket until stop is called.
func startFakeAgent(dir, socket string) (stop func(), err error) {
	f := &fakeAgent{dir: dir}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: f.handler()}}
	server.Start()
	return server.Close, nil
}

func (f *fakeAgent) handler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("POST /v1/jobs", f.submit)
	m.HandleFunc("GET /v1/jobs", f.list)
	m.HandleFunc("GET /v1/jobs/{job}", f.job)
	m.HandleFunc("DELETE /v1/jobs/{job}", f.cancel)
	m.HandleFunc("GET /v1/jobs/{job}/explain", f.file("explain.json"))
	m.HandleFunc("GET /v1/jobs/{job}/history", f.file("history.json"))
	m.HandleFunc("GET /v1/jobs/{job}/logs", f.file("logs.ndjson"))
	m.HandleFunc("POST /v1/jobs/{job}/checkpoints", f.checkpoint)
	m.HandleFunc("POST /v1/jobs/{job}/restore", f.job)
	m.HandleFunc("GET /v1/checkpoints", f.file("checkpoints.json"))
	m.HandleFunc("DELETE /v1/checkpoints", f.file(""))
	m.HandleFunc("GET /v1/doctor", f.file("doctor.json"))
	m.HandleFunc("POST /v1/attach", f.attach)
	m.HandleFunc("GET /v1/nodes", f.file("nodes.json"))
	m.HandleFunc("GET /v1/usage", f.file("usage.json"))
	m.HandleFunc("GET /v1/hold", f.file("hold.json"))
	m.HandleFunc("POST /v1/hold", f.file("hold.json"))
	m.HandleFunc("POST /v1/jobs/{job}/migrate", f.migrate)
	m.HandleFunc("POST /v1/drain", f.file("drain.json"))
	m.HandleFunc("GET /v1/drain/{node}", f.drainStatus)
	m.HandleFunc("GET /v1/keyring", f.file("keyring.json"))
	m.HandleFunc("POST /v1/keyring", f.file("keyring.json"))
	m.HandleFunc("DELETE /v1/attach/{job}", f.file(""))
	m.HandleFunc("GET /v1/node", f.file("node.json"))
	m.HandleFunc("POST /v1/standin/{job}/claim", f.file("claim.json"))
	m.HandleFunc("POST /v1/standin/{job}/stop", f.file(""))
	m.HandleFunc("GET /v1/standin/{job}/output", f.file("output.ndjson"))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		note, err := os.OpenFile(filepath.Join(f.dir, "requests"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			fmt.Fprintf(note, "%s %s %s %s\n", r.Method, r.URL.RequestURI(), r.Header.Get("Authorization"), body)
			_ = note.Close()
		}
		if f.jobs == nil {
			f.read("jobs.json", &f.jobs)
		}
		var e api.Error
		if f.read("error.json", &e); e.Status != 0 && r.Method != http.MethodGet {
			reply(w, e.Status, e)
			return
		}
		m.ServeHTTP(w, r)
	})
}

func (f *fakeAgent) read(name string, into any) {
	if data, err := os.ReadFile(filepath.Join(f.dir, name)); err == nil {
		if err := json.Unmarshal(data, into); err != nil {
			panic(fmt.Sprintf("%s: %v", name, err))
		}
	}
}

func (f *fakeAgent) file(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		data, err := os.ReadFile(filepath.Join(f.dir, name))
		if (name == "nodes.json" || name == "hold.json" || name == "history.json") && errors.Is(err, os.ErrNotExist) { // an agent of before there were clusters
			reply(w, http.StatusNotFound, api.Error{Status: 404, Code: api.CodeNotFound, Text: "no route"})
			return
		}
		if name == "" {
			data, err = []byte("{}"), nil
		}
		if err != nil {
			reply(w, http.StatusInternalServerError, api.Error{Status: 500, Code: api.CodeInternal, Text: err.Error()})
			return
		}
		_, _ = w.Write(data)
	}
}

func (f *fakeAgent) find(ref string) int {
	for i, j := range slices.Backward(f.jobs) {
		if j[0].ID == ref || j[0].Name == ref {
			return i
		}
	}
	return -1
}

func (f *fakeAgent) submit(w http.ResponseWriter, r *http.Request) {
	var s api.SubmitRequest
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
		reply(w, 400, api.Error{Status: 400, Text: err.Error()})
		return
	}
	spec, _, err := qos.Parse(s.File, qos.ParseOptions{Now: time.Now()})
	if p, ok := errors.AsType[qos.Problems](err); ok {
		reply(w, 422, api.Error{Status: 422, Code: api.CodeInvalid, Text: p.Error()})
		return
	}
	if f.find(spec.Name) >= 0 && !s.Replace {
		reply(w, 409, api.Error{Status: 409, Code: api.CodeExists, Text: "there is a job " + spec.Name + " already", Hint: "use --replace"})
		return
	}
	var later []api.Job
	f.read("later.json", &later)
	j := api.Job{ID: s.ID, Name: spec.Name, Framework: spec.Framework, Phase: qos.PhasePending, QoS: spec.QoS, Iterations: spec.Iterations}
	f.jobs = append(f.jobs, append([]api.Job{j}, later...))
	reply(w, http.StatusCreated, api.SubmitResponse{Job: j, Warnings: []api.Problem{{Path: "$.qos.deadline", Text: "can't be met"}}})
}

func (f *fakeAgent) list(w http.ResponseWriter, r *http.Request) {
	list := api.JobList{Jobs: []api.Job{}}
	for _, j := range f.jobs {
		if r.URL.Query().Get("all") == "true" || !j[0].Phase.Terminal() {
			list.Jobs = append(list.Jobs, j[0])
		}
	}
	reply(w, 200, list)
}

func (f *fakeAgent) job(w http.ResponseWriter, r *http.Request) {
	i := f.find(r.PathValue("job"))
	if i < 0 {
		reply(w, 404, api.Error{Status: 404, Code: api.CodeNotFound, Text: "no job " + r.PathValue("job")})
		return
	}
	if r.URL.Query().Has("wait") && len(f.jobs[i]) > 1 {
		next := f.jobs[i][1]
		next.ID, next.Name, next.Revision = f.jobs[i][0].ID, f.jobs[i][0].Name, f.jobs[i][0].Revision+1
		f.jobs[i] = append([]api.Job{next}, f.jobs[i][2:]...)
	}
	reply(w, 200, f.jobs[i][0])
}

func (f *fakeAgent) cancel(w http.ResponseWriter, r *http.Request) {
	i := f.find(r.PathValue("job"))
	if i < 0 {
		reply(w, 404, api.Error{Status: 404, Code: api.CodeNotFound, Text: "no such job"})
		return
	}
	f.jobs[i][0].Phase = qos.PhaseCancelled
	reply(w, 200, f.jobs[i][0])
}

// checkpoint takes as long as the file slow says.
func (f *fakeAgent) checkpoint(w http.ResponseWriter, r *http.Request) {
	if text, err := os.ReadFile(filepath.Join(f.dir, "slow")); err == nil {
		if d, err := time.ParseDuration(strings.TrimSpace(string(text))); err == nil {
			<-time.After(d)
		}
	}
	f.file("checkpoint.json")(w, r)
}

func (f *fakeAgent) migrate(w http.ResponseWriter, r *http.Request) {
	var m api.MigrateResponse
	f.read("migrate.json", &m)
	m.Job = f.jobs[f.find(r.PathValue("job"))][0]
	m.Job.Moving = m.To
	reply(w, http.StatusAccepted, m)
}

func (f *fakeAgent) drainStatus(w http.ResponseWriter, _ *http.Request) {
	if f.left == nil {
		f.read("left.json", &f.left)
	}
	reply(w, 200, f.left[0])
	f.left = f.left[min(1, len(f.left)-1):]
}

func (f *fakeAgent) attach(w http.ResponseWriter, r *http.Request) {
	var a api.Attach
	if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
		reply(w, 400, api.Error{Status: 400, Text: err.Error()})
		return
	}
	reply(w, 201, api.Job{ID: a.ID, Name: a.Name, Framework: a.Framework, QoS: a.QoS})
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
