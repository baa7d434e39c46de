package mesos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"qosctl/container"
)

// eventBuffer is how many events may wait for their reader.
const eventBuffer = 64

// settlePolls is how many looks long the Mesos agent's word may take after a cgroup has gone.
const settlePolls = 4

// Wait returns when the container's task has ended or its cgroup is gone. A Mesos agent that does not answer, as while it is restarted,
// is asked again: its containers run on meanwhile. One that has forgotten the container says that it ended.
func (e *Engine) Wait(ctx context.Context, id string) (container.Exit, error) {
	t := time.NewTicker(e.o.Poll)
	defer t.Stop()
	var gone time.Time // since when its cgroup has been gone while the agent says that it runs
	for known := false; ; {
		i, err := e.Inspect(ctx, id)
		ended := err == nil && i.State == container.Exited
		if ended && gone.IsZero() {
			gone = time.Now()
		}
		switch {
		case ended && time.Since(gone) < settlePolls*e.o.Poll && !e.said(ctx, id): // the agent's word comes a moment later
			known = true
		case ended:
			return *i.Exit, nil
		case errors.Is(err, container.ErrNotFound) && known:
			return container.Exit{Code: container.CodeUnknown, Unknown: true, Finished: time.Now(), Reason: "the Mesos agent has forgotten it"}, nil
		case errors.Is(err, container.ErrNotFound):
			return container.Exit{}, fmt.Errorf("wait: %w", err)
		case err != nil:
			e.log.Warn("ask the Mesos agent", "container", id, "err", err)
		default:
			known = true
		}
		select {
		case <-ctx.Done():
			return container.Exit{}, fmt.Errorf("wait for mesos container %s: %w", id, ctx.Err())
		case <-t.C:
		}
	}
}

// said reports whether the Mesos agent itself says that the container's task has ended.
func (e *Engine) said(ctx context.Context, id string) bool {
	tasks, err := e.o.Source.Tasks(ctx)
	return err == nil && !slices.ContainsFunc(tasks, func(t Task) bool { return t.ContainerID == id && !ended(t.State) })
}

// Events tells starts and ends as they are seen, one look apart, until ctx ends.
func (e *Engine) Events(ctx context.Context) (<-chan container.Event, error) {
	first, err := e.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("events: %w", err)
	}
	was := states(first)
	out := make(chan container.Event, eventBuffer)
	e.wg.Go(func() {
		defer close(out)
		t := time.NewTicker(e.o.Poll)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
			now, err := e.List(ctx)
			if err != nil {
				e.log.Warn("ask the Mesos agent", "err", err)
				continue
			}
			for _, ev := range changes(was, now, time.Now()) {
				select {
				case out <- ev:
				case <-ctx.Done():
					return
				}
			}
			was = states(now)
		}
	})
	return out, nil
}

func states(infos []container.Info) map[string]container.State {
	m := make(map[string]container.State, len(infos))
	for _, i := range infos {
		m[i.ID] = i.State
	}
	return m
}

// changes is what happened between two looks. A container that was forgotten while it ran has ended.
func changes(was map[string]container.State, now []container.Info, at time.Time) []container.Event {
	var evs []container.Event
	there := states(now)
	for _, i := range now {
		old := was[i.ID]
		if (old == "" || old == container.Created) && i.State != container.Created {
			evs = append(evs, container.Event{ID: i.ID, Kind: container.EventStart, At: at})
		}
		if old != container.Exited && i.State == container.Exited {
			evs = append(evs, container.Event{ID: i.ID, Kind: container.EventExit, At: at})
		}
	}
	for id, s := range was {
		if _, ok := there[id]; !ok && s == container.Running {
			evs = append(evs, container.Event{ID: id, Kind: container.EventExit, At: at})
		}
	}
	return evs
}
