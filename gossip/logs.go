package gossip

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	strangerQuiet = time.Hour // a stranger is named once in it
	maxStrangers  = 256       // sources that are remembered
)

// once lets a key pass once in a while, with bounded memory: over its bound, everybody new counts as one.
type once struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

func (o *once) pass(key string, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seen == nil {
		o.seen = map[string]time.Time{}
	}
	if _, known := o.seen[key]; !known && len(o.seen) >= maxStrangers {
		for k, at := range o.seen {
			if now.Sub(at) >= strangerQuiet {
				delete(o.seen, k)
			}
		}
		if len(o.seen) >= maxStrangers {
			key = ""
		}
	}
	if at, known := o.seen[key]; known && now.Sub(at) < strangerQuiet {
		return false
	}
	o.seen[key] = now
	return true
}

// chatter takes memberlist's log lines. They go on at debug level, but for those that tell of a stranger, who is named once an hour.
type chatter struct {
	log     *slog.Logger
	once    once
	heard   func()            // told of each attempt of a stranger
	suspect func(node string) // told of a member that did not answer
}

// strangers are the beginnings of what memberlist says of somebody who has no key, an old key or another cluster's label.
func strangers() []string {
	return []string{
		"Decrypt packet failed",
		"discarding packet with unacceptable label",
		"discarding stream with unacceptable label",
		"failed to receive: encryption is configured",
		"failed to receive: no installed keys",
		"failed to receive: remote state is encrypted",
		"failed to receive and remove the stream label header",
		"Got invalid checksum",
		"failed to receive: unsupported",
		"failed to receive: unexpected",
	}
}

// Write takes one line. It never fails and never blocks for long.
func (c *chatter) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	if _, after, ok := strings.Cut(text, "memberlist: "); ok {
		text = after
	}
	for _, s := range strangers() {
		if strings.HasPrefix(text, s) {
			c.stranger(text)
			return len(line), nil
		}
	}
	if rest, ok := strings.CutPrefix(text, "Suspect "); ok {
		if node, _, ok := strings.Cut(rest, " has failed"); ok {
			c.suspect(node)
		}
	}
	if c.log.Enabled(context.Background(), slog.LevelDebug) {
		c.log.Debug("memberlist", "says", clip(text))
	}
	return len(line), nil
}

func (c *chatter) stranger(text string) {
	c.heard()
	_, from, _ := strings.Cut(text, "from=")
	from, _, _ = strings.Cut(from, " ")
	if host, _, err := net.SplitHostPort(from); err == nil {
		from = host // its port is another one each time
	}
	if !c.once.pass(from, time.Now()) {
		return
	}
	reason, _, _ := strings.Cut(text, " from=")
	c.log.Warn("a stranger speaks to us: no key of this cluster, an old key, or another cluster's label; it is ignored, and not named again for an hour",
		"from", clip(from), "reason", clip(reason))
}

// clip bounds foreign text in the log, and quotes nothing that moves a terminal.
func clip(s string) string {
	if len(s) > 300 {
		s = s[:300]
	}
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return '?'
		}
		return c
	}, strings.ToValidUTF8(s, "?"))
}
