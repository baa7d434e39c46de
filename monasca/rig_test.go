package monasca

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"qosctl/monasca/monascatest"
)

const password = "pass word \"1\""

// rig is a Sender between a Keystone and a Monasca in memory. All of it is in a bubble: time is virtual.
type rig struct {
	t        *testing.T
	keystone *monascatest.Keystone
	monasca  *monascatest.Monasca
	wire     *monascatest.Wire
	options  Options
	sender   *Sender
	stop     func()
	log      syncBuffer
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// virtual runs a test in a bubble, with a rig whose sender runs.
func virtual(t *testing.T, test func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		test(r)
		r.stop()
		if text := r.log.String() + r.sender.Stats().Fault; strings.Contains(text, "pass word") || strings.Contains(text, "gAAAA") {
			t.Errorf("a secret is shown: %s", text)
		}
	})
}

func newRig(t *testing.T) *rig {
	t.Helper()
	k := &monascatest.Keystone{User: "qosctl", Password: password, Project: "mesos", Roles: monascatest.Agent, Endpoint: "http://monasca:8070/v2.0"}
	m := &monascatest.Monasca{Role: k.Role, Strict: true}
	r := &rig{t: t, keystone: k, monasca: m, wire: &monascatest.Wire{}}
	r.wire.Set("keystone:5000", k)
	r.wire.Set("monasca:8070", m)
	dir := t.TempDir()
	r.options = Options{
		Dir: filepath.Join(dir, "spool"), Credentials: filepath.Join(dir, "credentials.json"), Transport: r.wire,
		Logger: slog.New(slog.NewTextHandler(&r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	r.credentials(password)
	return r
}

// credentials writes the credentials file.
func (r *rig) credentials(password string) {
	r.t.Helper()
	file := fmt.Sprintf(`{"keystone_url":"http://keystone:5000","monocasca_client_url":"","username":"qosctl","password":%q,"project_name":"mesos"}`, password)
	if err := os.WriteFile(r.options.Credentials, []byte(file), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) start() {
	r.t.Helper()
	var err error
	if r.sender, err = New(r.options); err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error, 1)
	go func() { done <- r.sender.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
}

// offer offers n measurements, of now, whose values are their numbers from first.
func (r *rig) offer(first, n int) {
	var list []Measurement
	for i := range n {
		list = append(list, Measurement{Name: "m", Dimensions: map[string]string{"i": fmt.Sprint(first + i)}, At: time.Now(), Value: float64(first + i)})
	}
	r.sender.Offer(list)
	synctest.Wait()
}

// arrived are the values that Monasca has.
func (r *rig) arrived() []int {
	var list []int
	for _, p := range r.monasca.Points() {
		list = append(list, int(p.Value))
	}
	return list
}

// pass lets time go by.
func (r *rig) pass(d time.Duration) { time.Sleep(d) }

func (r *rig) wantArrived(from, to int) {
	r.t.Helper()
	if got := r.arrived(); !slices.Equal(got, numbers(from, to)) {
		r.t.Fatalf("arrived are %v, want %d to %d", short(got), from, to-1)
	}
}

func short(list []int) string {
	if len(list) > 40 {
		return fmt.Sprintf("%d: %v…%v", len(list), list[:20], list[len(list)-20:])
	}
	return fmt.Sprint(list)
}

func (r *rig) wantState(want State, words ...string) {
	r.t.Helper()
	v := r.sender.Stats()
	if v.State != want {
		r.t.Fatalf("state is %s (%s), want %s", v.State, v.Fault, want)
	}
	for _, w := range words {
		if !strings.Contains(v.Fault, w) {
			r.t.Errorf("fault %q lacks %q", v.Fault, w)
		}
	}
}

// posts are the answers to POSTs, oldest first.
func (r *rig) posts() []string {
	var list []string
	for _, q := range r.monasca.Requests() {
		if rest, ok := strings.CutPrefix(q, "POST /v2.0/metrics "); ok {
			list = append(list, rest)
		}
	}
	return list
}

func always(f monascatest.Fault) func(*http.Request) *monascatest.Fault {
	return func(*http.Request) *monascatest.Fault { return &f }
}

// once lets only the first POST go wrong.
func once(f monascatest.Fault) func(*http.Request) *monascatest.Fault {
	var mu sync.Mutex
	done := false
	return func(r *http.Request) *monascatest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if done || r.Method != http.MethodPost {
			return nil
		}
		done = true
		return &f
	}
}
