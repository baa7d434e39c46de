package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"qosctl/cgroup"
)

const (
	tenantApp = "/another-tenant"
	tenantIn  = 20 * time.Second // from its submission to its task
)

// invite has Marathon run another tenant's app, one that is none of ours: it was sold cpus, and takes whatever the kernel lets it. All tasks of
// Mesos stand below one cgroup, beside the one of our jobs: that is given the shares of what was sold, as a node's operator would.
func (d *dev) invite(ctx context.Context, cpus float64, loops int) error {
	if cpus == 0 {
		return nil
	}
	burn := fmt.Sprintf("for i in $(seq %d); do while :; do :; done & done; wait", loops)
	app, err := json.Marshal(map[string]any{"id": tenantApp, "cmd": burn, "cpus": cpus, "mem": 32, "instances": 1})
	if err != nil {
		return fmt.Errorf("make the tenant's app: %w", err)
	}
	if _, err := d.marathon(ctx, http.MethodPost, "/v2/apps", app); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, tenantIn, fmt.Errorf("the tenant does not run within %s", tenantIn))
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var view struct {
			App struct {
				TasksRunning int `json:"tasksRunning"`
			} `json:"app"`
		}
		data, err := d.marathon(ctx, http.MethodGet, "/v2/apps"+tenantApp, nil)
		if err == nil {
			err = json.Unmarshal(data, &view)
		}
		if err == nil && view.App.TasksRunning > 0 {
			return entitleMesos(cpus)
		}
		select {
		case <-tick.C:
		case <-d.ended:
			return d.died()
		case <-ctx.Done():
			return fmt.Errorf("wait for the tenant: %w", context.Cause(ctx))
		}
	}
}

// marathon asks the development scheduler.
func (d *dev) marathon(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+d.apps+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask Marathon: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, fmt.Errorf("ask Marathon: %w", err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || resp.StatusCode >= http.StatusMultipleChoices {
		return nil, fmt.Errorf("ask Marathon: %s %s: %s: %.200s (%w)", method, path, resp.Status, data, err)
	}
	return data, nil
}

// entitleMesos gives the cgroup of Mesos' tasks the shares of so many CPUs.
func entitleMesos(cpus float64) error {
	groups, err := cgroup.New(cgroup.Options{Root: "/sys/fs/cgroup", Proc: "/proc"})
	if err != nil {
		return fmt.Errorf("find cgroups: %w", err)
	}
	at := "/" + cgroupParent() + "/mesos"
	l, err := groups.OpenLimits(cgroup.Group{CPU: at, CPUAcct: at})
	if err != nil {
		return fmt.Errorf("open the cgroup of Mesos' tasks: %w", err)
	}
	defer l.Close() //nolint:errcheck // what was written is written
	if _, err := l.SetShares(cpus); err != nil {
		return fmt.Errorf("set the shares of Mesos' tasks: %w", err)
	}
	return nil
}
