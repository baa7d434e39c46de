package docker

import (
	"context"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"qosctl/container"
)

// Events streams starts and ends of containers that have a job. After a restart of the daemon, which forgets what happened before it, the
// containers are looked at: what happened meanwhile is told then, and may come twice.
func (e *Engine) Events(ctx context.Context) (<-chan container.Event, error) {
	since := time.Now()
	if _, err := e.daemon(ctx); err != nil {
		return nil, err
	}
	out := make(chan container.Event)
	e.streams.Go(func() { // ends with ctx
		defer close(out)
		for try := 0; ; try++ {
			last := e.follow(ctx, since, out)
			if last.After(since) {
				since, try = last, 0
			}
			if !e.backOff(ctx, try) {
				return
			}
			e.missed(ctx, since, out)
		}
	})
	return out, nil
}

// missed tells what has happened to the containers that there are, since a moment.
func (e *Engine) missed(ctx context.Context, since time.Time, out chan<- container.Event) {
	list, err := e.List(ctx)
	if err != nil {
		return // the daemon is not back yet: the next round looks again
	}
	for _, i := range list {
		var evs []container.Event
		if i.Started.After(since) {
			evs = append(evs, container.Event{ID: i.ID, Kind: container.EventStart, At: i.Started})
		}
		if i.Exit != nil && i.Exit.Finished.After(since) {
			evs = append(evs, container.Event{ID: i.ID, Kind: container.EventExit, At: i.Exit.Finished})
		}
		for _, ev := range evs {
			select {
			case out <- ev:
			case <-ctx.Done():
				return
			}
		}
	}
}

// follow passes one connection's events on; it returns the time of the last one.
func (e *Engine) follow(ctx context.Context, since time.Time, out chan<- container.Event) (last time.Time) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	last = since
	msgs, errs := e.o.Client.Events(ctx, events.ListOptions{
		Since:   strconv.FormatFloat(float64(since.UnixNano())/1e9, 'f', 9, 64),
		Filters: filters.NewArgs(filters.Arg("type", "container"), filters.Arg("label", labelJob), filters.Arg("event", "start"), filters.Arg("event", "die")),
	})
	for {
		select {
		case m := <-msgs:
			at := time.Unix(0, m.TimeNano)
			kind := container.EventStart
			if m.Action == events.ActionDie {
				kind = container.EventExit
			}
			select {
			case out <- container.Event{ID: m.Actor.Attributes["name"], Kind: kind, At: at}:
				last = at
			case <-ctx.Done():
				return last
			}
		case <-errs: //nolint:errcheck // the connection is made anew
			return last
		}
	}
}
