package ckpt

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/docker/docker/client"

	"qosctl/container"
)

// without is an engine without containers.
type without struct{ container.Engine }

func (without) Inspect(context.Context, string) (container.Info, error) {
	return container.Info{}, container.ErrNotFound
}

// TestFilesOfContainersThatAreGoneAreSwept: each restore leaves a log, each dump a configuration. An agent that lives for months removes them when
// their containers are gone, and nobody is at work on one.
func TestFilesOfContainersThatAreGoneAreSwept(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode([]map[string]any{{"Id": "e", "Names": []string{"/lives"}}}) // the client says what it got
	}))
	defer s.Close()
	d, err := client.NewClientWithOpts(client.WithHost("tcp://"+s.Listener.Addr().String()), client.WithVersion("1.45"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	k := shelf(t)
	k.docker, k.o.Engine = d, without{}
	for _, name := range []string{".conf", ".work", ".work/lives", ".work/gone", ".work/busy"} {
		if err := k.store.root.Mkdir(name, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{".conf/lives.conf", ".conf/lives.hook.tmp", ".conf/gone.conf", ".conf/gone.conf.tmp", ".conf/busy.restore", ".work/gone/restore.log"} {
		if err := os.WriteFile(k.store.path(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	release, err := k.locks.container("busy")
	if err != nil {
		t.Fatal(err)
	}
	has := func() (names []string) {
		for _, dir := range []string{".conf", ".work"} {
			list, err := os.ReadDir(k.store.path(dir))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range list {
				names = append(names, filepath.Join(dir, e.Name()))
			}
		}
		return names
	}
	prune := func(want ...string) {
		t.Helper()
		if err := k.Prune(t.Context(), func(string) bool { return true }); err != nil {
			t.Error(err)
		}
		if got := has(); !slices.Equal(got, want) {
			t.Errorf("there are %q, want %q", got, want)
		}
	}
	prune(".conf/busy.restore", ".conf/lives.conf", ".conf/lives.hook.tmp", ".work/busy", ".work/lives")
	release()
	prune(".conf/busy.restore", ".conf/lives.conf", ".conf/lives.hook.tmp", ".work/busy", ".work/lives") // not each time
	k.swept = time.Now().Add(-2 * sweepEvery)
	prune(".conf/lives.conf", ".conf/lives.hook.tmp", ".work/lives")
	if _, err := k.locks.container("busy"); errors.Is(err, ErrBusy) {
		t.Error("a look keeps the container")
	}
}
