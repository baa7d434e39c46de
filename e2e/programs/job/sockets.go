package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"time"
)

// listen holds a listening TCP socket. It connects to itself at its start and after each restore, not in between: a connection that is just
// then established would make a dump fail.
type listen struct {
	address string
	socket  *net.TCPListener
	born    string
	visits  int
}

func (l *listen) flags(set *flag.FlagSet) {
	set.StringVar(&l.address, "address", "127.0.0.1:7070", "to listen on")
}

func (l *listen) begin([]string) error {
	s, err := net.Listen("tcp", l.address)
	if err != nil {
		return err
	}
	var ok bool
	if l.socket, ok = s.(*net.TCPListener); !ok {
		return fmt.Errorf("a %T is no TCP socket", s)
	}
	return nil
}

// step prints how often the socket was tried: once more after each restore.
func (l *listen) step(int64) (string, error) {
	born, err := startTime()
	if err == nil && born != l.born {
		l.born = born
		l.visits++
		err = l.visit()
	}
	return fmt.Sprint(l.visits), err
}

func (l *listen) visit() error {
	a, b, err := connect(l.socket)
	if err != nil {
		return err
	}
	err = exchange(a, b, 1)
	for _, c := range []*net.TCPConn{a, b} {
		err = errors.Join(err, c.SetLinger(0), c.Close()) // nothing waits in the kernel for a minute
	}
	return err
}

// connect makes a connection of a listener with itself.
func connect(s *net.TCPListener) (a, b *net.TCPConn, err error) {
	if err := s.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, nil, err
	}
	c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(context.Background(), "tcp", s.Addr().String()) // the kernel takes it; accept comes after
	if err != nil {
		return nil, nil, err
	}
	a, ok := c.(*net.TCPConn)
	if !ok {
		return nil, nil, fmt.Errorf("a %T is no TCP connection", c)
	}
	b, err = s.AcceptTCP()
	return a, b, errors.Join(err, s.SetDeadline(time.Time{}))
}

// exchange sends a number there and back.
func exchange(a, b io.ReadWriter, n int64) error {
	for range 2 {
		if err := binary.Write(a, binary.LittleEndian, n); err != nil {
			return err
		}
		var got int64
		if err := binary.Read(b, binary.LittleEndian, &got); err != nil {
			return err
		}
		if got != n {
			return fmt.Errorf("%d was sent, %d has come", n, got)
		}
		a, b = b, a
	}
	return nil
}

// pair holds an established TCP connection with itself, and one byte stream that never rests: of the numbers sent one is always on its way.
type pair struct {
	address string
	a, b    *net.TCPConn
}

func (p *pair) flags(set *flag.FlagSet) {
	set.StringVar(&p.address, "address", "127.0.0.1:7071", "to connect to itself by")
}

func (p *pair) begin([]string) error {
	s, err := net.Listen("tcp", p.address)
	if err != nil {
		return err
	}
	l, ok := s.(*net.TCPListener)
	if !ok {
		return fmt.Errorf("a %T is no TCP socket", s)
	}
	if p.a, p.b, err = connect(l); err != nil {
		return err
	}
	return errors.Join(s.Close(), binary.Write(p.a, binary.LittleEndian, int64(0)))
}

func (p *pair) step(n int64) (string, error) {
	if err := binary.Write(p.a, binary.LittleEndian, n); err != nil {
		return "", err
	}
	var got int64
	if err := binary.Read(p.b, binary.LittleEndian, &got); err != nil {
		return "", err
	}
	if got != n-1 {
		return "", fmt.Errorf("%d has come, not %d", got, n-1)
	}
	return p.a.LocalAddr().String(), nil
}
