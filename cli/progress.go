package cli

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
	"unicode/utf8"
)

// clearLine goes to the beginning of a terminal's line and empties it.
const clearLine = "\r\x1b[K"

// line is a line of a terminal that is written again and again.
type line struct {
	w     io.Writer
	size  func() int // the terminal's width now; nil: width
	width int
	drawn int // columns that stand there
}

func newLine(w io.Writer) (l line, live bool) {
	width, live := terminalWidth(w)
	return line{w: w, width: width, size: func() int { n, _ := terminalWidth(w); return n }}, live
}

// again looks at the terminal's width and goes to where the text that stands there begins: one that is wider than the window has become
// was broken into several lines.
func (l *line) again() string {
	if l.size != nil {
		l.width = l.size()
	}
	if above := (l.drawn - 1) / max(1, l.width); above > 0 {
		return fmt.Sprintf("\r\x1b[%dA\x1b[J", above)
	}
	return clearLine
}

// caret is the room that is left for what the terminal shows of a Ctrl-C: with it the line is still one, and can be cleared.
const caret = 2

// put puts a text in the place of what stands there; it is made when the width is known, and cut to that.
func (l *line) put(text func(width int) string) error {
	erase := l.again()
	width := l.width - caret
	r := []rune(text(width))
	if len(r) >= width {
		r = r[:max(0, width-1)]
	}
	l.drawn = len(r)
	_, err := io.WriteString(l.w, erase+string(r))
	return err
}

// clear empties the line, if something stands there.
func (l *line) clear() {
	if l.drawn > 0 {
		fmt.Fprint(l.w, l.again())
		l.drawn = 0
	}
}

// progress shows how a wait goes: on a terminal in one line, else as a line for each change.
type progress struct {
	line

	live  bool
	last  string
	begun time.Time
}

// progress shows a wait on standard output; with -o json or yaml, which that is for, on standard error.
func (a *app) progress(f form) *progress {
	w := a.out
	if f != formTable {
		w = a.err
	}
	return newProgress(w)
}

func newProgress(w io.Writer) *progress {
	p := &progress{begun: time.Now()}
	p.line, p.live = newLine(w)
	return p
}

// show says what is waited for, with how much of it is done, from 0 to 1; below 0 nobody knows.
func (p *progress) show(share float64, text string) error {
	if p.live {
		return p.put(func(width int) string { return barText(width, share, text, "", time.Since(p.begun)) })
	}
	if text == p.last {
		return nil
	}
	p.last = text
	_, err := fmt.Fprintf(p.w, "%s  %s\n", time.Now().Local().Format(time.TimeOnly), text)
	return err
}

// end clears the line.
func (p *progress) end() { p.clear() }

// barText is a bar, what it is about, and how long that has taken: the bar is left out where the share is not known or there is no room,
// and of a text that is too long the end is.
func barText(width int, share float64, text, rest string, took time.Duration) string {
	tail := "  " + span(took.Truncate(time.Second))
	if took < 10*time.Second {
		tail = fmt.Sprintf("  %ds", took/time.Second)
	}
	if rest != "" {
		tail = "  " + rest
	}
	room := width - utf8.RuneCountInString(text) - utf8.RuneCountInString(tail) - 4
	if share >= 0 && room >= 8 {
		text = drawBar(min(room, 30), min(share, 1), -1) + " " + text
	}
	if over := utf8.RuneCountInString(text+tail) - (width - 1); over > 0 {
		r := []rune(text)
		text = string(r[:max(0, len(r)-over-1)]) + "…"
	}
	return text + tail
}

// Of a meter: between two looks of a terminal, between two lines elsewhere, and how long something takes before that is said at all.
const (
	meterTick  = 200 * time.Millisecond
	meterLine  = 10 * time.Second
	meterSpeak = 500 * time.Millisecond
)

// meter shows on standard error how much of a work is done whose amount is known, and how long the rest will take if it goes on so. Of a
// work that takes a moment it says nothing.
type meter struct {
	*progress

	what        string // is done, in the plural
	mu          sync.Mutex
	done, total int
	told        time.Time
}

// meter begins to show a work of so many of what; end ends it.
func (a *app) meter(ctx context.Context, total int, what string) (m *meter, end func()) {
	m = &meter{progress: newProgress(a.err), what: what, total: total}
	m.told = m.begun
	ctx, cancel := context.WithCancel(ctx)
	var shown sync.WaitGroup
	shown.Go(func() {
		for sleep(ctx, meterTick) == nil {
			m.look(time.Now())
		}
	})
	return m, func() {
		cancel()
		shown.Wait()
		m.end()
	}
}

// add notes that one more is done.
func (m *meter) add() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done++
}

func (m *meter) look(now time.Time) {
	m.mu.Lock()
	done := m.done
	m.mu.Unlock()
	took := now.Sub(m.begun)
	rest := "about " + span(remaining(took, done, m.total)) + " left"
	if done == 0 {
		rest = ""
	}
	text := fmt.Sprintf("%d of %d %s", done, m.total, m.what)
	switch {
	case m.live && took >= meterSpeak:
		_ = m.put(func(width int) string { return barText(width, float64(done)/float64(m.total), text, rest, took) }) // what can't be shown is no reason to stop
	case !m.live && now.Sub(m.told) >= meterLine:
		m.told = now
		if rest != "" {
			text += ", " + rest
		}
		fmt.Fprintf(m.w, "%s  %s\n", now.Local().Format(time.TimeOnly), text)
	}
}

// remaining is how long the rest takes if it goes on as it went, to the second.
func remaining(took time.Duration, done, total int) time.Duration {
	if done <= 0 {
		return 0
	}
	return max(time.Second, (took * time.Duration(max(0, total-done)) / time.Duration(done)).Round(time.Second))
}
