package devmesos

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"qosctl/devmesos/node"
	"qosctl/devmesos/snapshot"
)

// member is a node with the listener of its agent's API.
type member struct {
	node     *node.Node
	listener net.Listener
}

// newMember makes a node. ID "": a new one.
func newMember(o Options, l LocalNode, id string, log *slog.Logger) (*member, error) {
	listener, err := net.Listen("tcp", l.Mesos)
	if err != nil {
		return nil, err
	}
	n, err := node.New(node.Options{
		Hostname: l.Hostname, Attributes: l.Attributes, CPUs: l.CPUs, MemMiB: l.MemMiB, DiskMiB: 100 << 10, FirstPort: l.FirstPort, Deploy: o.Deploy,
		Dir: l.Dir, CgroupRoot: o.CgroupRoot, Proc: o.Proc, Parent: l.CgroupParent, Images: o.Images, Docker: o.Docker,
		Logger: log.With("node", l.Hostname), ID: id, Address: listener.Addr().String(), ExecutorEnv: l.ExecutorEnv,
	})
	if err != nil {
		_ = listener.Close() // nobody has used it
		return nil, fmt.Errorf("node %s: %w", l.Hostname, err)
	}
	return &member{node: n, listener: listener}, nil
}

func (m *member) addr() string { return m.listener.Addr().String() }

// run obeys a master until ctx ends and all tasks have ended.
func (m *member) run(ctx context.Context, to node.Master, lasting bool) error {
	follow, stop := context.WithCancel(context.WithoutCancel(ctx))
	var g errgroup.Group
	g.Go(func() error {
		m.node.Follow(follow, to, lasting)
		return nil
	})
	err := m.node.Run(ctx)
	stop()
	return errors.Join(err, g.Wait())
}

// Node is a node of a cluster whose master is another process.
type Node struct {
	o      Options
	log    *slog.Logger
	lock   *os.File
	member *member
	master *node.Remote
}

// NewNode makes a node that follows the master at a URL. Of the options, the node's fields (Dir, Hostname, Mesos, CPUs, …, or the only one of
// Nodes), Open and Token count. Run must follow.
func NewNode(masterURL string, o Options) (_ *Node, err error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if len(o.Nodes) != 1 {
		return nil, errors.New("devmesos: a process is one node of another's cluster")
	}
	if host, _, err := net.SplitHostPort(o.Nodes[0].Mesos); err != nil || host == "" || net.ParseIP(host).IsUnspecified() {
		return nil, fmt.Errorf("devmesos: mesos: a node is known to others by its address, so it must be one (got %q)", o.Nodes[0].Mesos)
	}
	n := &Node{o: o, log: o.Logger.With("pkg", "devmesos")}
	if n.master, err = node.Dial(masterURL, o.Token); err != nil {
		return nil, fmt.Errorf("devmesos: %w", err)
	}
	if n.lock, err = openDir(o.Dir); err != nil {
		return nil, err
	}
	id, err := n.agentID()
	if err == nil {
		n.member, err = newMember(o, o.Nodes[0], id, n.log)
	}
	if err != nil {
		unlock(n.lock)
		return nil, fmt.Errorf("devmesos: %w", err)
	}
	return n, nil
}

// agentID is the one that the directory has: an agent that starts again in it is the same one.
func (n *Node) agentID() (string, error) {
	var saved struct {
		ID string `json:"id"`
	}
	path := filepath.Join(n.o.Dir, "agent.json")
	if _, err := snapshot.Load(path, &saved); err != nil {
		return "", err
	}
	if saved.ID != "" {
		return saved.ID, nil
	}
	saved.ID = node.NewUUID() + "-S0"
	return saved.ID, snapshot.Save(path, saved)
}

// Addr is where the agent's API is.
func (n *Node) Addr() string { return n.member.addr() }

// Run obeys the master until ctx ends, ends all tasks, and tells of it.
func (n *Node) Run(ctx context.Context) error {
	defer unlock(n.lock)
	defer n.master.Close()
	g, ctx := errgroup.WithContext(ctx)
	serve(ctx, g, n.member.listener, guard(n.member.node.Handler(), n.o.Open), n.log)
	g.Go(func() error { return n.member.run(ctx, n.master, true) })
	return g.Wait()
}
