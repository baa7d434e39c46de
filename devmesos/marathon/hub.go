package marathon

import (
	"encoding/json"
	"sync"
)

// frame is an event as a subscriber gets it.
type frame struct {
	kind string
	data []byte // one line of JSON
}

// hub passes events to subscribers. One that is too slow loses its stream, as it would by a broken connection: there is no replay,
// so a gap must be seen.
type hub struct {
	mu     sync.Mutex
	closed bool
	subs   map[chan frame]bool
}

// backlog is how many events a subscriber may be behind.
const backlog = 1000

func newHub() *hub { return &hub{subs: map[chan frame]bool{}} }

func (h *hub) publish(kind string, payload map[string]any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.subs) == 0 {
		return
	}
	b, err := json.Marshal(payload)
	if err != nil {
		b = []byte(`{}`) // payloads are made of plain values
	}
	for sub := range h.subs {
		select {
		case sub <- frame{kind, b}:
		default:
			delete(h.subs, sub)
			close(sub)
		}
	}
}

// subscribe gives a channel that is closed when the stream ends.
func (h *hub) subscribe() (events <-chan frame, cancel func()) {
	c := make(chan frame, backlog)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(c)
		return c, func() {}
	}
	h.subs[c] = true
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.subs[c] {
			delete(h.subs, c)
			close(c)
		}
	}
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for sub := range h.subs {
		delete(h.subs, sub)
		close(sub)
	}
}
