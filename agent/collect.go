package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"qosctl/container"
)

// A container that was checkpointed is the way back until its successor runs. Then its output is collected and it is removed.

func (a *Agent) collected() string { return filepath.Join(a.cfg.DataDir, "output") }

func (a *Agent) collectedFile(id string, s container.Stream) string {
	return filepath.Join(a.collected(), id+"."+string(s))
}

// collect keeps the output of containers that the present execution has left behind, and removes them.
func (a *Agent) collect(ctx context.Context, j *job) {
	if a.engineOf(j) != a.engines.docker {
		return
	}
	var old []string
	j.mu.Lock()
	if st := j.status(); j.live != nil && st.Execution != nil && st.Saved != nil && st.Saved.Digest != "" {
		account := st.Execution.Account
		for i, e := range account.Entries {
			if i.Compare(account.Live) < 0 && e.Container != j.live.container && i.Node == a.node {
				old = append(old, e.Container)
			}
		}
	}
	j.mu.Unlock()
	for _, id := range old {
		if err := a.collectOne(ctx, a.engines.docker, id); err != nil && ctx.Err() == nil && !errors.Is(err, container.ErrNotFound) {
			a.log.Warn("collect the output of a container", "container", id, "err", err) // it is kept, and expires with its execution
		}
	}
}

func (a *Agent) collectOne(ctx context.Context, eng engine, id string) error {
	info, err := eng.Inspect(ctx, id)
	if err != nil {
		return err
	}
	if info.State != container.Exited {
		return fmt.Errorf("container %s is %s", id, info.State)
	}
	if err := os.MkdirAll(a.collected(), 0o700); err != nil {
		return fmt.Errorf("make a directory for output: %w", err)
	}
	for _, s := range streams {
		if err := a.collectStream(ctx, eng, id, s); err != nil {
			return err
		}
	}
	return eng.Remove(ctx, id)
}

// collectStream copies one output whole, under a temporary name first.
func (a *Agent) collectStream(ctx context.Context, eng engine, id string, s container.Stream) (err error) {
	r, err := eng.Logs(ctx, id, s, 0)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // only read
	path := a.collectedFile(id, s)
	f, err := os.CreateTemp(a.collected(), ".new-*")
	if err != nil {
		return fmt.Errorf("collect output: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("collect output: %w", err)
	}
	return os.Rename(f.Name(), path)
}

// openCollected reads the output of a container that was removed.
func (a *Agent) openCollected(id string, s container.Stream, off int64) (io.ReadCloser, error) {
	f, err := os.Open(a.collectedFile(id, s))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("output of %s: %w", id, container.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("output of %s: %w", id, err)
	}
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		return nil, errors.Join(fmt.Errorf("output of %s: %w", id, err), f.Close())
	}
	return f, nil
}

// expireCollected removes output of jobs, and of executions, that are kept no longer.
func (a *Agent) expireCollected() {
	list, err := os.ReadDir(a.collected())
	if err != nil {
		return // none was ever collected
	}
	for _, f := range list {
		id, execution := parseContainerID(strings.TrimSuffix(strings.TrimSuffix(f.Name(), ".stdout"), ".stderr"))
		keep := false
		if j := a.jobs.get(id); j != nil {
			j.mu.Lock()
			e := j.status().Execution
			keep = e == nil || execution > e.Index-keepContainers
			j.mu.Unlock()
		} else if n := a.keptElsewhere(id); n > 0 {
			keep = execution > n-keepContainers
		}
		if !keep {
			if err := os.Remove(filepath.Join(a.collected(), f.Name())); err != nil {
				a.log.Warn("remove collected output", "err", err)
			}
		}
	}
}

// parseContainerID takes the id of one of our containers apart; "" if it is none.
func parseContainerID(id string) (job string, execution int) {
	const uuid = 36
	if len(id) <= uuid {
		return "", 0
	}
	var part int
	if n, err := fmt.Sscanf(id[uuid:], "-%d-%d", &execution, &part); err != nil || n != 2 || containerID(id[:uuid], execution, part) != id {
		return "", 0
	}
	return id[:uuid], execution
}
