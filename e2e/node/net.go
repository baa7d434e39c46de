package node

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Net is a bridge of this machine with nodes on it, which reach one another and this machine by it, and nothing else.
type Net struct {
	bridge string
	prefix string // of its addresses: the first three numbers
	used   int    // of the nodes' addresses
}

// NewNet makes a bridge, whose name and addresses come from the network's name. One of a former run, whose process was killed, is
// replaced.
func NewNet(ctx context.Context, name string) (*Net, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("networks of nodes need root")
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	sum := h.Sum32()
	// 198.18.0.0/15 is for tests of networks (RFC 2544).
	w := &Net{bridge: fmt.Sprintf("qb%08x", sum), prefix: fmt.Sprintf("198.%d.%d.", 18+sum%2, (sum>>1)%256)}
	_ = ip(ctx, "link", "del", w.bridge) // there is none, at best
	for _, args := range [][]string{
		{"link", "add", w.bridge, "type", "bridge"},
		{"addr", "add", w.Address() + "/24", "dev", w.bridge},
		{"link", "set", w.bridge, "up"},
	} {
		if err := ip(ctx, args...); err != nil {
			return nil, errors.Join(fmt.Errorf("make a network of nodes: %w", err), w.Close(ctx))
		}
	}
	return w, nil
}

// Address is this machine's on the network.
func (w *Net) Address() string { return w.prefix + "1" }

// Close removes the bridge. Nodes on it are alone then.
func (w *Net) Close(ctx context.Context) error {
	if err := ip(ctx, "link", "del", w.bridge); err != nil && !strings.Contains(err.Error(), "Cannot find device") {
		return fmt.Errorf("remove the network of nodes: %w", err)
	}
	return nil
}

// Attach puts a node on the network and returns its address.
func (w *Net) Attach(ctx context.Context, n *Node) (string, error) {
	w.used++
	n.address = w.prefix + strconv.Itoa(10+w.used)
	n.wire = fmt.Sprintf("qv%s%02d", w.bridge[2:8], w.used)
	err := ip(ctx, "link", "add", n.wire, "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(n.pid))
	if err == nil {
		err = ip(ctx, "link", "set", n.wire, "master", w.bridge, "up")
	}
	if err == nil {
		err = n.ip(ctx, "addr", "add", n.address+"/24", "dev", "eth0")
	}
	if err == nil {
		err = n.ip(ctx, "link", "set", "eth0", "up")
	}
	if err != nil {
		return "", fmt.Errorf("attach node %s to its network: %w", n.o.Name, err)
	}
	return n.address, nil
}

// Address is the node's on its network; "": it is on none.
func (n *Node) Address() string { return n.address }

// Cut takes the node's cable out: it reaches nobody, and nobody it.
func (n *Node) Cut(ctx context.Context) error { return n.cable(ctx, "down") }

// Heal plugs the cable in again.
func (n *Node) Heal(ctx context.Context) error { return n.cable(ctx, "up") }

func (n *Node) cable(ctx context.Context, to string) error {
	if err := ip(ctx, "link", "set", n.wire, to); err != nil {
		return fmt.Errorf("take the cable of node %s %s: %w", n.o.Name, to, err)
	}
	return nil
}

// CutFrom has the node and others throw away what they send to each other. Whoever else is on the network, this machine too, reaches all of
// them.
func (n *Node) CutFrom(ctx context.Context, others ...*Node) error {
	return n.between(ctx, "add", others)
}

// HealFrom undoes CutFrom.
func (n *Node) HealFrom(ctx context.Context, others ...*Node) error {
	return n.between(ctx, "del", others)
}

func (n *Node) between(ctx context.Context, verb string, others []*Node) error {
	var errs []error
	for _, o := range others {
		errs = append(errs, n.ip(ctx, "route", verb, "blackhole", o.address+"/32"), o.ip(ctx, "route", verb, "blackhole", n.address+"/32"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("part node %s from others: %w", n.o.Name, err)
	}
	return nil
}

// Kill ends all that runs on the node at once, as a power cut does. Stop is still to be called.
func (n *Node) Kill() error {
	if err := syscall.Kill(n.pid, syscall.SIGKILL); err != nil { // its PID namespace dies with it
		return fmt.Errorf("kill node %s: %w", n.o.Name, err)
	}
	_ = n.cmd.Process.Kill() // ends with it
	t := time.NewTimer(stopTime)
	defer t.Stop()
	select {
	case <-n.done:
		return nil
	case <-t.C:
		return fmt.Errorf("node %s does not end", n.o.Name)
	}
}

// Pause stops all processes of the node, its containers' too, until Resume: nothing on it sees the time pass.
func (n *Node) Pause(ctx context.Context) error { return n.freeze(ctx, "FROZEN") }

// Resume lets the node go on.
func (n *Node) Resume(ctx context.Context) error { return n.freeze(ctx, "THAWED") }

func (n *Node) freeze(ctx context.Context, state string) error {
	path := filepath.Join(cgroupRoot, "freezer", prefix+n.o.Name, "freezer.state")
	if err := os.WriteFile(path, []byte(state), 0o644); err != nil {
		return fmt.Errorf("pause or resume node %s: %w", n.o.Name, err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("pause or resume node %s: %w", n.o.Name, err)
		}
		if strings.TrimSpace(string(b)) == state {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("pause or resume node %s: it stays %s: %w", n.o.Name, strings.TrimSpace(string(b)), ctx.Err())
		}
	}
}

// ip runs ip(8) in the node's network.
func (n *Node) ip(ctx context.Context, args ...string) error {
	return run(ctx, "nsenter", append([]string{"-t", strconv.Itoa(n.pid), "-n", "ip"}, args...)...)
}

// ip runs ip(8) of this machine.
func ip(ctx context.Context, args ...string) error { return run(ctx, "ip", args...) }

func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, tail(out))
	}
	return nil
}
