package agent

import (
	"context"
	"io"
	"mime"
	"net/http"
	"net/netip"

	"qosctl/agent/thesis"
)

// The protocol of the thesis' supervisor (package thesis), for its launcher and for jobs that it has handed in. It has no credentials: it is
// off unless switched on, open to the networks of thesis.from alone and to no browser, and it changes jobs of its own kind only. What
// it says of one is a hint to look, not a fact: that a run has ended, and how, is Mesos' word or Chronos' (thesis_told.go).

// withThesis serves that protocol before the API, if it is switched on.
func (a *Agent) withThesis(next http.Handler) http.Handler {
	if !a.cfg.Thesis.Enabled {
		return next
	}
	for _, note := range a.cfg.Notes() {
		a.log.Warn("the thesis' protocol is on", "means", note)
	}
	m := http.NewServeMux()
	limit := newRates(perSecond, burst)
	for route, h := range map[string]func(context.Context, []byte) error{
		thesis.InitTask: a.initTask, thesis.UpdateTask: a.updateTask,
		thesis.InitMarathonApp: a.initMarathonApp, thesis.EndMarathonApp: a.endMarathonApp,
	} {
		m.Handle(route, a.thesisRoute(limit, h))
	}
	old := a.audited(wayThesis, m)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := m.Handler(r); pattern != "" && r.Method == http.MethodPost {
			old.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// thesisRoute answers one route: a body that it can make sense of as the supervisor did, in whose answer nobody was interested, another one
// with an error of ours.
func (a *Agent) thesisRoute(limit *rates, h func(context.Context, []byte) error) http.Handler {
	from := make([]netip.Prefix, 0, len(a.cfg.Thesis.From))
	for _, text := range a.cfg.Thesis.From {
		if n, err := parseNetwork(text); err == nil { // validated before
			from = append(from, n)
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := thesisBody(w, r, from, limit)
		if err == nil {
			err = h(context.WithoutCancel(r.Context()), body)
		}
		if err != nil {
			answerError(w, err)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = io.WriteString(w, thesis.Answer(body)) // the client has gone: nobody to tell
	})
}

// thesisBody reads the body of whoever may send one.
func thesisBody(w http.ResponseWriter, r *http.Request, from []netip.Prefix, limit *rates) ([]byte, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case !comesFrom(r.RemoteAddr, from):
		return nil, refuse(codeForbidden, "%s is in none of the networks of thesis.from", r.RemoteAddr)
	case r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "":
		return nil, refuse(codeForbidden, "this protocol is for the launcher and its jobs, not for pages")
	case !limit.allow(callerAt(r.RemoteAddr)):
		w.Header().Set("Retry-After", "1")
		return nil, refuse(codeBusy, "more than %d requests a second from one address", perSecond)
	case err != nil || kind != "application/json":
		return nil, refuse(codeInvalid, "the body must be application/json")
	}
	body, leave, err := readBytes(w, r, thesis.MaxBody)
	if err == nil {
		leave() // so small a one needed no place
	}
	return body, err
}

// comesFrom says whether a request's address is in one of the networks.
func comesFrom(remote string, from []netip.Prefix) bool {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	for _, n := range from {
		if n.Contains(at.Addr().Unmap().WithZone("")) {
			return true
		}
	}
	return false
}
