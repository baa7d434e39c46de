package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/cgroup"
	"qosctl/container"
	"qosctl/framework"
	"qosctl/qos"
)

// fakePort is a framework in memory that does as it is told. The real clients are tested in their own room, and end to end against devmesos.
type fakePort struct {
	mu      sync.Mutex
	jobs    map[string]string // name → our id
	secrets map[string]string // our id → secret
	starts  int
	fail    error
}

func newFakePort() *fakePort {
	return &fakePort{jobs: map[string]string{}, secrets: map[string]string{}}
}

func (p *fakePort) Prepare(_ context.Context, spec qos.Spec, secret string) (json.RawMessage, []string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.secrets[spec.ID] = secret
	return json.RawMessage(`{}`), nil, nil
}

func (p *fakePort) Create(_ context.Context, spec qos.Spec, _ json.RawMessage) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		return p.fail
	}
	p.jobs[spec.Name] = spec.ID
	return nil
}

func (p *fakePort) Look(_ context.Context, spec qos.Spec) (sight, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id, ok := p.jobs[spec.Name]
	if !ok {
		return sight{}, fmt.Errorf("look: %w", framework.ErrNotFound)
	}
	return sight{ID: id, Secret: envSecret(map[string]string{framework.EnvSecret: p.secrets[id]})}, nil
}

func (p *fakePort) Start(context.Context, string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.starts++
	return nil
}

func (p *fakePort) Delete(_ context.Context, name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.jobs, name)
	return p.fail
}

func (p *fakePort) Watch(context.Context, func()) {}
func (p *fakePort) Ping(context.Context) error    { return nil }

func (p *fakePort) has(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.jobs[name]
	return ok
}

// node is a real agent on real cgroups, with a framework in memory.
type node struct {
	t    *testing.T
	cfg  Config
	port *fakePort

	keeper *fakeKeeper          // agents have it, and a second engine for jobs with an image; nil: neither
	master operator             // of Mesos; nil: none
	cost   float64              // of a move; 0: the agent's own
	ports  func(*fakePort) port // what stands before port; nil: nothing
	wrap   func(engine) engine  // what the agents' engine is replaced by; nil: nothing
	agent  *Agent
	stop   func() // ends the agent; its containers run on
}

// testNode starts an agent in directories and below a cgroup of its own, and cleans all of it up.
func testNode(t *testing.T, change func(*Config)) *node {
	t.Helper()
	return testNodeOn(t, change, nil)
}

// testNodeOn is testNode with an engine of the test's.
func testNodeOn(t *testing.T, change func(*Config), wrap func(engine) engine) *node {
	t.Helper()
	return startNode(t, change, func(n *node) { n.wrap = wrap })
}

// startNode is testNode with a node that set has furnished.
func startNode(t *testing.T, change func(*Config), set func(*node)) *node {
	t.Helper()
	groups, err := cgroup.New(cgroup.Options{})
	if err == nil {
		err = groups.Access()
	}
	if err != nil {
		t.Skipf("needs write access to cgroups (run as root): %v", err)
	}
	dir, err := os.MkdirTemp("", testPrefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Default()
	cfg.Node, cfg.Listen, cfg.Mesos.URL = "testnode", "127.0.0.1:0", ""
	cfg.DataDir, cfg.RunDir = filepath.Join(dir, "data"), filepath.Join(dir, "run")
	cfg.Cgroup.Parent = "/" + filepath.Base(dir)
	cfg.Engine.Docker = ""
	cfg.Control.Period, cfg.Control.Sample = 200*time.Millisecond, 100*time.Millisecond
	cfg.Run.KillGrace = time.Second
	if change != nil {
		change(&cfg)
	}
	n := &node{t: t, cfg: cfg, port: newFakePort()}
	set(n)
	t.Cleanup(func() {
		n.end()
		if err := errors.Join(n.clear(), groups.Remove(cfg.Cgroup.Parent), groups.Remove(cfg.Cgroup.Parent+"-docker"), os.RemoveAll(dir)); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	n.begin()
	return n
}

// begin starts an agent, as after a restart.
func (n *node) begin() {
	n.t.Helper()
	logs := slog.DiscardHandler
	if testing.Verbose() {
		logs = slog.NewTextHandler(testWriter{n.t}, &slog.HandlerOptions{Level: slog.LevelDebug})
	}
	a, err := New(Options{Config: n.cfg, Version: "test", Logger: slog.New(logs)})
	if err != nil {
		n.t.Fatal(err)
	}
	var p port = n.port
	if n.ports != nil {
		p = n.ports(n.port)
	}
	a.ports = map[qos.Framework]port{qos.Marathon: p, qos.Chronos: p}
	if n.master != nil {
		a.master, a.masterPoll = n.master, 50*time.Millisecond
	}
	if n.cost > 0 {
		a.moveCost = n.cost
	}
	if n.wrap != nil {
		a.engines.process = n.wrap(a.engines.process)
	}
	if n.keeper != nil {
		n.giveDocker(a)
	}
	a.poll = 100 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	a.ready = func() { close(ready) }
	go func() { done <- a.Run(ctx) }()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		n.t.Fatalf("agent ended: %v", err)
	}
	n.agent = a
	n.stop = func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Errorf("agent ended: %v", err)
		}
	}
}

func (n *node) end() {
	if n.stop != nil {
		n.stop()
		n.stop = nil
	}
}

// clear removes all containers that the agents left.
func (n *node) clear() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	all, err := openEngines(n.cfg, "", slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	e, errs := all.process, []error{}
	if n.keeper != nil {
		errs = append(errs, n.keeper.clear(ctx))
	}
	list, err := e.List(ctx)
	errs = append(errs, err)
	for _, c := range list {
		// One that is only created may be starting.
		if err := e.Stop(ctx, c.ID, time.Millisecond); !errors.Is(err, container.ErrNotRunning) {
			errs = append(errs, err)
		}
		errs = append(errs, e.Remove(ctx, c.ID))
	}
	return errors.Join(append(errs, e.(io.Closer).Close())...)
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func (n *node) client() *api.Client {
	n.t.Helper()
	c, err := api.New(api.Options{Address: filepath.Join(n.cfg.RunDir, adminSocket)})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(c.Close)
	return c
}

// submit hands in a job file under a fixed id that ends in n.
func (n *node) submit(id, file string) api.Job {
	n.t.Helper()
	r, err := n.client().Submit(n.t.Context(), api.SubmitRequest{ID: id, File: json.RawMessage(file)})
	if err != nil {
		n.t.Fatalf("submit: %v", err)
	}
	return r.Job
}

// standin is a task that the framework has started for a job: it claims and reads to the end.
func (n *node) standin(id string) *api.Standin {
	n.t.Helper()
	n.port.mu.Lock()
	secret := n.port.secrets[id]
	n.port.mu.Unlock()
	s, err := api.NewStandin(id, api.Options{Address: filepath.Join(n.cfg.RunDir, standinSocket), Token: secret})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(s.Close)
	return s
}

func (n *node) claim(id, task string) (*api.Standin, api.ClaimResponse) {
	n.t.Helper()
	s := n.standin(id)
	resp, err := s.Claim(n.t.Context(), api.Claim{Task: task, Env: []string{"PATH=" + os.Getenv("PATH"), "QOSCTL_SECRET=x", "GREETING=hello"}})
	if err != nil {
		n.t.Fatalf("claim: %v", err)
	}
	return s, resp
}

// read reads a task's output to its exit code.
func (n *node) read(s *api.Standin, task string) (stdout, stderr string, code int) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	stream, err := s.Output(ctx, task, "")
	if err != nil {
		n.t.Fatalf("output: %v", err)
	}
	defer stream.Close()
	for {
		o, err := stream.Next(ctx)
		if err != nil {
			n.t.Fatalf("output: %v (had %q)", err, stdout)
		}
		switch {
		case o.Exit != nil:
			return stdout, stderr, *o.Exit
		case o.Stream == "stdout":
			stdout += string(o.Data)
		default:
			stderr += string(o.Data)
		}
	}
}

// await waits until a job is as wanted.
func (n *node) await(id, what string, ok func(api.Job) bool) api.Job {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	c := n.client()
	v, err := c.Job(ctx, id)
	last := v
	for err == nil && !ok(v) {
		if ctx.Err() != nil {
			n.t.Fatalf("job is not %s: %+v", what, v)
		}
		last = v
		v, err = c.Watch(ctx, id, v.Revision, time.Second)
	}
	if err != nil {
		n.t.Fatalf("waiting for %s: %v (last %+v)", what, err, last)
	}
	return v
}

func inPhase(p qos.Phase) func(api.Job) bool { return func(j api.Job) bool { return j.Phase == p } }

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
