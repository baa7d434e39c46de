package gossip

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
)

// teller gathers what the agent is to be told, so that who learns of it need not wait.
type teller struct {
	mu        sync.Mutex
	jobs      map[string]bool
	ofMembers bool
	ofMarks   bool
	wake      chan struct{}
}

func newTeller() *teller { return &teller{jobs: map[string]bool{}, wake: make(chan struct{}, 1)} }

func (t *teller) note(f func()) {
	t.mu.Lock()
	f()
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *teller) job(id string) { t.note(func() { t.jobs[id] = true }) }
func (t *teller) members()      { t.note(func() { t.ofMembers = true }) }
func (t *teller) marks()        { t.note(func() { t.ofMarks = true }) }

func (t *teller) take() (jobs []string, ofMembers, ofMarks bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	jobs, ofMembers, ofMarks = slices.Sorted(maps.Keys(t.jobs)), t.ofMembers, t.ofMarks
	clear(t.jobs)
	t.ofMembers, t.ofMarks = false, false
	return jobs, ofMembers, ofMarks
}

// tellLoop calls the agent.
func (m *Mesh) tellLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.tell.wake:
		}
		jobs, ofMembers, ofMarks := m.tell.take()
		if ofMembers && m.opts.MembersChanged != nil {
			m.opts.MembersChanged()
		}
		if ofMarks && m.opts.MarksChanged != nil {
			m.opts.MarksChanged()
		}
		for _, id := range jobs {
			if ctx.Err() != nil {
				return
			}
			m.tellJob(id)
		}
	}
}

func (m *Mesh) tellJob(id string) {
	m.mu.Lock()
	rec, ok := m.table.view(id)
	r := m.table.rows[id]
	removed := r != nil && r.grave != nil
	m.mu.Unlock()
	switch {
	case ok && m.opts.Changed != nil:
		m.opts.Changed(rec)
	case removed && m.opts.Removed != nil:
		m.opts.Removed(id)
	}
}

// lines is a handler that gives what a logger says to a chatter, line by line.
type lines struct{ *chatter }

func (lines) Enabled(context.Context, slog.Level) bool { return true }

func (l lines) Handle(_ context.Context, r slog.Record) error {
	_, err := l.Write([]byte(r.Message)) //nolint:contextcheck // a line of a log has no context
	return err
}

func (l lines) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l lines) WithGroup(string) slog.Handler      { return l }
