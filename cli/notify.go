package cli

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// notifier talks to systemd (sd_notify). Without a socket it says nothing.
type notifier struct {
	socket string // $NOTIFY_SOCKET
}

func (n *notifier) send(state string) error {
	if n.socket == "" {
		return nil
	}
	name := n.socket
	if rest, ok := strings.CutPrefix(name, "@"); ok {
		name = "\x00" + rest // a name in Linux' abstract space
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// watchdog tells systemd that we live, twice in the time that it allows, as long as we do, until ctx ends.
func (n *notifier) watchdog(ctx context.Context, usec, pid string, alive func() bool) {
	us, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || us < 2 || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return
	}
	t := time.NewTicker(time.Duration(us) * time.Microsecond / 2)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if alive() {
				_ = n.send("WATCHDOG=1") // the next one may get through; systemd acts if none does
			}
		case <-ctx.Done():
			return
		}
	}
}
