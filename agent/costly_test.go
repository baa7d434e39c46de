package agent

import (
	"net/http"
	"testing"
)

// A stranger can't have checkpoints read from the disks.
func TestStrangersHaveNothingVerified(t *testing.T) {
	t.Parallel()
	_, h := guarded(t, readsOpen)
	for _, c := range []struct {
		path, token string
		want        int
	}{
		{"/v1/checkpoints", "", http.StatusOK},
		{"/v1/checkpoints?verify=true", "", http.StatusForbidden},
		{"/v1/checkpoints?job=x&%76erify=true", "", http.StatusForbidden},
		{"/v1/checkpoints?verify=true", teamToken, http.StatusForbidden},
		{"/v1/checkpoints?verify=true", operatorToken, http.StatusOK},
	} {
		if status, body := ask(t, h, "GET", c.path, c.token, ""); status != c.want {
			t.Errorf("%s with token %q: %d, want %d: %s", c.path, c.token, status, c.want, body)
		}
	}
}

// Strangers can have others asked now and then only; who is known is not held up by that, and what is in memory is told all the same.
func TestStrangersHaveOthersAskedNowAndThen(t *testing.T) {
	t.Parallel()
	n, _ := guarded(t, readsOpen)
	for _, path := range []string{"/v1/jobs", "/v1/node", "/v1/usage", "/v1/checkpoints"} {
		h := n.agent.guard(n.agent.adminRoutes())
		refused := 0
		for range wideEachBurst + 20 {
			if status, body := ask(t, h, "GET", path, "", ""); status == http.StatusTooManyRequests {
				refused++
			} else if status != http.StatusOK {
				t.Fatalf("%s: %d %s", path, status, body)
			}
		}
		if refused == 0 {
			t.Errorf("%s: none of %d was refused", path, wideEachBurst+20)
		}
		for _, c := range []struct{ path, token string }{{path, operatorToken}, {"/v1/jobs/" + idA, ""}, {"/v1/health", ""}} {
			if status, body := ask(t, h, "GET", c.path, c.token, ""); status != http.StatusOK {
				t.Errorf("then %s with token %q: %d %s", c.path, c.token, status, body)
			}
		}
	}
}
