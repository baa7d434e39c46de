package cli

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"qosctl/agent/api"
)

func TestForgottenJobIsClaimedAgain(t *testing.T) {
	t.Parallel()
	for _, remembers := range []bool{true, false} {
		t.Run(fmt.Sprintf("and then the agent knows it %v", remembers), func(t *testing.T) {
			t.Parallel()
			var claims atomic.Int32
			a := newStandinAgent(t, func(verb string, w http.ResponseWriter, _ *http.Request) {
				switch {
				case verb == "claim":
					claims.Add(1)
					sendJSON(w, api.ClaimResponse{Verdict: verdictRun})
				case verb == "output" && (claims.Load() < 2 || !remembers):
					w.WriteHeader(http.StatusForbidden)
					sendJSON(w, api.Error{Status: http.StatusForbidden, Code: "forbidden", Text: "no job with that secret"})
				case verb == "output":
					sendJSON(w, exitLine(0))
				}
			})
			a.start(t)
			got := ended(t, a.begin(t, nil))
			if remembers && (got.code != 0 || got.err != nil) || !remembers && got.code == 0 || claims.Load() != 2 {
				t.Errorf("%+v after %d claims", got, claims.Load())
			}
		})
	}
}
