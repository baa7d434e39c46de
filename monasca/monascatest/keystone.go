package monascatest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Keystone gives tokens for one user in one project.
type Keystone struct {
	User, Password, Project string
	Life                    time.Duration // of a token; 0: an hour
	Skew                    time.Duration // of its clock
	Roles                   Role          // of the user
	Endpoint                string        // of Monasca in its catalogue; "": none

	mu     sync.Mutex
	fault  *Fault
	tokens map[string]token
	asked  []time.Time
}

type token struct {
	role    Role
	expires time.Time
}

// Set changes it while it serves.
func (k *Keystone) Set(f func(*Keystone)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f(k)
}

// Break lets each request go wrong; nil ends it.
func (k *Keystone) Break(f *Fault) { k.Set(func(k *Keystone) { k.fault = f }) }

// Revoke makes all tokens invalid.
func (k *Keystone) Revoke() { k.Set(func(k *Keystone) { k.tokens = nil }) }

// Asked are the times at which tokens were asked for, in vain or not.
func (k *Keystone) Asked() []time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]time.Time(nil), k.asked...)
}

// Role is what a token may do now: for Monasca.Role.
func (k *Keystone) Role(id string) Role {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, ok := k.tokens[id]
	if !ok || !time.Now().Before(t.expires) {
		return Invalid
	}
	return t.role
}

// login is a request for a token.
type login struct {
	Auth struct {
		Identity struct {
			Password struct {
				User struct {
					Name     string
					Password string
				}
			}
		}
		Scope struct {
			Project struct{ Name string }
		}
	}
}

// ServeHTTP answers POST /v3/auth/tokens.
func (k *Keystone) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked = append(k.asked, time.Now())
	if f := k.fault; f != nil {
		if f.Drop {
			panic(http.ErrAbortHandler)
		}
		f.write(w)
		return
	}
	var l login
	if r.Method != http.MethodPost || r.URL.Path != "/v3/auth/tokens" {
		answer(w, http.StatusNotFound, `{"error":{"code":404,"message":"The resource could not be found.","title":"Not Found"}}`)
		return
	}
	if err := json.NewDecoder(r.Body).Decode(&l); err != nil {
		answer(w, http.StatusBadRequest, `{"error":{"code":400,"message":"Malformed json in request body","title":"Bad Request"}}`)
		return
	}
	u := l.Auth.Identity.Password.User
	if u.Name != k.User || u.Password != k.Password || l.Auth.Scope.Project.Name != k.Project {
		answer(w, http.StatusUnauthorized, `{"error":{"code":401,"message":"The request you have made requires authentication.","title":"Unauthorized"}}`)
		return
	}
	k.grant(w)
}

func (k *Keystone) grant(w http.ResponseWriter) {
	life := k.Life
	if life == 0 {
		life = time.Hour
	}
	id := fmt.Sprintf("gAAAA-token-%d", len(k.asked))
	if k.tokens == nil {
		k.tokens = make(map[string]token)
	}
	k.tokens[id] = token{role: k.Roles, expires: time.Now().Add(life)}
	const form = "2006-01-02T15:04:05.000000Z"
	now := time.Now().UTC().Add(k.Skew)
	t := map[string]any{"methods": []string{"password"}, "issued_at": now.Format(form), "expires_at": now.Add(life).Format(form), "catalog": []any{}}
	if k.Endpoint != "" {
		t["catalog"] = []any{map[string]any{"type": "monitoring", "name": "monasca", "endpoints": []any{
			map[string]any{"interface": "admin", "region": "RegionOne", "region_id": "RegionOne", "url": "http://admin.invalid/v2.0"},
			map[string]any{"interface": "public", "region": "RegionOne", "region_id": "RegionOne", "url": k.Endpoint},
		}}}
	}
	body, _ := json.Marshal(map[string]any{"token": t})
	w.Header().Set("X-Subject-Token", id)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(body) // a client that went away
}
