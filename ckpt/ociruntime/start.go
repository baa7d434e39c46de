package ociruntime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// restoring is the order by which a container that is to be started has just been restored, by what lies on the disk: the shim works in the bundle's
// directory, the order to restore it is still there, and runc has nothing that waits to be started. It saves the start of a program, in
// which the job is down; what it can't tell (nil), restored does.
func restoring(global []string, id, root string) *order {
	bundle, err := os.Getwd()
	if err != nil || filepath.Base(bundle) != id {
		return nil
	}
	o := orderOf(bundle, root)
	if o == nil {
		return nil
	}
	for i, g := range global {
		name, value, joined := option(g)
		if name != "root" || !joined && i+1 == len(global) {
			continue
		}
		if !joined {
			value = global[i+1]
		}
		_, state := os.Stat(filepath.Join(value, id, "state.json"))
		_, waits := os.Lstat(filepath.Join(value, id, "exec.fifo"))
		if state == nil && errors.Is(waits, os.ErrNotExist) {
			return o
		}
		return nil
	}
	return nil
}

// orderOf is the order that a bundle names; nil: there is none that can be read.
func orderOf(bundle, root string) *order {
	file, err := restoreFile(bundle)
	if err != nil || file == "" {
		return nil
	}
	o, err := readOrder(file, root)
	if err != nil {
		return nil
	}
	return o
}

// letGo lets the processes of a container that was created restored run. Where they run already there is nothing to do.
func (o *order) letGo() error {
	if o.Work == "" { // the order is gone
		return nil
	}
	b, err := readFile(filepath.Join(o.Work, FrozenName), 4<<10)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("let the restored processes go: %w", err)
	}
	word, file, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	if name := filepath.Base(file); !filepath.IsAbs(file) || name != "freezer.state" && name != "cgroup.freeze" || word != "THAWED" && word != "0" {
		return fmt.Errorf("let the restored processes go: %s says %q", FrozenName, b)
	}
	if err := os.WriteFile(file, []byte(word), 0); err != nil {
		return fmt.Errorf("let the restored processes go: %w", err)
	}
	return nil
}

// restored is the order by which a container that is to be started was restored, so that it runs already, or stands frozen; nil: it was not. An
// order that is gone has no directories.
func restored(runc string, global []string, id, root string) (o *order, frozen bool) {
	ctx, stop := context.WithTimeout(context.Background(), stateTime)
	defer stop()
	out, err := exec.CommandContext(ctx, runc, append(slices.Clone(withoutLog(global)), "state", id)...).Output()
	if err != nil {
		return nil, false
	}
	var state struct {
		Status string `json:"status"`
		Bundle string `json:"bundle"`
	}
	if err := json.Unmarshal(out, &state); err != nil || state.Status != "running" && state.Status != "paused" {
		return nil, false
	}
	file, err := restoreFile(state.Bundle)
	if err != nil || file == "" {
		return nil, false
	}
	if o = orderOf(state.Bundle, root); o == nil {
		o = &order{}
	}
	return o, state.Status == "paused"
}
