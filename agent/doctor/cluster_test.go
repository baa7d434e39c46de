package doctor

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/gossip"
)

func TestPorts(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	taken := l.Addr().String()
	wants(t, only(t, Bind(Address{Key: "listen", Value: taken})), api.LevelFault, "address already in use", "ss -lntup")
	wants(t, only(t, Bind(Address{Key: "cluster.bind", Value: u.LocalAddr().String(), UDP: true})), api.LevelFault, "address already in use")
	wants(t, only(t, Bind(Address{Key: "cluster.peer", Value: "192.0.2.1:30001"})), api.LevelFault, "cannot assign requested address")
	wants(t, only(t, Bind(Address{Key: "cluster.bind", Value: closed(t), UDP: true})), api.LevelOK)
	wants(t, only(t, Join(nil, "x")), api.LevelSkipped)
	wants(t, only(t, Join([]string{closed(t)}, "x")), api.LevelFault, "connection refused")
	wants(t, only(t, Join([]string{closed(t), taken}, "x")), api.LevelWarning, "1 of the 2")
	wants(t, only(t, Join([]string{taken}, "x")), api.LevelOK)
}

func TestKey(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cluster.key")
	wants(t, only(t, Key(path)), api.LevelFault, "no such file")
	for text, level := range map[string]api.Level{gossip.NewKey(): api.LevelOK, "no key": api.LevelFault} {
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		wants(t, only(t, Key(path)), level)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	wants(t, only(t, Key(path)), api.LevelFault, "may be read by others", "chmod 0600")
}

func members(states ...gossip.State) []gossip.Member {
	list := []gossip.Member{{Name: "self", State: gossip.Alive}}
	for i, s := range states {
		list = append(list, gossip.Member{Name: string(rune('a' + i)), State: s})
	}
	return list
}

func TestMembers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		c     Cluster
		level api.Level
		says  string
	}{
		"first":     {Cluster{Members: members(), Settled: true, Quorate: true}, api.LevelOK, "0 peers"},
		"nobody":    {Cluster{Members: members(), Join: []string{"n1:7946"}, Quorate: true}, api.LevelFault, "n1:7946"},
		"good":      {Cluster{Members: members(gossip.Alive, gossip.Suspect, gossip.Left), Settled: true, Quorate: true, Join: []string{"n1:7946"}}, api.LevelOK, "2 peers"},
		"one dead":  {Cluster{Members: members(gossip.Alive, gossip.Dead), Settled: true, Quorate: true}, api.LevelWarning, "not alive: b"},
		"cut off":   {Cluster{Members: members(gossip.Alive, gossip.Dead, gossip.Dead, gossip.Dead), Settled: true}, api.LevelWarning, "less than half"},
		"unsettled": {Cluster{Members: members(gossip.Alive), Quorate: true}, api.LevelWarning, "ask again"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.c.Self = "self"
			wants(t, named(t, ClusterPeers, c.c.Probes()...), c.level, c.says)
		})
	}
	wants(t, named(t, PortReach, Cluster{}.Probes()...), api.LevelSkipped)
	wants(t, named(t, ClockPeers, Cluster{}.Probes()...), api.LevelSkipped)
}

var errOld = errors.New("404")

func TestReachAndClocks(t *testing.T) {
	t.Parallel()
	peers := []Peer{{Name: "a"}, {Name: "b"}}
	reached := func(by map[string]Reached, errs map[string]error) Probe {
		c := Cluster{Peers: peers, Old: func(err error) bool { return errors.Is(err, errOld) }}
		c.Reach = func(_ context.Context, p Peer) (Reached, error) { return by[p.Name], errs[p.Name] }
		return c.Probes()[1]
	}
	refused := Reached{TCP: "connection refused", UDP: "no answer", Peer: "connection refused"}
	noUDP := Reached{UDP: "no answer"}
	wants(t, only(t, reached(nil, nil)), api.LevelOK, "2 peers")
	wants(t, only(t, reached(map[string]Reached{"b": noUDP}, nil)), api.LevelWarning, "1 of 2", "from b, gossip by UDP: no answer", "cluster.advertise")
	wants(t, only(t, reached(map[string]Reached{"a": noUDP, "b": noUDP}, nil)), api.LevelWarning, "0 of 2")
	wants(t, only(t, reached(map[string]Reached{"a": refused, "b": refused}, nil)), api.LevelFault, "no peer reaches this node", "from a, the peer API")
	wants(t, only(t, reached(nil, map[string]error{"a": errOld, "b": errOld})), api.LevelSkipped, "version")
	wants(t, only(t, reached(nil, map[string]error{"a": errors.New("no route to host")})), api.LevelWarning, "a could not be asked: no route to host")
	clocks := func(a, b time.Duration, errs map[string]error) Probe {
		c := Cluster{Peers: peers}
		c.Distance = func(_ context.Context, p Peer) (Distance, error) {
			return Distance{map[string]time.Duration{"a": a, "b": b}[p.Name], 5 * time.Millisecond}, errs[p.Name]
		}
		return c.Probes()[2]
	}
	wants(t, only(t, clocks(-200*time.Millisecond, 3*time.Millisecond, nil)), api.LevelOK, "-200ms")
	wants(t, only(t, clocks(0, -1500*time.Millisecond, nil)), api.LevelWarning, "b is -1.5s", "chrony")
	wants(t, only(t, clocks(time.Hour, 0, nil)), api.LevelFault, "a is 1h0m0s before")
	broken := map[string]error{"a": errOld, "b": errOld}
	wants(t, only(t, clocks(time.Hour, time.Hour, broken)), api.LevelSkipped)
}
