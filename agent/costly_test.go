package agent

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
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

// Strangers who read slowly, or watch, from however many addresses, keep out strangers alone.
func TestStrangersDoNotTakeThePlacesOfThoseWhoAreKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &Agent{cfg: Default(), tokens: tokens{sha256.Sum256([]byte(operatorToken)): {name: "root", operator: true}}}
		slow := make(chan struct{})
		h := a.guard(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if isStranger(r.Context()) {
				<-slow
			}
		}))
		send := func(from int, token string) int {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/node", nil)
			r.Host, r.RemoteAddr = "localhost", fmt.Sprintf("192.0.2.%d:1", from)
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Code
		}
		for i := range 64 {
			go send(i, "")
		}
		synctest.Wait()
		if status := send(100, ""); status != http.StatusTooManyRequests {
			t.Errorf("one stranger more: %d", status)
		}
		if status := send(0, operatorToken); status != http.StatusOK {
			t.Errorf("an operator: %d", status)
		}
		close(slow)
	})
	a := &Agent{viewers: make(chan struct{}, maxViewers), strangeViewers: make(chan struct{}, maxStrange)}
	var ends []func()
	for range maxStrange {
		done, ok := a.takeView(true)
		if !ok {
			t.Fatal("no place")
		}
		ends = append(ends, done)
	}
	if _, ok := a.takeView(true); ok {
		t.Error("strangers watch by all places")
	}
	done, ok := a.takeView(false)
	if !ok {
		t.Fatal("an operator can't watch")
	}
	done()
	for _, done := range ends {
		done()
	}
	if len(a.viewers) != 0 || len(a.strangeViewers) != 0 {
		t.Errorf("%d and %d places are still taken", len(a.viewers), len(a.strangeViewers))
	}
}
