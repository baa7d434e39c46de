package agent

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"time"

	"qosctl/agent/api"
)

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// simStandin does what `qosctl run` does: it claims, attaches, and asks again while the agent is away.
type simStandin struct {
	t    *simTask
	base string
	spec []byte
}

func standinOf(t *simTask) *simStandin {
	s := &simStandin{t: t, base: "/v1/standin/" + t.app.spec.ID + "/"}
	spec := t.app.spec
	spec.Source = nil
	s.spec = mustMarshal(spec)
	return s
}

// repeats says whether a stand-in asks again after an error.
func repeats(err error) bool {
	e, ok := errors.AsType[*api.StatusError](err)
	return !ok || e.Body.Status >= http.StatusInternalServerError || e.Body.Status == http.StatusConflict
}

// run ends with the task.
func (s *simStandin) run(ctx context.Context) {
	code := s.code(ctx)
	w := s.t.node.w
	w.mu.Lock()
	defer w.mu.Unlock()
	s.t.over, s.t.code = true, code
	s.t.stop()
}

func (s *simStandin) code(ctx context.Context) int {
	claiming, stop := context.WithCancel(ctx)
	defer stop()
	s.t.node.w.wg.Go(func() {
		select {
		case <-s.t.term:
			stop()
		case <-claiming.Done():
		}
	})
	answer, err := s.claim(claiming)
	switch {
	case ctx.Err() != nil:
		return 137
	case claiming.Err() != nil: // told to stop before the answer; the claim may have got there
		if s.stop(ctx) != nil {
			return 143
		}
		return s.stream(ctx)
	case err != nil:
		return 1
	case answer.Verdict == verdictDone:
		return answer.Code
	case answer.Verdict == verdictIdle:
		select {
		case <-s.t.term:
			return 0
		case <-ctx.Done():
			return 137
		}
	}
	running, stopRunning := context.WithCancel(ctx)
	defer stopRunning()
	s.t.node.w.wg.Go(func() {
		select {
		case <-s.t.term:
			_ = s.stop(running)
		case <-running.Done():
		}
	})
	return s.stream(ctx)
}

func (s *simStandin) claim(ctx context.Context) (answer api.ClaimResponse, err error) {
	last := ""
	for again := 200 * time.Millisecond; ; again = min(2*again, 3*time.Second) {
		within, cancel := context.WithTimeout(ctx, 30*time.Second)
		err = s.t.node.standinCall(within, s.t.app.secret, http.MethodPost, s.base+"claim", api.Claim{Task: s.t.id, Spec: s.spec}, &answer)
		cancel()
		if err == nil || !repeats(err) {
			s.t.node.w.note("%s: claim of %s by task %s: %s %v", s.t.node.name, s.t.app.spec.Name, s.t.id, answer.Verdict, err)
			return answer, err
		}
		if why := errorText(err); why != last {
			s.t.node.w.note("%s: claim of %s by task %s waits: %s", s.t.node.name, s.t.app.spec.Name, s.t.id, why)
			last = why
		}
		if !pause(ctx, again) {
			return answer, ctx.Err()
		}
	}
}

func errorText(err error) string {
	if e, ok := errors.AsType[*api.StatusError](err); ok {
		return e.Body.Text
	}
	return err.Error()
}

// stop tells the agent until it has understood.
func (s *simStandin) stop(ctx context.Context) error {
	for again := 200 * time.Millisecond; ; again = min(2*again, 3*time.Second) {
		var none struct{}
		err := s.t.node.standinCall(ctx, s.t.app.secret, http.MethodPost, s.base+"stop", api.Stop{Task: s.t.id, Signal: 15}, &none)
		if err == nil || !repeats(err) {
			return err
		}
		if !pause(ctx, again) {
			return nil
		}
	}
}

// stream stays attached until the exit code comes.
func (s *simStandin) stream(ctx context.Context) int {
	claimed := false
	for {
		exit, status := s.attach(ctx)
		switch {
		case exit != nil:
			return *exit
		case ctx.Err() != nil:
			return 137
		case (status == http.StatusForbidden || status == http.StatusNotFound) && !claimed:
			claimed = true
			answer, err := s.claim(ctx)
			if err == nil && answer.Verdict == verdictDone {
				return answer.Code
			}
			continue
		case status == http.StatusForbidden || status == http.StatusNotFound:
			return 1
		case status == 0:
		default:
			claimed = false
		}
		if !pause(ctx, 500*time.Millisecond) {
			return 137
		}
	}
}

// attach reads one stream to its end. status 0: nobody answered.
func (s *simStandin) attach(ctx context.Context) (exit *int, status int) {
	n := s.t.node
	n.w.mu.Lock()
	h, a := hand{n, n.life}, n.agent
	n.w.mu.Unlock()
	if a == nil || h.pass(ctx, 0, 5*time.Millisecond) != nil {
		return nil, 0
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n.w.wg.Go(func() { // the stream breaks with its agent
		for pause(ctx, 200*time.Millisecond) {
			n.w.mu.Lock()
			alive := h.alive()
			n.w.mu.Unlock()
			if !alive {
				cancel()
				return
			}
		}
	})
	out := &lineWriter{header: http.Header{}, status: http.StatusOK, each: func(o api.Output) {
		if o.Exit != nil {
			exit = o.Exit
		}
	}}
	q := url.Values{"task": {s.t.id}}
	r := asStandin(s.t.app.secret)(httptest.NewRequestWithContext(ctx, http.MethodGet, s.base+"output?"+q.Encode(), nil))
	a.standinRoutes().ServeHTTP(out, r)
	if h.pass(context.WithoutCancel(ctx), 0, 0) != nil { // what a killed agent wrote did not go out
		return nil, 0
	}
	return exit, out.status
}
