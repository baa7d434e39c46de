package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/qos"
)

// buildOf builds qosctl as of another protocol, by its build tag.
func buildOf(t *testing.T, tag string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "qosctl")
	build := exec.Command("go", "build", "-trimpath", "-tags", tag, "-o", out, "qosctl")
	build.Env, build.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	if err := build.Run(); err != nil {
		t.Fatal(err)
	}
	return out
}

// keptOut counts the lines of an agent's log that say that a node was kept out.
func (f *fleet) keptOut(of *member, name string) (lines int) {
	b, err := os.ReadFile(filepath.Join(f.dir, of.name+"-agent.log"))
	if err != nil {
		f.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, "a node is kept out") && strings.Contains(line, "node="+name) && strings.Contains(line, "it speaks protocols") {
			lines++
		}
	}
	return lines
}

// TestAnAgentOfTheProtocolBefore has an agent of the protocol before this one's in a cluster of this one: jobs move there and back, nothing is
// lost. An agent whose protocols nobody else speaks is kept out, and said so once.
func TestAnAgentOfTheProtocolBefore(t *testing.T) {
	f := startCluster(t, 2, "0s")
	ctx, extra := t.Context(), strings.Replace(clustered, "INTERVAL", "0s", 1)
	f.qosctl = buildOf(t, "protocol_prev")
	f.add(ctx, "node3", extra)
	cluster := f.members[:3]
	f.together(cluster)
	for _, m := range cluster {
		l, err := m.api.Nodes(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range l.Nodes {
			if want := map[bool]string{true: "1–1", false: "1–2"}[n.Name == "node3"]; n.Protocol != want {
				t.Errorf("%s says that %s speaks protocols %q, not %q", m.name, n.Name, n.Protocol, want)
			}
		}
	}
	first, old := f.members[0], f.members[2]
	id := f.submit("/burn")
	j := f.runsOn(first, id, "", 0, time.Minute)
	for _, to := range []string{"node3", "node2", "node3", "node1"} { // asked for by the old one, too
		if j.Owner == to {
			continue
		}
		f.wait(first, id, 1)
		if _, err := old.api.Migrate(ctx, id, api.Migrate{To: to}); err != nil {
			t.Fatal(err)
		}
		j = f.runsOn(first, id, to, j.Epoch, 2*time.Minute)
	}
	f.wait(old, id, 1)
	end := old.job(ctx, id)
	if d := end.Consumed - end.Progress; d < -0.01 || d > 0.01*end.Consumed {
		t.Errorf("consumed %.3f, progress %.3f, and nothing was lost", end.Consumed, end.Progress)
	}
	if own, restores := f.burnt(old, id); own.Seconds() > 1.02*old.job(ctx, id).Consumed+0.3 || restores < 3 {
		t.Errorf("its own clock %s, consumed %.3f, %d restores", own, end.Consumed, restores)
	}
	f.qosctl = buildOf(t, "protocol_next")
	f.add(ctx, "node4", extra)
	stranger := f.members[3]
	f.until("the newcomer is kept out", time.Minute, func() bool { return f.keptOut(first, "node4") > 0 && f.keptOut(stranger, "node1") > 0 })
	f.wait(first, id, 5) // it tries again meanwhile
	for _, m := range cluster {
		if l, err := m.api.Nodes(ctx); err != nil || len(l.Nodes) != 3 || !l.Settled {
			t.Errorf("%s sees %d nodes, settled: %t, %v", m.name, len(l.Nodes), l.Settled, err)
		}
		if n := f.keptOut(m, "node4"); n > 1 || m == first && n != 1 {
			t.Errorf("%s says %d times that node4 is kept out", m.name, n)
		}
	}
	if s := first.job(ctx, id); s.Phase != qos.PhaseRunning || s.Epoch != end.Epoch {
		t.Errorf("the job is %s, at epoch %d", s.Phase, s.Epoch)
	}
	if _, err := old.api.Cancel(ctx, id); err != nil {
		t.Fatal(err)
	}
	f.until("no container of it is left", time.Minute, func() bool { return f.containers(id) == 0 })
}
