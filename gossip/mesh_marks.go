package gossip

import (
	"fmt"
	"time"
)

// Mark sets a small register that all nodes hold alike, such as hold/all or drain/NODE; "" unsets it. It is remembered, and told at
// once; of two writes at once the same one is kept everywhere.
func (m *Mesh) Mark(key, value string) error {
	now := time.Now()
	m.mu.Lock()
	set, changed, err := m.marks.set(key, value, m.opts.Node, now)
	if changed {
		m.touchMark(key)
	}
	m.mu.Unlock()
	if err != nil || !changed {
		return err
	}
	if err := m.flush(); err != nil {
		return fmt.Errorf("mark %s: %w", key, err)
	}
	m.queue.add("mark/"+key, set.append([]byte{msgMark}, now), true, now)
	m.tell.marks()
	return nil
}

func (m *Mesh) touchMark(key string) {
	m.unkept[key] = true
	m.dropEvicted()
	m.mark.Store(m.marks.hash)
}

// dropEvicted has the marks forgotten on disk, too, that others were put in the place of. It is called under mu.
func (m *Mesh) dropEvicted() {
	for _, key := range m.marks.takeEvicted() {
		m.unkept[key] = true
	}
}

// Marks are the registers that are set.
func (m *Mesh) Marks() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.marks.values()
}
