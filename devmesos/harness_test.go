package devmesos

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"qosctl/cgroup"
	"qosctl/devmesos/node"
)

// life is a running server.
type life struct {
	*Server
	o    Options
	stop func() // ends it and waits for its end
}

// start runs a server until the test ends, and checks that it leaves no cgroups.
func start(t *testing.T, o Options) *life {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.CgroupParent == "" {
		o.CgroupParent = "/devmesos-test-" + node.NewUUID()[:8]
		t.Cleanup(func() { removeCgroup(t, o.CgroupParent) }) // after the stop below
	}
	if o.Deploy == 0 {
		o.Deploy = 200 * time.Millisecond
	}
	if o.CPUs == 0 {
		o.CPUs, o.MemMiB = 4, 4000
	}
	if testing.Verbose() && os.Getenv("DEVMESOS_LOG") != "" {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	l := &life{Server: s, o: o, stop: sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})}
	t.Cleanup(l.stop)
	return l
}

func removeCgroup(t *testing.T, parent string) {
	t.Helper()
	fs, err := cgroup.New(cgroup.Options{})
	if err != nil {
		t.Errorf("open cgroups: %v", err)
		return
	}
	if pids, err := fs.Procs(parent); err == nil && len(pids) > 0 {
		t.Errorf("processes are left: %v", pids)
		if err := fs.Kill(context.Background(), parent); err != nil {
			t.Error(err)
		}
	}
	if err := fs.Remove(parent); err != nil {
		t.Errorf("cgroups are left: %v", err)
	}
}

// url is where a server (marathon, chronos, agent, master) answers.
func (l *life) url(server string) string {
	m, c, a := l.Addrs()
	return "http://" + map[string]string{"marathon": m, "chronos": c, "agent": a, "master": l.MasterAddr()}[server]
}

// send makes a request and reads its answer.
func (l *life) send(t *testing.T, server, method, path, body string) (int, http.Header, []byte) {
	t.Helper()
	status, header, b, err := l.try(t.Context(), server, method, path, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return status, header, b
}

func (l *life) try(ctx context.Context, server, method, path, body string) (int, http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, l.url(server)+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	req.Header.Set("Accept", "application/json")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	client := &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{DisableKeepAlives: true},
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, b, err
}

// must sends a request that has to succeed, and decodes its answer into v, if there is one.
func (l *life) must(t *testing.T, server, method, path, body string, v any) {
	t.Helper()
	status, _, b := l.send(t, server, method, path, body)
	if status >= 300 {
		t.Fatalf("%s %s: %d %s", method, path, status, b)
	}
	if v != nil {
		if err := json.Unmarshal(b, v); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, b)
		}
	}
}

type appView struct {
	App struct {
		ID           string
		CPUs         float64
		TasksRunning int
		Deployments  []struct{ ID string }
		Tasks        []struct{ ID, State, Host string }
		Version      string
	}
}

func (l *life) app(t *testing.T, id string) appView {
	t.Helper()
	var v appView
	l.must(t, "marathon", "GET", "/v2/apps"+id, "", &v)
	return v
}

type jobView struct {
	Name, Schedule, LastSuccess, LastError string
	SuccessCount, ErrorCount               int
	Disabled                               bool
	CPUs                                   float64
}

func (l *life) jobs(t *testing.T) map[string]jobView {
	t.Helper()
	var list []jobView
	l.must(t, "chronos", "GET", l.prefix()+"/jobs", "", &list)
	out := map[string]jobView{}
	for _, j := range list {
		out[j.Name] = j
	}
	return out
}

func (l *life) prefix() string {
	if l.o.ChronosPrefix != "" {
		return l.o.ChronosPrefix
	}
	return "/v1/scheduler"
}

// state is what the graph says of a job: idle, queued, n running.
func (l *life) state(t *testing.T, job string) string {
	t.Helper()
	_, _, b := l.send(t, "chronos", "GET", l.prefix()+"/graph/csv", "")
	for line := range bytes.Lines(b) {
		f := strings.Split(strings.TrimSpace(string(line)), ",")
		if len(f) == 4 && f[0] == "node" && f[1] == job {
			return f[3]
		}
	}
	return ""
}

// eventually polls a real condition for at most 20 s.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("does not come true: %s", what)
		}
	}
}
