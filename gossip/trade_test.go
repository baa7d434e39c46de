package gossip_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"qosctl/gossip"
	"qosctl/gossip/gossiptest"
)

// wire stands before a node's calls to others.
type wire struct {
	gossip.Peers
	call func(to gossip.Member, kind string, body []byte, pass func([]byte) ([]byte, error)) ([]byte, error)
}

func (w wire) Call(ctx context.Context, to gossip.Member, kind string, body []byte) ([]byte, error) {
	return w.call(to, kind, body, func(b []byte) ([]byte, error) { return w.Peers.Call(ctx, to, kind, b) })
}

// spoiled is what becomes of a row on its way to a node that can't read it: as long as it was, and no record any more.
func spoiled(b []byte) []byte {
	return bytes.ReplaceAll(b, []byte(`"name":"/jobs/7"`), []byte(`"name":["/jobs/7`))
}

// warnings counts what a node warns of a row.
func warnings(n *atomic.Int64) *slog.Logger {
	return slog.New(counter{func(r slog.Record) {
		if r.Level >= slog.LevelWarn && strings.Contains(r.Message, "row") {
			n.Add(1)
		}
	}})
}

const manyRows = 60 // in one page

// afterACut has the first of two nodes write many rows while the second is cut off, one of which that will not take, and returns how long the others
// took after it.
func afterACut(t *testing.T, c *gossiptest.Cluster) time.Duration {
	t.Helper()
	c.Together(time.Minute)
	c.Net.Cut([]string{c.Nodes[0].Name})
	for i := range manyRows {
		put(t, c.Nodes[0], job(i, c.Nodes[0].Name, 1))
	}
	<-time.After(30 * time.Second)
	c.Net.Heal()
	return c.Until(40*time.Second, 100*time.Millisecond, "all rows but one are there", func() bool { return c.Nodes[1].Stats().Jobs >= manyRows-1 })
}

// TestARowThatAPeerCantTakeKeepsNoOtherAway: one of a page of rows can't be read by the second node, in whichever direction it is asked for. All
// others are there soon; the one is named once, and not sent again and again.
func TestARowThatAPeerCantTakeKeepsNoOtherAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var warned, carried atomic.Int64
		c := gossiptest.NewCluster(t, 2, gossiptest.Options{}, func(o *gossip.Options) {
			second := o.Node == gossiptest.Name(1)
			if second {
				o.Logger = warnings(&warned)
			}
			o.Peers = wire{o.Peers, func(_ gossip.Member, _ string, body []byte, pass func([]byte) ([]byte, error)) ([]byte, error) {
				whole := body
				if !second { // what it gives
					body = spoiled(body)
				}
				answer, err := pass(body)
				bad := spoiled(answer) // what it is asked for
				if !second {
					bad = answer
				}
				if !bytes.Equal(whole, body) || !bytes.Equal(bad, answer) {
					carried.Add(1)
				}
				return bad, err
			}}
		})
		defer c.Close()
		t.Logf("the others are there after %v", afterACut(t, c))
		<-time.After(5 * time.Minute)
		if _, ok := c.Nodes[1].Get(id(7)); ok {
			t.Error("a row that can't be read is there")
		}
		first := carried.Load()
		if s := c.Nodes[1].Stats(); first == 0 || first > 4 || s.Rejected != uint64(first) || warned.Load() != 1 {
			t.Errorf("it was carried %d times in five minutes, refused %d times, named %d times", first, s.Rejected, warned.Load())
		}
		if s := c.Nodes[1].Stats(); s.Failed > 20 {
			t.Errorf("%d exchanges have failed", s.Failed)
		}
		<-time.After(time.Hour)
		if n := carried.Load() - first; n < 2 || n > 30 {
			t.Errorf("it was tried %d times in an hour", n)
		}
		put(t, c.Nodes[0], job(100, c.Nodes[0].Name, 1)) // what is new goes on being told
		took := c.Until(10*time.Second, 100*time.Millisecond, "a new row is there", func() bool { _, ok := c.Nodes[1].Get(id(100)); return ok })
		t.Logf("a new row after %v", took)
	})
}

// TestAPageThatIsRefusedAsAWholeIsTakenInParts: a peer of an earlier version refuses the page of a row that it can't take. The others reach it all
// the same.
func TestAPageThatIsRefusedAsAWholeIsTakenInParts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var refused, warned atomic.Int64
		row := []byte(id(7))
		c := gossiptest.NewCluster(t, 2, gossiptest.Options{}, func(o *gossip.Options) {
			second := o.Node == gossiptest.Name(1)
			if !second {
				o.Logger = warnings(&warned)
			}
			o.Peers = wire{o.Peers, func(_ gossip.Member, kind string, body []byte, pass func([]byte) ([]byte, error)) ([]byte, error) {
				var answer []byte
				var err error
				bad := kind == "rows" && !second && bytes.Contains(body, row) // what it gives
				if !bad {
					answer, err = pass(body)
					bad = kind == "rows" && second && bytes.Contains(answer, row) // what it is asked for
				}
				if bad {
					refused.Add(1)
					return nil, fmt.Errorf("%w: malformed", gossip.ErrRefused)
				}
				return answer, err
			}}
		})
		defer c.Close()
		t.Logf("the others are there after %v", afterACut(t, c))
		<-time.After(9 * time.Minute)
		t.Logf("%d pages were refused", refused.Load())
		if n := refused.Load(); n == 0 || n > 80 || warned.Load() > 1 {
			t.Errorf("%d pages were refused, it was named %d times", n, warned.Load())
		}
	})
}
