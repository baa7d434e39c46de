package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"qosctl/devmesos/snapshot"
)

// runMark is the note of a running task on disk. The next life of the node ends all that it finds marked.
type runMark struct {
	Task  string `json:"task"`
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot
	// Docker is the name of the task's container in Docker; "": it has none.
	Docker string `json:"docker,omitempty"`
}

func (n *Node) mark(t *task, pid int) error {
	s, _ := readStat(n.o.Proc, pid)
	m := runMark{Task: t.ID, PID: pid, Start: s.start}
	if n.inDocker(t) {
		m.Docker = dockerName(t.container)
	}
	err := snapshot.Save(filepath.Join(n.marks(), t.container), m)
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
		m, err := n.readMark(id)
		if err != nil {
			n.log.Error("mark of a former task is not readable; its cgroup is cleared all the same", "container", id, "err", err)
		}
		if s, ok := readStat(n.o.Proc, m.PID); ok && m.PID > 1 && s.start == m.Start {
			for _, pid := range tree(n.o.Proc, m.PID) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if m.Docker != "" {
			if err := removeDocker(m.Docker); err != nil {
				return fmt.Errorf("end container %s of a former life: %w", id, err)
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

func (n *Node) readMark(container string) (m runMark, err error) {
	b, err := os.ReadFile(filepath.Join(n.marks(), container))
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	return m, err
}

// keepDocker is how many ended containers stay in Docker to be looked at; Mesos keeps them for six hours.
const keepDocker = 50

// clearDocker removes the Docker containers of tasks that have ended, but for the newest. Their marks say which there are.
func (n *Node) clearDocker(keep int) error {
	entries, err := os.ReadDir(n.marks())
	if err != nil {
		return fmt.Errorf("look for containers in Docker: %w", err)
	}
	live := map[string]bool{}
	n.mu.Lock()
	for _, t := range n.tasks {
		live[t.container] = true
	}
	n.mu.Unlock()
	type old struct {
		name string
		at   time.Time
	}
	var olds []old
	for _, e := range entries {
		info, err := e.Info()
		m, merr := n.readMark(e.Name())
		if err == nil && merr == nil && m.Docker != "" && !live[e.Name()] {
			olds = append(olds, old{e.Name(), info.ModTime()})
		}
	}
	slices.SortFunc(olds, func(a, b old) int { return b.at.Compare(a.at) })
	var errs []error
	for _, o := range olds[min(keep, len(olds)):] {
		err := removeDocker(dockerName(o.name))
		if err == nil {
			n.unmark(o.name)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
