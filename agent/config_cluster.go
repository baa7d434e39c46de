package agent

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"

	"qosctl/agent/peer"
	"qosctl/gossip"
)

var (
	profileNames = []string{gossip.ProfileFast, gossip.ProfileLAN}
	fenceKinds   = []string{"none", "zookeeper"}
)

// maxReplicas bounds the copies of a checkpoint.
const maxReplicas = 8

// cluster checks what makes an agent one of several.
func (p *problems) cluster(c ClusterConfig) {
	p.absolute("cluster.key_file", c.KeyFile, false)
	if c.KeyFile == "" {
		return
	}
	p.address("cluster.bind", c.Bind)
	p.address("cluster.peer", c.Peer)
	if c.Advertise != "" {
		p.address("cluster.advertise", c.Advertise)
	}
	if c.PeerAdvertise != "" {
		p.address("cluster.peer_advertise", c.PeerAdvertise)
	}
	for i, j := range c.Join {
		p.address(fmt.Sprintf("cluster.join[%d]", i), j)
	}
	p.oneOf("cluster.profile", c.Profile, profileNames)
	p.oneOf("cluster.fence", c.Fence, fenceKinds)
	p.check(c.Fence != "zookeeper" || len(c.ZooKeeper) > 0, "cluster.zookeeper", c.ZooKeeper, "must have at least one HOST:PORT with cluster.fence zookeeper")
	for i, z := range c.ZooKeeper {
		p.address(fmt.Sprintf("cluster.zookeeper[%d]", i), z)
	}
	p.absolute("cluster.zookeeper_path", c.ZooKeeperPath, true)
	p.positive("cluster.grace", c.Grace)
	p.check(c.Label != "", "cluster.label", c.Label, "must not be empty")
	p.absolute("cluster.ca_file", c.CAFile, false)
	p.absolute("cluster.cert_file", c.CertFile, false)
	p.absolute("cluster.cert_key_file", c.CertKeyFile, false)
	all := (c.CAFile != "") == (c.CertFile != "") && (c.CertFile != "") == (c.CertKeyFile != "")
	p.check(all, "cluster.ca_file", c.CAFile, "ca_file, cert_file and cert_key_file must be given together")
}

func (p *problems) address(key, value string) {
	if value == "" {
		p.add(key, value, "must be HOST:PORT")
		return
	}
	p.listen(key, value)
}

// peerAddress is where peers reach this node's peer API.
func (c ClusterConfig) peerAddress() string {
	if c.PeerAdvertise != "" {
		return c.PeerAdvertise
	}
	host, port, err := net.SplitHostPort(c.Peer)
	if err != nil {
		return c.Peer
	}
	if public, _, err := net.SplitHostPort(c.Advertise); err == nil && public != "" {
		host = public
	}
	return net.JoinHostPort(cmp.Or(host, outward()), port)
}

// outward is the address that this host would send from, "" if it has none but loopback.
func outward() string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && n.IP.To4() != nil {
			return n.IP.String()
		}
	}
	return ""
}

// openCluster makes this agent one of several, if it is to be.
func (a *Agent) openCluster(log *slog.Logger) error {
	c := a.cfg.Cluster
	if c.KeyFile == "" {
		return nil
	}
	keys, err := gossip.LoadKeyring(c.KeyFile)
	if err != nil {
		return fmt.Errorf("cluster.key_file: %w", err)
	}
	who := peer.IdentityOptions{Node: a.node, Logger: log, Files: peer.Files{CA: c.CAFile, Cert: c.CertFile, Key: c.CertKeyFile}}
	if c.CAFile == "" {
		who.Keys = keys.Keys()
	}
	identity, err := peer.NewIdentity(who)
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	a.cluster = newCluster(nil, nil)
	client, err := peer.NewClient(peer.ClientOptions{Identity: identity, Clock: a.cluster.skews.note})
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	a.cluster.peers = client
	a.cluster.keys, a.cluster.identity = keys, identity
	if a.cluster.fence, err = openFence(c, log); err != nil {
		return fmt.Errorf("cluster.fence: %w", err)
	}
	mesh, err := gossip.New(gossip.Options{
		Node: a.node, Bind: c.Bind, Advertise: c.Advertise, Label: c.Label, Keys: keys, Join: c.Join, Profile: c.Profile,
		Store: a.store.gossip(), Peers: meshPeers{client}, Changed: a.peerChanged, MembersChanged: a.stir, MarksChanged: a.marked, Accounts: a.accounts, Logger: log,
	})
	if err != nil {
		return err
	}
	a.cluster.mesh = mesh
	a.metrics.registry.MustRegister(newMeshCollector(mesh.Stats), newSkewCollector(&a.cluster.skews))
	a.cluster.server, err = peer.NewServer(peer.Options{Listen: c.Peer, Identity: identity, Handler: a.peerRoutes(), Logger: log})
	if err != nil {
		return fmt.Errorf("cluster.peer: %w", err)
	}
	return nil
}
