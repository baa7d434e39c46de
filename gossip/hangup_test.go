package gossip

import (
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// TestATransportThatNobodyReadsFromEnds floods a real transport while it is ended: its listener waits for a reader then.
func TestATransportThatNobodyReadsFromEnds(t *testing.T) {
	t.Parallel()
	tr, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{"127.0.0.1"}, Logger: nil})
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("udp", net.JoinHostPort("127.0.0.1", strconv.Itoa(tr.GetAutoBindPort())))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // only written to
	for range 10 {
		if _, err := c.Write([]byte("nobody reads this")); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- hangUp(tr) }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
}
