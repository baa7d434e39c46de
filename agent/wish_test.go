package agent

import (
	"context"
	"net/http"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/container"
)

// The checkpoint that somebody chose for a suspended job is the one that it goes on from, wherever its next task lands.
func TestAChosenCheckpointIsRestoredOnAnotherNode(t *testing.T) {
	for name, discard := range map[string]bool{"chosen": false, "the rest discarded": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			simulate(t, 1, 3, onlyAsked, func(w *world) {
				if !w.together(time.Minute) {
					return
				}
				j := w.submit(w.nodes[0], simID(0), "/j0", "burn 100000s", 0.5)
				had, to := w.runs(j.id)
				if had == nil {
					return
				}
				from := w.node(had.node)
				code, body := from.admin(context.Background(), http.MethodPost, "/v1/jobs/"+j.id+"/checkpoints", api.CheckpointRequest{})
				w.note("checkpoint: %d %s", code, clipped(body))
				pause(context.Background(), 30*time.Second)
				w.mu.Lock()
				w.master.apps["/j0"].hosts = []string{to.name} // of the next task
				w.mu.Unlock()
				code, body = from.admin(context.Background(), http.MethodPost, "/v1/jobs/"+j.id+"/checkpoints", api.CheckpointRequest{Stop: true})
				w.note("suspend: %d %s", code, clipped(body))
				code, body = from.admin(context.Background(), http.MethodPost, "/v1/jobs/"+j.id+"/restore", api.RestoreRequest{Sequence: 1, Discard: discard})
				w.note("restore: %d %s", code, clipped(body))
				var box *simContainer
				w.until(time.Minute, "it runs on "+to.name, func() bool {
					w.mu.Lock()
					defer w.mu.Unlock()
					if list := w.runningOf(j.id); len(list) == 1 && list[0].node == to.name {
						box = list[0]
					}
					return box != nil
				})
				w.mu.Lock()
				defer w.mu.Unlock()
				if box != nil && (had.State != container.Exited || box.from != 1 || box.base == 0 || box.base >= had.kernel) {
					w.fault("it goes on from checkpoint %d at %v, had %v", box.from, box.base, had.kernel)
				}
			})
		})
	}
}
