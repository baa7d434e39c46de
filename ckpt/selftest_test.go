package ckpt

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/docker/docker/client"

	"qosctl/cgroup"
)

// TestATestThatCameToNoEndTakesNoDriverAway: only a driver that has failed is given up.
func TestATestThatCameToNoEndTakesNoDriverAway(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		docker http.HandlerFunc
		cut    bool
		before string
		want   string
	}{
		"cut off":                         {answers, true, "runtime", "runtime"},
		"Docker is away":                  {gone, false, "runtime", "runtime"},
		"it fails":                        {answers, false, "runtime", ""},
		"cut off, and none has passed":    {answers, true, "", ""},
		"Docker is away, and none passed": {gone, false, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				c.docker(w, r)
				if c.cut && strings.HasSuffix(r.URL.Path, "/info") {
					cancel()
				}
			}))
			defer s.Close()
			d, err := client.NewClientWithOpts(client.WithHost("tcp://"+s.Listener.Addr().String()), client.WithVersion("1.45"))
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			k := shelf(t)
			k.o.Docker, k.o.Driver = d, "auto"
			if k.o.Cgroups, err = cgroup.New(cgroup.Options{}); err != nil {
				t.Fatal(err)
			}
			class := Class{Driver: c.before, Kernel: "as it was"}
			k.choose(c.before, Report{Driver: c.before, Class: class})
			r := k.Test(ctx)
			if got := k.Report(); got.Driver != c.want || r.Driver != c.want || (k.chosen() != nil) != (c.want != "") {
				t.Errorf("driver %q, chosen %v, want %q: %+v", got.Driver, k.chosen(), c.want, r.Checks)
			}
			if c.want != "" && (r.Class != class || r.Checks[len(r.Checks)-1].Name != "self-test") {
				t.Errorf("%+v", r)
			}
		})
	}
}

// answers stands for a Docker that lacks all that a checkpoint needs.
func answers(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{}`)) // the client says what it got
}

func gone(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, `{"message":"it is shutting down"}`, http.StatusServiceUnavailable)
}
