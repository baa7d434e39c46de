package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"qosctl/container"
)

// lookTime bounds the look at a container whose start was not answered.
const lookTime = 10 * time.Second

// Start starts a created container, once. Docker itself would start an exited one again.
func (e *Engine) Start(ctx context.Context, id string) error {
	held, _ := e.start.LoadOrStore(id, new(sync.Mutex))
	mu := held.(*sync.Mutex)
	mu.Lock()
	defer mu.Unlock()
	c, err := e.look(ctx, id)
	if err != nil {
		return err
	}
	if everRan(c.State) || neverWill(c.State) || c.State.Running {
		return fmt.Errorf("start container %s: %w", id, container.ErrStarted)
	}
	err = e.postStart(ctx, c.ID)
	if err == nil || errors.Is(err, container.ErrStarted) {
		return err
	}
	return e.startFailed(ctx, id, err)
}

// postStart asks for a start. The client would hide that somebody else was faster (304).
func (e *Engine) postStart(ctx context.Context, id string) error {
	daemon, err := client.ParseHostURL(e.o.Client.DaemonHost())
	if err != nil {
		return err
	}
	u := url.URL{Scheme: "http", Host: "docker", Path: path.Join("/v"+e.o.Client.ClientVersion(), "containers", id, "start")}
	if daemon.Scheme == "tcp" { // a socket has no name, and its path is no part of the address
		u.Host, u.Path = daemon.Host, path.Join("/", daemon.Path, u.Path)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), nil)
	if err != nil {
		return err
	}
	resp, err := e.o.Client.HTTPClient().Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	switch {
	case resp.StatusCode == http.StatusNotModified:
		return fmt.Errorf("start container: %w", container.ErrStarted)
	case resp.StatusCode < http.StatusBadRequest:
		return nil
	case err != nil:
		return err
	}
	var answer struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Message == "" {
		answer.Message = resp.Status
	}
	return errors.New(answer.Message)
}

// startFailed finds out what a start has done that was answered with an error, or not at all.
func (e *Engine) startFailed(ctx context.Context, id string, why error) error {
	look, stop := context.WithTimeout(context.WithoutCancel(ctx), lookTime)
	defer stop()
	c, err := e.look(look, id)
	switch {
	case errors.Is(err, container.ErrNotFound):
		return fmt.Errorf("start container %s: %w", id, errors.Join(why, err))
	case err != nil: // nobody knows
		return fmt.Errorf("start container %s: %w: %w", id, container.ErrStarted, errors.Join(why, err))
	case everRan(c.State):
		return nil
	case neverWill(c.State):
		return fmt.Errorf("start container %s: %w", id, why)
	}
	return fmt.Errorf("start container %s: %w: %w", id, container.ErrStarted, why) // it may still be under way
}

// Stop tells all processes of a container to end, waits at most grace, and kills what is left.
func (e *Engine) Stop(ctx context.Context, id string, grace time.Duration) error {
	c, err := e.look(ctx, id)
	if err != nil || !c.State.Running && !c.State.Paused {
		return e.notStarted(c, id, err)
	}
	if c.State.Paused {
		if err := e.o.Client.ContainerUnpause(ctx, c.ID); err != nil && ctx.Err() != nil {
			return e.failed(ctx, "thaw container "+id, err)
		}
	}
	if grace > 0 {
		e.term(c)
		soft, stop := context.WithTimeout(ctx, grace)
		_, err := e.Wait(soft, id)
		stop()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	if err := e.o.Client.ContainerKill(ctx, c.ID, "KILL"); err != nil && ctx.Err() != nil {
		return e.failed(ctx, "kill container "+id, err)
	}
	_, err = e.Wait(ctx, id)
	return err
}

// notStarted makes sure that a container that does not run never will.
func (e *Engine) notStarted(c dcontainer.InspectResponse, id string, err error) error {
	if err == nil && !everRan(c.State) && !neverWill(c.State) {
		return fmt.Errorf("stop container %s: %w", id, container.ErrNotRunning)
	}
	return err
}

// term sends SIGTERM to every process of a container, as Mesos' command executor does: the first of a PID namespace may ignore it, and
// a shell does not pass it on.
func (e *Engine) term(c dcontainer.InspectResponse) {
	g, err := e.o.Cgroups.Of(c.State.Pid)
	if err != nil {
		return // it has ended
	}
	pids, err := e.o.Cgroups.Procs(g.CPU)
	if err != nil {
		return
	}
	for _, pid := range pids {
		_ = unix.Kill(pid, unix.SIGTERM) // may have ended just now
	}
}

// Wait returns when a container has exited. It outlives restarts of the daemon.
func (e *Engine) Wait(ctx context.Context, id string) (container.Exit, error) {
	for try := 0; ; try++ {
		c, err := e.look(ctx, id)
		switch {
		case err == nil:
			try = 0
			i := e.describe(c)
			if i.State == container.Exited {
				return *i.Exit, nil
			}
			err = e.waitOnce(ctx, c.ID, c.State.Running)
		case errors.Is(err, container.ErrNotFound), ctx.Err() != nil:
			return container.Exit{}, err
		}
		if err != nil && !e.backOff(ctx, try) {
			return container.Exit{}, fmt.Errorf("wait for container %s: %w", id, context.Cause(ctx))
		}
	}
}

// waitOnce returns when the daemon says that the container's state has changed, or it is time to look for oneself. For one that is not
// started yet only the next exit can be waited for, and one between the look and the wait would not be told: so it is looked at often.
func (e *Engine) waitOnce(ctx context.Context, id string, running bool) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	until, again := dcontainer.WaitConditionNextExit, waitAgain
	if running {
		until, again = dcontainer.WaitConditionNotRunning, lookAnyway
	}
	ok, bad := e.o.Client.ContainerWait(ctx, id, until)
	t := time.NewTimer(again)
	defer t.Stop()
	select {
	case <-ok:
		return nil
	case <-t.C:
		return nil
	case err := <-bad:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

const (
	waitAgain  = 2 * time.Second
	lookAnyway = time.Minute // should a daemon have forgotten who waits
	leastWait  = 20 * time.Millisecond
	mostWait   = 2 * time.Second
)

// backOff waits before the daemon is asked again; false: ctx has ended.
func (e *Engine) backOff(ctx context.Context, try int) bool {
	t := time.NewTimer(min(leastWait<<min(try, 10), mostWait))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
