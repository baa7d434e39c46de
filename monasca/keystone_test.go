package monasca

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"qosctl/monasca/monascatest"
)

// tokenLife is short, so that tokens expire while the test looks on.
const tokenLife = 30 * time.Second

// site is a real Keystone, a strict Monasca in this process that asks it about each token, and a Sender between them, on loopback.
type site struct {
	t        *testing.T
	keystone *realKeystone
	monasca  *monascatest.Monasca
	project  string
	roles    map[string]string // name → id
	users    map[string]string
	file     string
	spool    string
	logins   atomic.Int64 // requests for tokens that the Sender made
	token    atomic.Value // string: that it used last
	early    atomic.Int64 // tokens that were refused although they had not lived for their time
	issued   sync.Map     // token → time.Time: when it was used first
	log      syncBuffer
	sender   *Sender
	stop     func()
	next     int
}

func newSite(t *testing.T) *site {
	t.Helper()
	k := startKeystone(t, int(tokenLife.Seconds()))
	s := &site{t: t, keystone: k, monasca: &monascatest.Monasca{Role: k.role, Strict: true}, roles: map[string]string{}, users: map[string]string{}}
	server := httptest.NewServer(s.monasca)
	t.Cleanup(server.Close)
	s.project = k.make("project", map[string]any{"name": "mesos", "domain_id": "default"})
	for _, r := range []string{"monasca-agent", "plain"} {
		s.roles[r] = k.make("role", map[string]any{"name": r})
	}
	for user, role := range map[string]string{"qosctl": "monasca-agent", "stranger": "plain"} {
		s.users[user] = k.make("user", map[string]any{"name": user, "password": "pw-of-" + user, "domain_id": "default"})
		k.grant(s.users[user], s.roles[role], s.project)
	}
	service := k.make("service", map[string]any{"name": "monasca", "type": "monitoring"})
	k.make("endpoint", map[string]any{"service_id": service, "interface": "public", "region_id": "RegionOne", "url": server.URL + "/v2.0"})
	dir := t.TempDir()
	s.file, s.spool = filepath.Join(dir, "credentials.json"), filepath.Join(dir, "spool")
	return s
}

// RoundTrip counts the requests for tokens, and the refusals of tokens that were still good when Monasca answered: on a slow machine one
// may expire while Keystone looks at it.
func (s *site) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/auth/tokens") {
		s.logins.Add(1)
		return http.DefaultTransport.RoundTrip(r)
	}
	token := r.Header.Get("X-Auth-Token")
	s.token.Store(token)
	first, _ := s.issued.LoadOrStore(token, time.Now())
	resp, err := http.DefaultTransport.RoundTrip(r)
	if age := time.Since(first.(time.Time)); err == nil && resp.StatusCode == http.StatusUnauthorized && r.Method == http.MethodPost {
		s.t.Logf("a token was refused %s after its first use", age)
		if age < tokenLife-10*time.Second {
			s.early.Add(1)
		}
	}
	return resp, err
}

// start starts a Sender of a user's, in the same spool.
func (s *site) start(user, password string) {
	s.t.Helper()
	s.credentials(user, password)
	var err error
	s.sender, err = New(Options{
		Dir: s.spool, Credentials: s.file, Transport: s, Timeout: 20 * time.Second, Logger: slog.New(slog.NewTextHandler(&s.log, nil)),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error, 1)
	go func() { done <- s.sender.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
	s.t.Cleanup(s.stop)
}

func (s *site) credentials(user, password string) {
	s.t.Helper()
	text := fmt.Sprintf(`{"keystone_url":%q,"username":%q,"password":%q,"project_name":"mesos"}`, s.keystone.url(), user, password)
	if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// offer offers one measurement, and waits until all that were offered have arrived, in order. What is sent again after a lost answer,
// since this user may not look, is the same to the millisecond.
func (s *site) offer(wait time.Duration) bool {
	s.t.Helper()
	s.sender.Offer([]Measurement{{Name: "m", Dimensions: map[string]string{"i": fmt.Sprint(s.next)}, At: time.Now(), Value: float64(s.next)}})
	s.next++
	return s.wait(wait)
}

func (s *site) wait(d time.Duration) bool {
	s.t.Helper()
	return within(s.t, d, func() bool {
		var got []int
		seen := map[int]time.Time{}
		for _, p := range s.monasca.Points() {
			i := int(p.Value)
			if at, again := seen[i]; !again {
				got = append(got, i)
			} else if !at.Equal(p.At) {
				s.t.Errorf("%d came again with another time", i)
			}
			seen[i] = p.At
		}
		return slices.Equal(got, numbers(0, s.next))
	})
}

// state waits until the Sender is in a state, and returns what it says.
func (s *site) state(want State) string {
	s.t.Helper()
	if !within(s.t, time.Minute, func() bool { return s.sender.Stats().State == want }) {
		s.t.Fatalf("not %s: %+v", want, s.sender.Stats())
	}
	return s.sender.Stats().Fault
}

func (s *site) answered(status string) (n int) {
	for _, q := range s.monasca.Requests() {
		if strings.HasPrefix(q, "POST ") && strings.HasSuffix(q, status) {
			n++
		}
	}
	return n
}

// TestRealKeystone is all that is to be seen with Debian's Keystone, in one run: setting it up takes a minute.
func TestRealKeystone(t *testing.T) {
	if os.Getenv("QOSCTL_E2E") != "1" {
		t.Skip("tests with a real Keystone run with QOSCTL_E2E=1: make e2e")
	}
	s := newSite(t)
	s.start("qosctl", "pw-of-qosctl")
	if !s.offer(time.Minute) {
		t.Fatalf("a token, and Monasca's address from the catalogue: %+v", s.sender.Stats())
	}
	t.Run("tokens expire", s.tokensExpire)
	t.Run("a token is revoked", s.tokenRevoked)
	t.Run("Keystone hangs until the token has expired", s.keystoneHangs)
	t.Run("Keystone is down", s.keystoneDown)
	t.Run("a wrong password", s.wrongPassword)
	t.Run("a missing role", s.missingRole)
	if text := s.log.String(); strings.Contains(text, "pw-of-") || strings.Contains(text, "gAAAA") {
		t.Errorf("a secret is shown: %s", text)
	}
	t.Log(s.log.String())
}

func (s *site) tokensExpire(t *testing.T) {
	before := s.sender.Stats().Tokens
	for end := time.Now().Add(3 * tokenLife); time.Now().Before(end); {
		if !s.offer(30 * time.Second) {
			t.Fatalf("%+v", s.sender.Stats())
		}
		within(t, time.Second, func() bool { return false })
	}
	n := s.sender.Stats().Tokens - before
	if n < 2 || n > 5 { // each is fetched when something is sent
		t.Errorf("%d tokens in %s", n, 3*tokenLife)
	}
	t.Logf("%d measurements with %d tokens of %s each, %d refused", s.next, n, tokenLife, s.answered("401"))
	if n := s.early.Load(); n > 0 {
		t.Errorf("%d tokens were refused before they expired", n)
	}
}

func (s *site) tokenRevoked(t *testing.T) {
	if !s.offer(30 * time.Second) {
		t.Fatal("not sent")
	}
	revoke := func() bool { // the one that is used now, even if it is being renewed
		status, _ := s.keystone.call(http.MethodDelete, "/v3/auth/tokens", nil, "X-Subject-Token", s.token.Load().(string))
		return status == http.StatusNoContent
	}
	if !within(t, 30*time.Second, revoke) {
		t.Fatal("the token can't be revoked")
	}
	if !s.offer(30*time.Second) || s.sender.Stats().State != Sending {
		t.Errorf("%+v", s.sender.Stats())
	}
}

func (s *site) keystoneHangs(t *testing.T) {
	s.keystone.signal(syscall.SIGSTOP)
	if s.offer(tokenLife + 5*time.Second) { // Monasca's middleware hangs with it
		t.Error("sent without a Keystone that could have checked the token")
	}
	s.keystone.signal(syscall.SIGCONT)
	if !s.wait(2 * time.Minute) {
		t.Errorf("%+v", s.sender.Stats())
	}
}

func (s *site) keystoneDown(t *testing.T) {
	s.stop()
	s.keystone.stop()
	s.start("qosctl", "pw-of-qosctl")
	if s.offer(3 * time.Second) {
		t.Error("sent without a Keystone")
	}
	if fault := s.state(Retrying); !strings.Contains(fault, "Keystone at "+s.keystone.url()) || !strings.Contains(fault, "refused") {
		t.Errorf("said: %s", fault)
	}
	s.keystone.start()
	if !s.wait(2 * time.Minute) {
		t.Errorf("%+v", s.sender.Stats())
	}
}

func (s *site) wrongPassword(t *testing.T) {
	s.stop()
	s.start("qosctl", "not this one")
	if s.offer(time.Second) {
		t.Error("sent with a wrong password")
	}
	if fault := s.state(BadLogin); !strings.Contains(fault, "401") || !strings.Contains(fault, "credentials file") {
		t.Errorf("said: %s", fault)
	}
	logins := s.logins.Load()
	within(t, 15*time.Second, func() bool { return s.logins.Load() > logins })
	if n := s.logins.Load() - logins; n > 0 {
		t.Errorf("tried %d times more at once", n)
	}
	s.credentials("qosctl", "pw-of-qosctl")
	if !s.wait(time.Minute) {
		t.Errorf("%+v", s.sender.Stats())
	}
}

func (s *site) missingRole(t *testing.T) {
	s.stop()
	s.start("stranger", "pw-of-stranger")
	if s.offer(time.Second) {
		t.Error("sent without the role")
	}
	if fault := s.state(Permission); !strings.Contains(fault, "user stranger in project mesos") || !strings.Contains(fault, "role monasca-agent") || !strings.Contains(fault, "Forbidden") {
		t.Errorf("said: %s", fault)
	}
	s.stop()
	s.keystone.grant(s.users["stranger"], s.roles["monasca-agent"], s.project)
	s.start("stranger", "pw-of-stranger")
	if !s.wait(time.Minute) {
		t.Errorf("%+v", s.sender.Stats())
	}
}
