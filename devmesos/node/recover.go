package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"qosctl/devmesos/snapshot"
)

// runMark is the note of a running task on disk. The next life of the node ends all that it finds marked.
type runMark struct {
	Task  string `json:"task"`
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot
}

func (n *Node) mark(t *task, pid int) error {
	s, _ := readStat(n.o.Proc, pid)
	err := snapshot.Save(filepath.Join(n.marks(), t.container), runMark{Task: t.ID, PID: pid, Start: s.start})
	if err != nil {
		return fmt.Errorf("mark task as running: %w", err)
	}
	return nil
}

func (n *Node) unmark(container string) {
	if err := os.Remove(filepath.Join(n.marks(), container)); err != nil && !errors.Is(err, os.ErrNotExist) {
		n.log.Error("mark of an ended task stays", "container", container, "err", err)
	}
}

// recover ends the tasks of a former life, which nobody waits for any more.
func (n *Node) recover() error {
	entries, err := os.ReadDir(n.marks())
	if err != nil {
		return fmt.Errorf("look for tasks of a former life: %w", err)
	}
	for _, e := range entries {
		id := e.Name()
		if strings.HasPrefix(id, ".") { // half written when the former life was killed: its process was never let go
			_ = os.Remove(filepath.Join(n.marks(), id))
			continue
		}
		var m runMark
		b, err := os.ReadFile(filepath.Join(n.marks(), id))
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		if err != nil {
			n.log.Error("mark of a former task is not readable; its cgroup is cleared all the same", "container", id, "err", err)
		}
		if s, ok := readStat(n.o.Proc, m.PID); ok && m.PID > 1 && s.start == m.Start {
			for _, pid := range tree(n.o.Proc, m.PID) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if err := n.groups.kill(context.Background(), id); err != nil {
			return fmt.Errorf("end container %s of a former life: %w", id, err)
		}
		if err := n.groups.remove(id); err != nil {
			return fmt.Errorf("end container %s of a former life: %w", id, err)
		}
		n.unmark(id)
		n.log.Warn("task of a former life ended", "task", m.Task, "container", id)
	}
	return nil
}
