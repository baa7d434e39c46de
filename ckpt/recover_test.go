package ckpt

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/docker/docker/client"

	"qosctl/cgroup"
)

// TestOneCheckpointThatCannotBeTakenUpHoldsNoOtherUp: it is named, the others are found, and it is taken up later.
func TestOneCheckpointThatCannotBeTakenUpHoldsNoOtherUp(t *testing.T) {
	t.Parallel()
	var well atomic.Bool
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/containers/json"):
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`[]`)) // the client says what it got
		case well.Load():
			http.Error(w, `{"message":"No such container"}`, http.StatusNotFound)
		default:
			http.Error(w, `{"message":"input/output error"}`, http.StatusInternalServerError)
		}
	}))
	defer s.Close()
	d, err := client.NewClientWithOpts(client.WithHost("tcp://"+s.Listener.Addr().String()), client.WithVersion("1.45"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	k := shelf(t)
	k.o.Docker, k.docker = d, d
	if k.o.Cgroups, err = cgroup.New(cgroup.Options{}); err != nil {
		t.Fatal(err)
	}
	bad, good := dumpedRef(t, k), dumpedRef(t, k)
	dir, err := k.store.open(bad.partial())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	p, err := readPlan(dir, bad)
	if err != nil {
		t.Fatal(err)
	}
	p.State = dumping
	if err := writePlan(dir, p); err != nil {
		t.Fatal(err)
	}
	list, err := k.Recover(t.Context())
	failed, ok := errors.AsType[RecoverError](err)
	if !ok || len(failed) != 1 || failed[bad] == nil || !strings.Contains(err.Error(), bad.String()) {
		t.Errorf("got %v", err)
	}
	if len(list) != 1 || list[0].ref() != good {
		t.Errorf("found %+v", list)
	}
	if _, err := k.TakeUp(t.Context(), bad); err == nil {
		t.Error("it is taken up while Docker fails")
	}
	well.Store(true)
	if m, err := k.TakeUp(t.Context(), bad); err != nil || m.Sequence != 0 {
		t.Errorf("%+v, %v", m, err)
	}
	if _, _, err := k.store.find(bad); !errors.Is(err, ErrNone) {
		t.Errorf("a dump whose container is gone is still there: %v", err)
	}
	if m, err := k.TakeUp(t.Context(), good); err != nil || m.Sequence != good.Sequence {
		t.Errorf("one that is complete: %+v, %v", m, err)
	}
}
