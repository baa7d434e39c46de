package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"qosctl/agent/api"
)

// Streams of server-sent events, for the page: of one job, and of the cluster.

const (
	maxViewers = 64 // streams at once, of all kinds
	maxStrange = 48 // of these, of those whom nobody knows
	viewEvery  = 2 * time.Second
	viewMany   = 250                    // jobs that changed: for each so many it is looked a step less often
	viewSettle = 250 * time.Millisecond // what changes together is sent together
	viewBeat   = 15 * time.Second
	viewWrite  = 10 * time.Second // in which an event must go out
)

// viewer is one stream.
type viewer struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

// view begins a stream, if there are not too many; done must be called at its end.
func (a *Agent) openView(w http.ResponseWriter, r *http.Request) (v *viewer, done func(), ok bool) {
	if done, ok = a.takeView(isStranger(r.Context())); !ok {
		w.Header().Set("Retry-After", "10")
		answerError(w, refuse(codeBusy, "%d streams of events are open, more than that this agent does not serve", maxViewers).hint("GET /v1/jobs and GET /v1/jobs/{job}/history say the same once"))
		return nil, nil, false
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	return &viewer{w: w, rc: http.NewResponseController(w)}, done, true
}

// takeView takes a place for a stream of events, until done is called.
func (a *Agent) takeView(stranger bool) (done func(), ok bool) {
	places := []chan struct{}{a.viewers}
	if stranger {
		places = []chan struct{}{a.strangeViewers, a.viewers}
	}
	var taken []chan struct{}
	done = func() {
		for _, p := range taken {
			<-p
		}
	}
	for _, p := range places {
		select {
		case p <- struct{}{}:
			taken = append(taken, p)
		default:
			done()
			return nil, false
		}
	}
	return done, true
}

// send writes one event; "" is none, just a sign of life.
func (v *viewer) send(kind string, data any) error {
	_ = v.rc.SetWriteDeadline(time.Now().Add(viewWrite)) // not every writer can: tests
	text := ": still here\n\n"
	if kind != "" {
		body, err := json.Marshal(data)
		if err != nil {
			return fmt.Errorf("encode an event: %w", err)
		}
		text = fmt.Sprintf("retry: 3000\nevent: %s\ndata: %s\n\n", kind, body)
	}
	if _, err := v.w.Write([]byte(text)); err != nil {
		return err
	}
	return v.rc.Flush()
}

// jobEvents streams what becomes of a job. It ends when the job is not this node's any more: the client asks again, and gets to its new owner.
func (a *Agent) jobEvents(w http.ResponseWriter, r *http.Request, j *job) {
	v, done, ok := a.openView(w, r)
	if !ok {
		return
	}
	defer done()
	n := newsOf{agent: a, job: j}
	ctx, beat := r.Context(), time.Now()
	for ctx.Err() == nil {
		news, rev, live, gone := n.next()
		if v.send("job", news) != nil || gone {
			return
		}
		for changed := false; !changed && ctx.Err() == nil; {
			wait, cancel := context.WithTimeout(ctx, waitOf(live))
			waitChange(wait, j, rev)
			cancel()
			j.mu.Lock()
			changed = live || j.rev > rev
			j.mu.Unlock()
			if !changed && time.Since(beat) >= viewBeat {
				if beat = time.Now(); v.send("", nil) != nil {
					return
				}
			}
		}
		pause(ctx, viewSettle)
	}
}

func waitOf(live bool) time.Duration {
	if live {
		return viewEvery
	}
	return viewBeat
}

// newsOf remembers what a viewer of a job has.
type newsOf struct {
	agent *Agent
	job   *job

	begun    bool
	reading  time.Time // last sent
	decision time.Time
	event    event // last sent
	runs     int
	spent    float32 // by these
}

// next is what is new of the job; gone: nothing more will be.
func (n *newsOf) next() (news api.JobNews, rev uint64, live, gone bool) {
	a, j := n.agent, n.job
	x := a.explain(j)
	news = api.JobNews{First: !n.begun, At: time.Now(), Job: x.Job, NextLook: x.NextLook, History: a.historyOf(j, n.reading)}
	j.mu.Lock()
	rev, live, gone = x.Job.Revision, j.live != nil, j.gone
	j.mu.Unlock()
	for _, d := range x.Decisions {
		if d.At.After(n.decision) {
			news.Decisions = append(news.Decisions, d)
			n.decision = d.At
		}
	}
	if k := len(x.Events); k > 0 && event(x.Events[k-1]) != n.event {
		news.Events, n.event = x.Events, event(x.Events[k-1])
	}
	h := &news.History
	if k := len(h.At); k > 0 {
		n.reading = time.UnixMilli(h.At[k-1])
	}
	spent := float32(0)
	for _, r := range h.Runs {
		spent += r.CPU
	}
	if n.begun && len(h.Runs) == n.runs && spent == n.spent {
		h.Runs = nil
	} else {
		n.runs, n.spent = len(h.Runs), spent
	}
	n.begun = true
	return news, rev, live, gone
}

// clusterEvents streams what becomes of all jobs and nodes.
func (a *Agent) clusterEvents(w http.ResponseWriter, r *http.Request) {
	v, done, ok := a.openView(w, r)
	if !ok {
		return
	}
	defer done()
	var had *frame
	ctx := r.Context()
	for ctx.Err() == nil {
		f := a.look(ctx)
		news := f.since(had)
		if v.send("cluster", news) != nil {
			return
		}
		had = f
		pause(ctx, viewEvery*time.Duration(min(1+len(news.Jobs)/viewMany, 5))) // a thousand jobs at work are a megabyte
	}
}

// frame is what all viewers of the cluster see at a moment.
type frame struct {
	news api.ClusterNews
	ids  []string // in the order of the list
	jobs map[string]json.RawMessage
}

// look is a frame that is hardly older than viewEvery: however many watch, jobs are asked for once.
func (a *Agent) look(ctx context.Context) *frame {
	a.frameMu.Lock()
	defer a.frameMu.Unlock()
	if f := a.frame; f != nil && time.Since(f.news.At) < viewEvery/2 {
		return f
	}
	f := &frame{jobs: map[string]json.RawMessage{}, news: api.ClusterNews{At: time.Now(), Node: a.node, Nodes: a.nodes(time.Now()), Holds: a.holds()}}
	for _, j := range a.list(ctx, false) {
		b, err := json.Marshal(j)
		if err != nil {
			a.log.Warn("show a job", "job", j.Name, "err", err)
			continue
		}
		f.ids, f.jobs[j.ID] = append(f.ids, j.ID), b
	}
	a.frame = f
	return f
}

// since is what is new in a frame to who has seen another one; nil: nothing yet.
func (f *frame) since(had *frame) api.ClusterNews {
	n := f.news
	n.First, n.Jobs = had == nil, []json.RawMessage{}
	for _, id := range f.ids {
		if had == nil || !slices.Equal(had.jobs[id], f.jobs[id]) {
			n.Jobs = append(n.Jobs, f.jobs[id])
		}
	}
	if had != nil {
		for _, id := range had.ids {
			if _, ok := f.jobs[id]; !ok {
				n.Gone = append(n.Gone, id)
			}
		}
	}
	return n
}
