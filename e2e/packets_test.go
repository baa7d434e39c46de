package e2e

import (
	"encoding/binary"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// packets begins to take down what goes over the loopback between the agents: gossip and the peer API.
func (p *planted) packets() {
	p.t.Helper()
	ports := map[uint16]bool{}
	for _, first := range p.ports {
		_, text, err := net.SplitHostPort(first)
		if err != nil {
			p.t.Fatal(err)
		}
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			p.t.Fatal(err)
		}
		ports[uint16(n)], ports[uint16(n)+1] = true, true
	}
	p.leave = capture(p.t, ports)
}

// mostPackets bounds what is taken down, in bytes.
const mostPackets = 64 << 20

// capture takes down the payload of all packets from or to ports of this machine, until it is left.
func capture(t *testing.T, ports map[uint16]bool) (leave func() []byte) {
	t.Helper()
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in the network's order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, all)
	if err != nil {
		t.Fatalf("take packets down: %v (needs CAP_NET_RAW)", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: lo.Index}); err != nil {
		t.Fatal(err)
	}
	tv := unix.NsecToTimeval((200 * time.Millisecond).Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		t.Fatal(err)
	}
	var (
		seen []byte
		wait sync.WaitGroup
		done = make(chan struct{})
	)
	wait.Go(func() {
		defer unix.Close(fd)
		for b := make([]byte, 1<<17); ; {
			select {
			case <-done:
				return
			default:
			}
			n, _, err := unix.Recvfrom(fd, b, 0)
			if err == nil && len(seen) < mostPackets && concerns(b[:n], ports) {
				seen = append(seen, b[:n]...)
			}
		}
	})
	stop := sync.OnceFunc(func() { close(done); wait.Wait() })
	t.Cleanup(stop)
	return func() []byte { stop(); return seen }
}

// concerns says whether an Ethernet frame is of TCP or UDP over IPv4, from or to one of the ports.
func concerns(frame []byte, ports map[uint16]bool) bool {
	const eth = 14
	if len(frame) < eth+24 || binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_IP {
		return false
	}
	ip := frame[eth:]
	head := int(ip[0]&0x0f) * 4
	if ip[9] != unix.IPPROTO_TCP && ip[9] != unix.IPPROTO_UDP || len(ip) < head+4 {
		return false
	}
	return ports[binary.BigEndian.Uint16(ip[head:])] || ports[binary.BigEndian.Uint16(ip[head+2:])]
}
