package cli

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"qosctl/agent"
	"qosctl/devmesos"
	"qosctl/framework"
)

// devNode is what a node of a dev has of its own.
type devNode struct {
	number int    // from 1
	name   string // "": the machine's host name, of the only one
	dir    string // of its agent's run and data directories and its configuration
	listen string // of its agent's API
	mesos  string // of its Mesos agent's API
	agent  string // cgroup of its agent's containers
	tasks  string // cgroup of its Mesos agent's tasks
	marks  string // directory of a mark for each of those
	cpus   float64
	gossip string // of a cluster's: addresses of its agent's gossip and of its peer API
	peer   string
	key    string   // file of the key that all agents share
	join   []string // gossip of all
}

// maxDevNodes is as many as there are ranges of ports for.
const maxDevNodes = 32

// nodes lists a dev's nodes. The first one has what the only one has, but for its name and its share of the CPUs.
func (o devOpts) nodes() ([]devNode, error) {
	count := max(o.nodeCount, 1)
	list := make([]devNode, 0, count)
	for i := 1; i <= count; i++ {
		n := devNode{
			number: i, dir: o.dir, agent: "/qosctl-dev-" + shortHash(o.dir), tasks: o.mesosParent(), marks: filepath.Join(o.dir, "devmesos", "running"),
			cpus: o.cpus,
		}
		if o.parent != "" {
			n.agent = filepath.Join("/", o.parent, "qosctl")
		}
		var err1, err2 error
		n.listen, err1 = nextAddress(o.listen, i-1)
		n.mesos, err2 = nextAddress(o.mesos, i-1)
		if err := errors.Join(err1, err2); err != nil {
			return nil, &usageError{err, ""}
		}
		if count > 1 {
			n.name = "node" + strconv.Itoa(i)
			n.tasks += "-" + n.name
			if n.cpus == 0 {
				n.cpus = float64(runtime.NumCPU()) / float64(count)
			}
		}
		if count > 1 {
			n.key = filepath.Join(o.dir, "cluster.key")
			n.gossip, err1 = nextAddress(o.gossip, i-1)
			n.peer, err2 = nextAddress(o.peer, i-1)
			if err := errors.Join(err1, err2); err != nil {
				return nil, &usageError{err, ""}
			}
		}
		if i > 1 {
			n.dir, n.marks = filepath.Join(o.dir, n.name), filepath.Join(o.dir, "devmesos", n.name, "running")
			n.agent += "-" + n.name
		}
		list = append(list, n)
	}
	if count > 1 {
		for i := range list {
			list[i].join = []string{list[0].gossip, list[1].gossip}
		}
	}
	return list, nil
}

// nextAddress is an address whose port is so much greater. Port 0 stays: any.
func nextAddress(address string, by int) (string, error) {
	if by == 0 {
		return address, nil
	}
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("address of a node: %w", err)
	}
	port, err := strconv.Atoi(text)
	switch {
	case err != nil || port < 0 || port+by > 65535:
		return "", fmt.Errorf("address of a node: no port is %d above that of %s", by, address)
	case port == 0:
		return address, nil
	}
	return net.JoinHostPort(host, strconv.Itoa(port+by)), nil
}

// config is the configuration of a node's agent.
func (n devNode) config(o devOpts) (agent.Config, error) {
	self, err := os.Executable()
	if err != nil {
		return agent.Config{}, fmt.Errorf("find this program: %w", err)
	}
	c := agent.Default()
	o.common(&c, self)
	n.own(&c)
	if !o.docker {
		c.Checkpoint.Dir = ""
	}
	return o.withSettings(c)
}

// own sets what differs from node to node.
func (n devNode) own(c *agent.Config) {
	c.Node = n.name
	c.DataDir, c.RunDir = filepath.Join(n.dir, "data"), filepath.Join(n.dir, "run")
	c.Listen = n.listen
	c.Cgroup.Parent = n.agent
	c.Checkpoint.Dir = filepath.Join(devCheckpoints, "dev-"+shortHash(n.dir))
	c.Control.CPUs = n.cpus
	c.Mesos.URL = "http://" + n.mesos
	c.Cluster.KeyFile, c.Cluster.Bind, c.Cluster.Peer, c.Cluster.Join = n.key, n.gossip, n.peer, n.join
	if n.key == "" {
		c.Cluster = agent.Default().Cluster
	}
}

// writeNodes writes what the agents of all nodes read when they start.
func writeNodes(nodes []devNode, configs []agent.Config) error {
	for i, n := range nodes {
		if err := n.write(configs[i]); err != nil {
			return err
		}
	}
	return nodes[0].writeKey()
}

// writeKey makes the key that the agents of a cluster share, once.
func (n devNode) writeKey() error {
	if n.key == "" {
		return nil
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	err := os.WriteFile(n.key, []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600)
	if err != nil {
		return fmt.Errorf("make the cluster's key: %w", err)
	}
	return nil
}

// file is where the configuration of a node's agent is.
func (n devNode) file() string { return filepath.Join(n.dir, "agent.yaml") }

// write writes the configuration of a node's agent.
func (n devNode) write(c agent.Config) error {
	data, err := c.YAML()
	if err == nil {
		err = os.MkdirAll(n.dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(n.file(), data, 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the agent's configuration: %w", err)
	}
	return nil
}

// mark is what is to be cleared up of a node.
func (n devNode) mark(c agent.Config) nodeMark {
	return nodeMark{Dir: n.dir, Agent: n.agent, Mesos: n.tasks, Marks: n.marks, Docker: c.Engine.Docker, Checkpoints: c.Checkpoint.Dir}
}

// writeNodesFile tells the scheduler of a dev of several nodes about them; "": there is one.
func (o devOpts) writeNodesFile(nodes []devNode) (string, error) {
	if len(nodes) == 1 {
		return "", nil
	}
	list := make([]devmesos.LocalNode, 0, len(nodes))
	for _, n := range nodes {
		list = append(list, devmesos.LocalNode{
			Hostname: n.name, Mesos: n.mesos, CPUs: n.cpus, CgroupParent: n.tasks, Dir: filepath.Dir(n.marks),
			ExecutorEnv: map[string]string{framework.EnvNodeSocket: filepath.Join(n.dir, "run", "standin.sock")},
		})
	}
	b, err := json.Marshal(list)
	path := filepath.Join(o.dir, "nodes.json")
	if err == nil {
		err = os.WriteFile(path, b, 0o644)
	}
	if err != nil {
		return "", fmt.Errorf("write the list of nodes: %w", err)
	}
	return path, nil
}
