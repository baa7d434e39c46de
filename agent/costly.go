package agent

import (
	"net/http"
	"strings"
)

// Whom nobody knows may ask for what an agent has in memory, as often as the bounds allow. What makes it ask others, or read its disks, is
// bounded more narrowly, or not for strangers at all.

// costly says whether a question is for operators alone, though it changes nothing: it has programs run, or whole checkpoints read.
func costly(r *http.Request) bool {
	return r.URL.Path == "/v1/doctor" || r.URL.Path == "/v1/checkpoints" && r.URL.Query().Get("verify") != ""
}

// asksOthers says whether an agent asks all of its peers, or the frameworks, before it answers.
func asksOthers(r *http.Request) bool {
	switch r.URL.Path {
	case "/v1/jobs", "/v1/node", "/v1/usage", "/v1/checkpoints", "/v1/keyring":
		return true
	}
	return strings.HasPrefix(r.URL.Path, "/v1/drain/")
}

// Bounds of strangers' questions for which others are asked: a second and at once, of one address and in all.
const (
	wideEach, wideEachBurst = 5, 50
	wideAll, wideAllBurst   = 20, 200
)

// wide bounds those questions.
type wide struct{ each, all *rates }

func newWide() wide {
	return wide{newRates(wideEach, wideEachBurst), newRates(wideAll, wideAllBurst)}
}

// allow says whether a stranger may ask that now.
func (b wide) allow(r *http.Request) bool {
	return !asksOthers(r) || b.each.allow(callerAt(r.RemoteAddr)) && b.all.allow("")
}
