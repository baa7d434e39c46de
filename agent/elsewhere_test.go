package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/ckpt"
	"qosctl/container"
)

// runs waits until a job runs and has done something. It returns its container, and a node that it is not on.
func (w *world) runs(id string) (had *simContainer, other *simNode) {
	w.until(30*time.Second, "it runs", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		if list := w.runningOf(id); len(list) == 1 {
			had = list[0]
		}
		return had != nil
	})
	pause(context.Background(), 30*time.Second)
	other = w.nodes[0]
	if had != nil && other.name == had.node {
		other = w.nodes[1]
	}
	return had, other
}

// move asks that a job is moved.
func (w *world) move(from, to *simNode, id string) {
	code, body := from.admin(context.Background(), http.MethodPost, "/v1/jobs/"+id+"/migrate", api.Migrate{To: to.name})
	w.note("migrate: %d %s", code, body)
}

// goesOn wants a job to go on from where a container of it was ended, on a node that will do.
func (w *world) goesOn(had *simContainer, where func(node string) bool) {
	var box *simContainer
	if !w.until(10*time.Minute, "it runs again", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		if list := w.runningOf(had.job); len(list) == 1 && list[0] != had {
			box = list[0]
		}
		return box != nil
	}) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if box.base != had.kernel || box.base == 0 || !where(box.node) {
		w.fault("it goes on from %v on %s, not from %v", box.base, box.node, had.kernel)
	}
}

func TestAJobThatItsNewNodeCannotRestoreGoesOnElsewhere(t *testing.T) {
	for name, why := range map[string]error{
		"another image":          errors.New("the image is another one now"),
		"no image":               container.ErrNoImage,
		"no space":               ckpt.ErrSpace,
		"over the limit of time": ckpt.ErrTime,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			simulate(t, 1, 3, onlyAsked, func(w *world) {
				if !w.together(time.Minute) {
					return
				}
				had, to := w.runs(w.submit(w.nodes[0], simID(0), "/j0", "burn 100000s", 0.5).id)
				if had == nil {
					return
				}
				w.mu.Lock()
				to.unfit = fmt.Errorf("%w: %w", ckpt.ErrRestore, why)
				w.mu.Unlock()
				w.move(w.node(had.node), to, had.job)
				w.goesOn(had, func(n string) bool { return n != to.name })
			})
		})
	}
}

// A job that no node can restore is not passed on for ever.
func TestAJobThatNoNodeCanRestoreStartsAnewInTheEnd(t *testing.T) {
	t.Parallel()
	simulate(t, 1, 3, onlyAsked, func(w *world) {
		if !w.together(time.Minute) {
			return
		}
		had, to := w.runs(w.submit(w.nodes[0], simID(0), "/j0", "burn 100000s", 0.5).id)
		if had == nil {
			return
		}
		w.mu.Lock()
		for _, n := range w.nodes {
			n.unfit = fmt.Errorf("%w: CRIU can't", ckpt.ErrRestore)
		}
		w.mu.Unlock()
		w.move(w.node(had.node), to, had.job)
		w.until(30*time.Minute, "it runs again", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			list := w.runningOf(had.job)
			return len(list) == 1 && list[0] != had && list[0].base == 0
		})
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.master.tasks != 2+maxElsewhere {
			w.fault("it took %d tasks", w.master.tasks)
		}
	})
}

// once fails the first restore.
func once(err error) func(ckpt.Ref) error {
	return func(ckpt.Ref) error {
		now := err
		err = nil
		return now
	}
}
