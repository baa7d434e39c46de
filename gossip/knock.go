package gossip

import (
	"context"
	"fmt"
	"net"
	"time"
)

// hasLabel begins a stream of memberlist's that names its cluster.
const hasLabel = 244

// Knock sees whether a member's gossip is reached by TCP, by a stream that names the cluster and says nothing: no stranger is noted there.
func Knock(ctx context.Context, address, label string) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if label == "" {
		return nil
	}
	if d, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(d) // a few bytes do not block
	}
	_, err = c.Write(append([]byte{hasLabel, byte(len(label))}, label...))
	return err
}

// pings is how often a member is asked by UDP, where packets may get lost.
const pings = 3

// Ping sees whether a member answers by UDP. A member may be alive without: memberlist asks by TCP and by others too.
func (m *Mesh) Ping(ctx context.Context, name string) (time.Duration, error) {
	list := m.list.Load()
	p, ok := m.roster.get(name)
	if list == nil || !ok {
		return 0, fmt.Errorf("ping %s: it is not a member", name)
	}
	address, err := net.ResolveUDPAddr("udp", p.Address)
	if err != nil {
		return 0, fmt.Errorf("ping %s: %w", name, err)
	}
	var last error
	for range pings {
		took, err := list.Ping(name, address)
		if err == nil {
			return took, nil
		}
		if last = err; ctx.Err() != nil {
			break
		}
	}
	return 0, fmt.Errorf("ping %s by UDP: %w", name, last)
}
