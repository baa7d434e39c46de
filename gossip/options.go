package gossip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"

	"qosctl/qos"
)

// Options are what a Mesh is made of.
type Options struct {
	Node      string   // this node's name: unique in the cluster, kept over restarts
	Bind      string   // host:port that memberlist listens on, UDP and TCP; port 0: any
	Advertise string   // host:port that others reach it by; "": Bind's
	Label     string   // of the cluster: others are not heard
	Keys      *Keyring // required, but for Insecure
	Insecure  bool     // no encryption: for tests
	Join      []string // host:port of some members; this node may be among them
	Profile   string   // "fast" (default) or "lan"

	Store     Store                // nil: nothing is remembered over a restart
	Peers     Peers                // required
	Transport memberlist.Transport // nil: the network

	// Changed is told of jobs whose record changed through a peer, Removed of jobs that a peer removed, MembersChanged of members and
	// marks. All are called from one goroutine of Run, one after another; what comes meanwhile is told once for each job.
	Changed        func(qos.Record)
	Removed        func(id string)
	MembersChanged func()
	MarksChanged   func()
	// Accounts are those of the jobs that run here. It is asked every few seconds.
	Accounts func() []Account

	Logger *slog.Logger // nil: silent
}

// Store keeps what is to survive a restart.
type Store interface {
	// Each calls f for every item of a bucket; a bucket that was never written is empty. key and value are f's own.
	Each(bucket string, f func(key string, value []byte) error) error
	// Write writes all items or none, durably.
	Write(items []Item) error
}

// Item is one write. A nil value deletes.
type Item struct {
	Bucket, Key string
	Value       []byte
}

// Peers calls other nodes over a channel where both sides have proven who they are. What the other side answers is Mesh.Answer's.
// Answers of more than MaxAnswer bytes may be refused. An error is ErrRefused if the other side has answered, and would to the same again.
type Peers interface {
	Call(ctx context.Context, to Member, kind string, body []byte) ([]byte, error)
}

// ErrRefused says that a peer does not take what it was sent, or gives what can't be taken.
var ErrRefused = errors.New("refused")

// MaxAnswer bounds a call's body and its answer: a page, and one row of the largest kind.
const MaxAnswer = maxPage + maxRow + 1<<16

func (o *Options) check() error {
	var errs []error
	add := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("gossip: "+format, args...))
		}
	}
	add(o.Node == "" || len(o.Node) > maxNode || !printable(o.Node), "node: want a name of 1 to %d printable bytes (got %.80q)", maxNode, o.Node)
	add(o.Peers == nil, "peers: missing")
	add(o.Keys == nil && !o.Insecure, "keys: missing: a cluster without a key is open to everybody")
	add(len(o.Label) > memberlist.LabelMaxSize, "label: has %d bytes, more than %d", len(o.Label), memberlist.LabelMaxSize)
	if _, err := o.profile(); err != nil {
		errs = append(errs, err)
	}
	if _, _, err := splitAddress(o.Bind); err != nil {
		errs = append(errs, fmt.Errorf("gossip: bind: %w", err))
	}
	if o.Advertise != "" {
		if host, _, err := splitAddress(o.Advertise); err != nil {
			errs = append(errs, fmt.Errorf("gossip: advertise: %w", err))
		} else {
			add(net.ParseIP(host) == nil, "advertise: want an IP address (got %q)", host)
		}
	}
	for _, j := range o.Join {
		if _, _, err := splitAddress(j); err != nil {
			errs = append(errs, fmt.Errorf("gossip: join: %w", err))
		}
	}
	return errors.Join(errs...)
}

// maxNode bounds a node's own name, so that a claim's broadcast has room for it and for the place of a checkpoint elsewhere.
const maxNode = 128

// splitAddress takes host:port apart. An empty host is 0.0.0.0.
func splitAddress(s string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, fmt.Errorf("want host:port (got %q)", s)
	}
	port, err = strconv.Atoi(p)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("want a port from 0 to 65535 (got %q)", s)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	return host, port, nil
}

// profile is what a profile's name stands for.
type profile struct {
	base         func() *memberlist.Config
	gossip       time.Duration
	nodes        int
	probe        time.Duration // a death is told by this × (2 + suspicion × log10 of the nodes), or so
	probeTimeout time.Duration
	suspicion    int
	pushPull     time.Duration
	toTheDead    time.Duration
	tcp          time.Duration

	poll     time.Duration // of the members, for settling
	rejoin   time.Duration // between two tries
	soon     time.Duration // between two exchanges while there is something to exchange
	rest     time.Duration // between two exchanges while there is not
	accounts time.Duration
	meta     time.Duration // between two changes of the meta that are told
}

// Profiles.
const (
	ProfileFast = "fast"
	ProfileLAN  = "lan"
)

func (o *Options) profile() (profile, error) {
	fast := profile{
		base: memberlist.DefaultLANConfig, gossip: 100 * time.Millisecond, nodes: 4,
		probe: 950 * time.Millisecond, probeTimeout: 250 * time.Millisecond, suspicion: 3,
		pushPull: 10 * time.Second, toTheDead: 2 * time.Minute, tcp: 3 * time.Second,
		poll: 500 * time.Millisecond, rejoin: 15 * time.Second, soon: 250 * time.Millisecond, rest: 30 * time.Second,
		accounts: 10 * time.Second, meta: 5 * time.Second,
	}
	switch o.Profile {
	case "", ProfileFast:
		return fast, nil
	case ProfileLAN:
		lan := fast
		lan.gossip, lan.nodes, lan.probeTimeout, lan.suspicion = 200*time.Millisecond, 3, 500*time.Millisecond, 4
		lan.probe, lan.pushPull, lan.tcp, lan.poll, lan.rejoin = time.Second, 30*time.Second, 10*time.Second, time.Second, 30*time.Second
		lan.soon = 500 * time.Millisecond
		return lan, nil
	}
	return profile{}, fmt.Errorf("gossip: profile: want %s or %s (got %q)", ProfileFast, ProfileLAN, o.Profile)
}

// config is memberlist's, without its callbacks.
func (o *Options) config(p profile, logs io.Writer) (*memberlist.Config, error) {
	host, port, err := splitAddress(o.Bind)
	if err != nil {
		return nil, fmt.Errorf("gossip: bind: %w", err)
	}
	c := p.base()
	c.Name, c.Label = o.Node, o.Label
	c.BindAddr, c.BindPort = host, port
	c.AdvertisePort = port
	if o.Advertise != "" {
		if c.AdvertiseAddr, c.AdvertisePort, err = splitAddress(o.Advertise); err != nil {
			return nil, fmt.Errorf("gossip: advertise: %w", err)
		}
	}
	c.GossipInterval, c.GossipNodes = p.gossip, p.nodes
	c.ProbeInterval, c.ProbeTimeout, c.SuspicionMult = p.probe, p.probeTimeout, p.suspicion
	c.PushPullInterval, c.GossipToTheDeadTime = p.pushPull, p.toTheDead
	c.TCPTimeout = p.tcp
	c.DeadNodeReclaimTime = 30 * time.Second
	c.EnableCompression = false // it costs each packet a table of 78 KB, and binary messages grow by it
	c.LogOutput = logs
	if o.Keys != nil && !o.Insecure {
		c.Keyring = o.Keys.ring
	}
	return c, nil
}
