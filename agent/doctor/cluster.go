package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"qosctl/agent/api"
	"qosctl/gossip"
)

// Address is one that an agent listens on.
type Address struct {
	Key   string // of the configuration
	Value string // host:port
	UDP   bool   // beside TCP
}

// Bind sees whether an agent could listen there: it does, for a moment.
func Bind(a Address) Probe {
	return Probe{Entry: PortBind, Of: a.Key, Look: func(ctx context.Context) []api.Check { return []api.Check{bind(ctx, a)} }}
}

// Bound is the probe of an address that the agent that looks has.
func Bound(a Address) Probe {
	return Probe{Entry: PortBind, Of: a.Key, Look: func(context.Context) []api.Check {
		return []api.Check{PortBind.ok(a.Key, "the agent listens on %s", a.Value)}
	}}
}

func bind(ctx context.Context, a Address) api.Check {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", a.Value)
	if err == nil {
		err = l.Close()
	}
	if err == nil && a.UDP {
		p, perr := c.ListenPacket(ctx, "udp", a.Value)
		if err = perr; err == nil {
			err = p.Close()
		}
	}
	if err != nil {
		return PortBind.fault(a.Key, "an agent can't listen on "+a.Value, err, "")
	}
	return PortBind.ok(a.Key, "%s is free", a.Value)
}

// Key looks at the cluster's key file.
func Key(path string) Probe {
	return Probe{Entry: ClusterKey, Look: func(context.Context) []api.Check {
		k, err := gossip.LoadKeyring(path)
		if err != nil {
			return []api.Check{ClusterKey.fault("", "the cluster's key can't be used", err, "")}
		}
		return []api.Check{ClusterKey.ok("", "%d keys", len(k.Keys()))}
	}}
}

// Join knocks at the gossip addresses that the configuration names, where no agent can say who is there.
func Join(addresses []string, label string) Probe {
	return Probe{Entry: ClusterPeers, Look: func(ctx context.Context) []api.Check { return []api.Check{join(ctx, addresses, label)} }}
}

// knockTime bounds a connection.
const knockTime = 3 * time.Second

func join(ctx context.Context, addresses []string, label string) api.Check {
	if len(addresses) == 0 {
		return ClusterPeers.skip("", "cluster.join names nobody: others join this node")
	}
	ctx, stop := context.WithTimeout(ctx, knockTime)
	defer stop()
	_, errs := each(ctx, addresses, func(ctx context.Context, a string) (struct{}, error) { return struct{}{}, gossip.Knock(ctx, a, label) })
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	switch {
	case len(errs) == len(addresses):
		return ClusterPeers.fault("", "none of the addresses in cluster.join is reached", errors.Join(errs...), "")
	case len(errs) > 0:
		return ClusterPeers.warn("", fmt.Sprintf("%d of the %d addresses in cluster.join are not reached", len(errs), len(addresses)), errors.Join(errs...), "")
	}
	return ClusterPeers.ok("", "somebody listens at each address in cluster.join")
}

// Cluster is what an agent knows of its peers.
type Cluster struct {
	Members  []gossip.Member
	Self     string
	Join     []string
	Settled  bool
	Quorate  bool
	Peers    []Peer                                              // the living ones that are asked
	Reach    func(ctx context.Context, p Peer) (Reached, error)  // asks one to reach this node
	Distance func(ctx context.Context, p Peer) (Distance, error) // its clock
	Old      func(err error) bool                                // the peer is too old to know the question
}

// Peer is another member.
type Peer struct {
	Name   string
	Member gossip.Member
}

// Reached is how a peer reaches this node: "" is well, else why not.
type Reached struct {
	TCP  string `json:"gossip_tcp"`
	UDP  string `json:"gossip_udp"`
	Peer string `json:"peer"` // its peer API
}

// Distance is how far a peer's clock is before this node's, and how far off that may be.
type Distance struct{ Skew, Within time.Duration }

// MostPeers is how many peers are asked.
const MostPeers = 8

// Probes look at the members, and ask some peers.
func (c Cluster) Probes() []Probe {
	list := []Probe{{Entry: ClusterPeers, Look: func(context.Context) []api.Check { return []api.Check{c.members()} }}}
	if len(c.Peers) == 0 {
		return append(list, Skip(PortReach, "there is no living peer to ask"), Skip(ClockPeers, "there is no living peer to ask"))
	}
	return append(list,
		Probe{Entry: PortReach, Look: func(ctx context.Context) []api.Check { return []api.Check{c.reach(ctx)} }},
		Probe{Entry: ClockPeers, Look: func(ctx context.Context) []api.Check { return []api.Check{c.clocks(ctx)} }})
}

func (c Cluster) members() api.Check {
	var dead []string
	alive := 0
	for _, m := range c.Members {
		switch {
		case m.Name == c.Self || m.State == gossip.Left:
		case m.Live():
			alive++
		default:
			dead = append(dead, m.Name)
		}
	}
	switch {
	case alive == 0 && len(c.Join) > 0:
		return ClusterPeers.fault("", "this node sees no peer", fmt.Errorf("none of %s is there", strings.Join(c.Join, ", ")), "")
	case !c.Quorate:
		return ClusterPeers.warn("", "this node sees less than half of the members that it knew: it takes nothing over", errors.New("not alive: "+few(dead)), "")
	case len(dead) > 0:
		return ClusterPeers.warn("", fmt.Sprintf("%d members are not alive, %d are", len(dead), alive), errors.New("not alive: "+few(dead)), "start their agents; who is gone for good is forgotten after 72 h")
	case !c.Settled:
		return ClusterPeers.warn("", "this node has not heard its peers yet", nil, "ask again")
	}
	return ClusterPeers.ok("", "%d peers are alive", alive)
}

// few names some.
func few(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// each asks several at once, and gathers what they answer.
func each[W, T any](ctx context.Context, whom []W, ask func(context.Context, W) (T, error)) ([]T, []error) {
	list, errs := make([]T, len(whom)), make([]error, len(whom))
	var wg sync.WaitGroup
	for i, w := range whom {
		wg.Go(func() { list[i], errs[i] = ask(ctx, w) })
	}
	wg.Wait()
	return list, errs
}

func (c Cluster) reach(ctx context.Context) api.Check {
	answers, errs := each(ctx, c.Peers, c.Reach)
	var why []error
	asked, well, away := 0, 0, 0
	for i, p := range c.Peers {
		switch r := answers[i]; {
		case errs[i] != nil && c.Old(errs[i]): // of a version that can't be asked
		case errs[i] != nil:
			asked++
			why = append(why, fmt.Errorf("%s could not be asked: %w", p.Name, errs[i]))
		default:
			asked++
			if r.TCP != "" && r.UDP != "" && r.Peer != "" {
				away++
			}
			if r == (Reached{}) {
				well++
				continue
			}
			why = append(why, r.faults(p.Name)...)
		}
	}
	switch {
	case asked == 0:
		return PortReach.skip("", "the peers are of a version that can't be asked")
	case well == asked:
		return PortReach.ok("", "%d peers reach this node's gossip by UDP and TCP, and its peer API", well)
	case away == asked:
		return PortReach.fault("", "no peer reaches this node", errors.Join(why...), "")
	}
	return PortReach.warn("", fmt.Sprintf("%d of %d peers reach all of this node's ports", well, asked), errors.Join(why...), "")
}

// faults are in words what a peer does not reach.
func (r Reached) faults(peer string) (list []error) {
	for _, f := range []struct{ what, why string }{{"gossip by TCP", r.TCP}, {"gossip by UDP", r.UDP}, {"the peer API", r.Peer}} {
		if f.why != "" {
			list = append(list, fmt.Errorf("from %s, %s: %s", peer, f.what, f.why))
		}
	}
	return list
}

const (
	clockWarn  = time.Second
	clockFault = 10 * time.Second
)

func (c Cluster) clocks(ctx context.Context) api.Check {
	distances, errs := each(ctx, c.Peers, c.Distance)
	var worst Distance
	var whose string
	seen := 0
	for i, p := range c.Peers {
		if errs[i] != nil {
			continue // cluster.peers and port.reach tell of it
		}
		seen++
		if d := distances[i]; seen == 1 || d.Skew.Abs() > worst.Skew.Abs() {
			worst, whose = d, p.Name
		}
	}
	if seen == 0 {
		return ClockPeers.skip("", "no peer has answered")
	}
	text := fmt.Sprintf("the clock of %s is %s before this one's (give or take %s), of %d peers the worst", whose, worst.Skew.Round(time.Millisecond), worst.Within.Round(time.Millisecond), seen)
	cause := errors.New("one of the two clocks is wrong; if all peers differ by the same, it is this node's")
	switch off := worst.Skew.Abs() - worst.Within; {
	case off >= clockFault:
		return ClockPeers.fault("", text, cause, "")
	case off >= clockWarn:
		return ClockPeers.warn("", text, cause, "")
	}
	return ClockPeers.ok("", "%s", text)
}
