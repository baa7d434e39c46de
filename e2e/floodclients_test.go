package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// floodVar makes of the test program the clients of TestFlood: SCHEME ADDRESS SOCKET.
const floodVar = "QOSCTL_E2E_FLOOD"

// floods are the clients: at an agent's network address and at its stand-ins' socket.
type floods struct {
	scheme, address, socket string

	dialled, cut atomic.Int64
	most         atomic.Int64 // open at once, as the clients see it
	open         atomic.Int64
}

// floodMain misbehaves until its standard input ends.
func floodMain(text string) int {
	f := &floods{}
	_, err := fmt.Sscan(text, &f.scheme, &f.address, &f.socket)
	if err == nil {
		err = errors.Join(raise(), syscall.Setpriority(syscall.PRIO_PROCESS, 0, 19)) // in truth they are elsewhere, and take no CPU from an agent
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, stop := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	for i := range floodClients {
		wait.Go(func() { f.attack(ctx, i) })
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	stop()
	wait.Wait()
	fmt.Fprintf(os.Stdout, "%d clients, %d connections, %d cut, at most %d open", floodClients, f.dialled.Load(), f.cut.Load(), f.most.Load())
	if err != nil {
		return 1
	}
	return 0
}

// raise lets this process have as many files as it needs.
func raise() error {
	const need = floodClients + 2000
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	if l.Cur >= need {
		return nil
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: need, Max: max(l.Max, need)}); err != nil {
		return fmt.Errorf("needs %d open files: %w", need, err)
	}
	return nil
}

// attack is one client, which comes again some time after it was cut.
func (f *floods) attack(ctx context.Context, i int) {
	rng := rand.New(rand.NewPCG(uint64(i), 1))
	for ctx.Err() == nil {
		if c, err := f.dial(ctx, i); err == nil {
			f.dialled.Add(1)
			f.most.Store(max(f.most.Load(), f.open.Add(1))) // about
			stop := context.AfterFunc(ctx, func() { _ = c.Close() })
			misbehave(ctx, c, i)
			if stop() {
				_ = c.Close()
				f.cut.Add(1)
			}
			f.open.Add(-1)
		}
		rest := time.NewTimer(time.Duration(rng.IntN(5000)) * time.Millisecond)
		select {
		case <-ctx.Done():
		case <-rest.C:
		}
		rest.Stop()
	}
}

// dial connects: a tenth to the stand-ins' socket, a third from one address, the others from a thousand.
func (f *floods) dial(ctx context.Context, i int) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	if i%10 == 0 {
		return d.DialContext(ctx, "unix", f.socket)
	}
	host := net.IPv4(127, 0, 9, 9)
	if i%3 != 0 {
		host = net.IPv4(127, 1, byte(i%1000>>8), byte(i%1000))
	}
	d.LocalAddr = &net.TCPAddr{IP: host}
	c, err := d.DialContext(ctx, "tcp", f.address)
	if err != nil || f.scheme == "http" || i%2 == 0 { // half of them do not even begin with TLS
		return c, err
	}
	t := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	within, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := t.HandshakeContext(within); err != nil {
		_ = c.Close() // cut
		return nil, err
	}
	return t, nil
}

// blanks has no end.
type blanks struct{}

func (blanks) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

// misbehave does what client i does, until it is cut.
func misbehave(ctx context.Context, c net.Conn, i int) {
	const standin = "POST /v1/standin/11111111-2222-3333-4444-555555555555/claim HTTP/1.1\r\nHost: localhost\r\n"
	say := func(text string) bool { _, err := io.WriteString(c, text); return err == nil }
	route := "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n"
	if _, unix := c.(*net.UnixConn); unix {
		route = standin
	}
	switch i / 10 % 8 {
	case 0: // says nothing
	case 1:
		drip(ctx, c, "GET /v1/health HTTP/1.1\r\nX: ")
		return
	case 2: // a header without an end
		if say("GET /v1/health HTTP/1.1\r\nX: ") {
			_, _ = io.Copy(c, blanks{}) // cut
		}
	case 3: // a gigabyte, of an operator
		if say(route + "Authorization: Bearer " + floodToken + "\r\nContent-Length: 1073741824\r\n\r\n") {
			_, _ = io.Copy(c, io.LimitReader(blanks{}, 1<<30)) // likewise
		}
	case 4: // a gigabyte of nobody's, in pieces
		if say(route + "Transfer-Encoding: chunked\r\n\r\n3fffffff\r\n") {
			_, _ = io.Copy(c, io.LimitReader(blanks{}, 1<<30)) // likewise
		}
	case 5: // a body that drips
		drip(ctx, c, route+"Authorization: Bearer "+floodToken+"\r\nContent-Length: 1000\r\n\r\n")
		return
	case 6: // half closed
		_ = say("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if h, ok := c.(interface{ CloseWrite() error }); ok {
			_ = h.CloseWrite() // nobody minds
		}
	case 7: // asks without an end, and reads nothing
		for say(strings.Repeat("GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n", 20)) {
			continue
		}
	}
	_, _ = io.Copy(io.Discard, c) // until it is cut
}

// drip says something, and then a byte a second.
func drip(ctx context.Context, c net.Conn, text string) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for _, err := io.WriteString(c, text); err == nil; _, err = io.WriteString(c, "x") {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
