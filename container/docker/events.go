package docker

import (
	"context"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"qosctl/container"
)

// Events streams starts and ends of containers that have a job. After a restart of the daemon it goes on where it was: what happened
// meanwhile may come twice.
func (e *Engine) Events(ctx context.Context) (<-chan container.Event, error) {
	since := time.Now()
	if _, err := e.daemon(ctx); err != nil {
		return nil, err
	}
	out := make(chan container.Event)
	e.streams.Go(func() { // ends with ctx
		defer close(out)
		for try := 0; ctx.Err() == nil; try++ {
			if last := e.follow(ctx, since, out); last.After(since) {
				since, try = last, 0
			}
			if !e.backOff(ctx, try) {
				return
			}
		}
	})
	return out, nil
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
