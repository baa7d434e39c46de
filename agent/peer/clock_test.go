package peer

import (
	"testing"
	"time"
)

// A client is told how far a server's clock is from its own, and the answer's time bounds the error.
func TestClientsSeeTheServersClock(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Identity: identity(t, "b", key(1))})
	type seen struct {
		node         string
		skew, within time.Duration
	}
	told := make(chan seen, 1)
	c, err := NewClient(ClientOptions{Identity: identity(t, "a", key(1)), Clock: func(node string, skew, within time.Duration) { told <- seen{node, skew, within} }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	resp, err := c.Do(t.Context(), Target{Node: "b", Addr: s.Addr().String()}, "GET", "/hello", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	got := <-told
	if got.node != "b" || got.within <= 0 || got.skew.Abs() > got.within { // both have the same clock
		t.Errorf("told %+v", got)
	}
}

func TestSkewIsTakenFromTheMiddleOfARequest(t *testing.T) {
	t.Parallel()
	begin := time.Unix(1000, 0)
	for _, c := range []struct {
		clock string
		skew  time.Duration
		ok    bool
	}{
		{"1000050000000", 0, true}, // in the middle of 100 ms
		{"1003050000000", 3 * time.Second, true},
		{"998050000000", -2 * time.Second, true},
		{"", 0, false},
		{"noon", 0, false},
	} {
		skew, within, ok := skewOf(map[string][]string{clockHeader: {c.clock}}, begin, 100*time.Millisecond)
		if skew != c.skew || ok != c.ok || ok && within != 50*time.Millisecond {
			t.Errorf("%q: %s ± %s, %t; want %s, %t", c.clock, skew, within, ok, c.skew, c.ok)
		}
	}
}
