package node

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bare is a network namespace alone, as far as networks are concerned a node.
func bare(t *testing.T, name string) *Node {
	t.Helper()
	n := &Node{o: Options{Name: name}, done: make(chan struct{}), cmd: exec.Command("sleep", "1000")}
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n.pid = n.cmd.Process.Pid
	n.waits.Go(func() {
		defer close(n.done)
		_ = n.cmd.Wait() // killed
	})
	t.Cleanup(func() {
		_ = n.cmd.Process.Kill() // has been killed, at worst
		n.waits.Wait()
	})
	return n
}

func TestNet(t *testing.T) {
	if os.Getenv("QOSCTL_E2E") == "" || os.Geteuid() != 0 {
		t.Skip("end-to-end tests run as root with QOSCTL_E2E=1: make e2e")
	}
	ctx := t.Context()
	w, err := NewNet(ctx, "test-net")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Close(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
		if _, err := net.InterfaceByName(w.bridge); err == nil {
			t.Errorf("%s is left", w.bridge)
		}
	}()
	a, b, c := bare(t, "a"), bare(t, "b"), bare(t, "c")
	for _, n := range []*Node{a, b, c} {
		if _, err := w.Attach(ctx, n); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string, want map[[2]*Node]bool) {
		t.Helper()
		for pair, ok := range want {
			address := w.Address()
			if pair[1] != nil {
				address = pair[1].Address()
			}
			if ok != dials(t, pair[0], address) {
				t.Errorf("%s: %s reaches %s: %v", when, pair[0].o.Name, address, !ok)
			}
		}
	}
	check("at first", map[[2]*Node]bool{{a, b}: true, {b, a}: true, {a, nil}: true})
	if err := a.Cut(ctx); err != nil {
		t.Fatal(err)
	}
	check("cut", map[[2]*Node]bool{{a, b}: false, {b, a}: false, {a, nil}: false, {b, c}: true})
	if err := a.Heal(ctx); err != nil {
		t.Fatal(err)
	}
	if err := a.CutFrom(ctx, b); err != nil {
		t.Fatal(err)
	}
	check("cut from one", map[[2]*Node]bool{{a, b}: false, {b, a}: false, {a, nil}: true, {a, c}: true, {b, nil}: true})
	if err := a.HealFrom(ctx, b); err != nil {
		t.Fatal(err)
	}
	check("healed", map[[2]*Node]bool{{a, b}: true, {b, a}: true})
	if err := a.Kill(); err != nil {
		t.Error(err)
	}
}

// dials says whether there is an answer to a connection within a moment: a refusal is one.
func dials(t *testing.T, n *Node, address string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	// nobody listens at port 9; bash says so at once, or the kernel that there is no way (then with another text)
	cmd := exec.CommandContext(ctx, "nsenter", "-t", strconv.Itoa(n.pid), "-n", "env", "LC_ALL=C", "bash", "-c", "exec 3</dev/tcp/"+address+"/9")
	cmd.WaitDelay = time.Second
	out, _ := cmd.CombinedOutput() // it fails in any case
	return ctx.Err() == nil && strings.Contains(string(out), "Connection refused")
}
