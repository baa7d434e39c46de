package ckpt

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"qosctl/cgroup"
)

// deaf is a driver whose Docker does not answer any more when a container is to be thawed.
type deaf struct {
	driver
	dumps error
}

func (deaf) freeze(context.Context, string) error            { return nil }
func (deaf) thaw(context.Context, string) error              { return errors.New("connection refused") }
func (d deaf) dump(context.Context, dump) (DumpStats, error) { return DumpStats{}, d.dumps }

// still is a host on which no counter moves.
type still struct{ host }

func (still) counter(cgroup.Group) (time.Duration, error) { return time.Second, nil }
func (still) pids(cgroup.Group) ([]int, error)            { return nil, nil }

// daemon is a Docker that knows one container, paused, and whether that was thawed.
func daemon(t *testing.T) (d *client.Client, thawed *atomic.Bool) {
	t.Helper()
	thawed = &atomic.Bool{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/unpause") {
			thawed.Store(true)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{ // the client says what it got
			"Id": "e", "State": map[string]any{"Running": true, "Paused": !thawed.Load()}, "HostConfig": map[string]any{}, "Config": map[string]any{},
		})
	}))
	t.Cleanup(s.Close)
	d, err := client.NewClientWithOpts(client.WithHost("tcp://"+s.Listener.Addr().String()), client.WithVersion("1.45"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d, thawed
}

// TestAFrozenContainerIsNotForgotten: Docker does not answer for as long as thawing is tried. What there is of the checkpoint stays, so that the
// container is thawed when Docker is back.
func TestAFrozenContainerIsNotForgotten(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		keep  bool
		dumps error
		want  error // of Complete
	}{
		"a dump that fails":                                {false, errors.New("CRIU minds"), ErrNone},
		"a dump that fails, of a job that is to run on":    {true, errors.New("CRIU minds"), ErrNone},
		"a dump that succeeds, of a job that is to run on": {true, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := shelf(t)
			d, thawed := daemon(t)
			k.o.Docker, k.docker, k.host = d, d, still{}
			var err error
			if k.o.Cgroups, err = cgroup.New(cgroup.Options{}); err != nil {
				t.Fatal(err)
			}
			tk := &taking{k: k, d: deaf{dumps: c.dumps}, o: Order{Job: testJob, Container: testJob + "-1-1", Keep: c.keep}}
			tk.s.upper = t.TempDir()
			tk.s.info = dcontainer.InspectResponse{
				ContainerJSONBase: &dcontainer.ContainerJSONBase{ID: "e", State: &dcontainer.State{}, HostConfig: &dcontainer.HostConfig{}}, Config: &dcontainer.Config{},
			}
			synctest.Test(t, func(t *testing.T) {
				tk.began = time.Now()
				leave, err := tk.begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer leave()
				defer tk.dir.Close()
				if err := tk.run(t.Context()); !errors.Is(err, ErrStopped) || errors.Is(err, ErrDump) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(tk.began); took < undoTime || took > undoTime+time.Second {
					t.Errorf("thawing was tried for %s", took)
				}
			})
			m, err := k.Complete(t.Context(), tk.ref)
			if !errors.Is(err, c.want) || c.want == nil && m.CPU != time.Second {
				t.Errorf("it is completed to %+v, %v", m, err)
			}
			if !thawed.Load() {
				t.Error("it is left frozen")
			}
			if _, _, err := k.store.find(tk.ref); errors.Is(err, ErrNone) != (c.want != nil) {
				t.Errorf("its directory: %v", err)
			}
		})
	}
}
