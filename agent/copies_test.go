package agent

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"qosctl/agent/peer"
	"qosctl/ckpt"
	"qosctl/gossip"
)

// The copies that stay are those taken last, whatever the clocks of those that took them said; the one just made is among them.
func TestTheNewestCopiesStayThoughAClockWasSetBack(t *testing.T) {
	t.Parallel()
	now := time.Now()
	at := func(sequence, execution int, taken time.Duration) ckpt.Manifest {
		return ckpt.Manifest{Job: idA, Sequence: sequence, Execution: execution, Taken: now.Add(taken)}
	}
	for name, c := range map[string]struct {
		list []ckpt.Manifest
		made int
		want []int
	}{
		"the owner's clock was set back":     {[]ckpt.Manifest{at(5, 1, 0), at(6, 1, 20*time.Second), at(7, 1, -5*time.Minute)}, 7, []int{6, 7}},
		"one of a later execution":           {[]ckpt.Manifest{at(5, 2, 0), at(6, 1, 0), at(7, 1, 0)}, 5, []int{5, 7}},
		"another side of a cut counted more": {[]ckpt.Manifest{at(9, 1, 0), at(8, 1, 0), at(7, 1, 0)}, 7, []int{7, 9}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := &fakeKeeper{list: c.list}
			a := &Agent{log: slog.New(slog.DiscardHandler), jobs: &jobs{byID: map[string]*job{}}, engines: engines{keeper: k}}
			a.cfg.Checkpoint.Keep = 2
			a.trimCopies(t.Context(), idA, c.made)
			var got []int
			for _, m := range k.held() {
				got = append(got, m.Sequence)
			}
			if slices.Sort(got); !slices.Equal(got, c.want) {
				t.Errorf("%v stay, want %v", got, c.want)
			}
		})
	}
}

// knowing is a table that knows each node.
type knowing struct{ mesh }

func (knowing) Member(name string) (gossip.Member, bool) { return gossip.Member{Name: name}, true }

// A node without checkpoints says so to a peer that wants a copy kept.
func TestANodeWithoutCheckpointsKeepsNoCopy(t *testing.T) {
	t.Parallel()
	a := &Agent{node: "n0", log: slog.New(slog.DiscardHandler), cluster: newCluster(knowing{}, nil), jobs: &jobs{byID: map[string]*job{}}}
	r := httptest.NewRequestWithContext(peer.WithCaller(t.Context(), "n1"), http.MethodPost, "/", strings.NewReader(`{"offer":{"sequence":1}}`))
	w := httptest.NewRecorder()
	a.postCopy(w, r)
	if w.Code != http.StatusConflict {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
