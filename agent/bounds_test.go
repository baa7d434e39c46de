package agent

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// endless is a body, or a line of a header, without an end; it counts what was taken of it.
type endless struct{ taken int }

func (e *endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	e.taken += len(b)
	return len(b), nil
}

// Of an endless body no more is read than the bound, on each route that takes one.
func TestEndlessBodiesAreNotRead(t *testing.T) {
	t.Parallel()
	_, h := guarded(t, readsOpen)
	for _, e := range endpoints {
		method, _, _ := strings.Cut(e.route, " ")
		if method != http.MethodPost {
			continue
		}
		body := &endless{}
		r := httptest.NewRequestWithContext(t.Context(), method, e.path, io.NopCloser(body))
		r.Host = "localhost"
		r.Header.Set("Authorization", "Bearer "+operatorToken)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if body.taken > maxBody+maxHeader {
			t.Errorf("%s has read %d bytes", e.route, body.taken)
		}
		if body.taken > 0 && w.Code < 400 {
			t.Errorf("%s answers %d to a body of blanks", e.route, w.Code)
		}
	}
}

// An endless header is refused, and connections that say nothing keep nobody out: the one that comes next is served, and the oldest goes.
func TestEndlessHeadersAndSilentClients(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const most = 4
	s := n.agent.newServer(newGate(plain, gateBounds{all: most, each: most, waiting: most}), n.agent.guard(n.agent.adminRoutes()))
	ctx, stop := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := s.run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer wait.Wait()
	defer stop()
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", plain.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	status := func(c net.Conn) string {
		t.Helper()
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(line)
	}

	header := dial()
	defer header.Close()
	written := make(chan error, 1)
	wait.Go(func() {
		_, err := io.Copy(header, io.MultiReader(strings.NewReader("GET /v1/health HTTP/1.1\r\nX: "), io.LimitReader(&endless{}, 1<<30)))
		written <- err
	})
	if got := status(header); !strings.Contains(got, "431") {
		t.Errorf("an endless header is answered %q", got)
	}
	_ = header.Close() // ends the writing, if the server has not
	if err := <-written; err == nil {
		t.Error("a gigabyte of header was taken")
	}

	var silent []net.Conn
	for range most {
		c := dial()
		defer c.Close()
		silent = append(silent, c)
	}
	next := dial()
	defer next.Close()
	if _, err := io.WriteString(next, "GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if got := status(next); !strings.Contains(got, "200") {
		t.Errorf("the one behind the silent ones is answered %q", got)
	}
	if _, err := silent[0].Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the one that was silent for longest: %v", err)
	}
}
