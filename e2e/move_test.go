package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/e2e/node"
	"qosctl/e2e/programs"
	"qosctl/qos"
)

// clustered makes the agents of a fleet one cluster, whose checkpoints are copied to one other node.
const clustered = `cluster: {key_file: /etc/qosctl/cluster.key, advertise: "%s:7946", grace: 5s, join: ["%s:7946"]}
checkpoint: {replicas: 1, dir: /var/lib/qosctl/checkpoints, interval: INTERVAL}
run: {constraint: "", detach_grace: 10s}
`

// startCluster starts so many nodes whose agents are one cluster and can checkpoint.
func startCluster(t *testing.T, count int, interval string) *fleet {
	t.Helper()
	f := startFleet(t, count, 5*time.Second, strings.Replace(clustered, "INTERVAL", interval, 1))
	f.together(f.members)
	return f
}

// together waits until members all know each other, and can checkpoint.
func (f *fleet) together(members []*member) {
	f.t.Helper()
	f.until("all know each other, and can checkpoint", 2*time.Minute, func() bool {
		for _, m := range members {
			l, err := m.api.Nodes(f.t.Context())
			if err != nil || !l.Settled || len(l.Nodes) != len(members) {
				return false
			}
			for _, n := range l.Nodes {
				if n.State != "alive" || !n.Checkpoints || n.Hostname == "" {
					return false
				}
			}
		}
		return true
	})
}

// image puts the programs' image on a node: made on the first one, and the same, by its ID, on the others, as one from a registry is.
func (f *fleet) image(ctx context.Context, n *node.Node) {
	f.t.Helper()
	saved := filepath.Join(f.dir, "image.tar")
	if _, err := os.Stat(saved); err != nil {
		job := filepath.Join(f.dir, "job")
		if err := errors.Join(programs.BuildJob(ctx, job), n.Copy(job, "/tmp/b"+programs.Job)); err != nil {
			f.t.Fatal(err)
		}
		script := `set -e; mkdir -p /tmp/b/bin; cp /bin/busybox /tmp/b/bin/sh; tar -C /tmp/b -c . | docker import - ` + big + `; docker save -o /tmp/saved.tar ` + big
		if _, err := n.Run(ctx, "sh", "-c", script); err != nil {
			f.t.Fatal(err)
		}
		b, err := os.ReadFile(n.Path("/tmp/saved.tar"))
		if err == nil {
			err = os.WriteFile(saved, b, 0o600)
		}
		if err != nil {
			f.t.Fatal(err)
		}
		return
	}
	b, err := os.ReadFile(saved)
	if err == nil {
		err = os.WriteFile(n.Path("/tmp/saved.tar"), b, 0o600)
	}
	if err == nil {
		_, err = n.Run(ctx, "docker", "load", "-i", "/tmp/saved.tar")
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// submit hands a job in that burns CPU and prints what it has burnt, and returns its ID.
func (f *fleet) submit(name string) string {
	f.t.Helper()
	file := map[string]any{
		"id": name, "cmd": "exec " + programs.Job + " burn -every 20ms", "cpus": 0.4, "mem": 64,
		"container": map[string]any{"type": "DOCKER", "docker": map[string]any{"image": big}},
		"qos":       map[string]any{"duration": 300, "deadline": 1200, "desv_deadline": 0.1, "executions": 1},
	}
	return f.handIn(file)
}

// handIn hands a job file in, and returns the job's ID.
func (f *fleet) handIn(file map[string]any) string {
	f.t.Helper()
	b, err := json.Marshal(file)
	if err != nil {
		f.t.Fatal(err)
	}
	const id = "11111111-2222-4333-8444-555555555555"
	if _, err := f.members[0].api.Submit(f.t.Context(), api.SubmitRequest{ID: id, File: b}); err != nil {
		f.t.Fatal(err)
	}
	return id
}

// job is what a node says of a job.
func (m *member) job(ctx context.Context, id string) api.Job {
	j, err := m.api.Job(ctx, id)
	if err != nil {
		return api.Job{}
	}
	return j
}

// runsOn waits until a job runs on a node, in an epoch above one.
func (f *fleet) runsOn(who *member, id, owner string, above uint64, within time.Duration) (j api.Job) {
	f.t.Helper()
	f.until("it runs on "+owner, within, func() bool {
		j = who.job(f.t.Context(), id)
		return j.Phase == qos.PhaseRunning && (owner == "" || j.Owner == owner) && j.Epoch > above && j.Usage > 0
	})
	return j
}

// burnt is what the program says of itself, read at any agent.
func (f *fleet) burnt(who *member, id string) (cpu time.Duration, restores int) {
	f.t.Helper()
	out, err := who.Run(f.t.Context(), "/usr/bin/qosctl", "logs", id, "--stream", "stdout")
	if err != nil {
		f.t.Fatal(err)
	}
	list, err := programs.Lines(strings.NewReader(out))
	if err != nil || len(list) == 0 {
		f.t.Fatalf("its output has a gap, or repeats: %v (%d lines)", err, len(list))
	}
	cpu, _, restores, err = programs.Burned(list[len(list)-1])
	if err != nil {
		f.t.Fatal(err)
	}
	return cpu, restores
}

// wait lets a job burn some more CPU seconds.
func (f *fleet) wait(who *member, id string, seconds float64) {
	f.t.Helper()
	before := who.job(f.t.Context(), id).Consumed
	f.until("it burns CPU", 2*time.Minute, func() bool { return who.job(f.t.Context(), id).Consumed > before+seconds })
}

// byName finds a member.
func (f *fleet) byName(name string) *member {
	for _, m := range f.members {
		if m.name == name {
			return m
		}
	}
	f.t.Fatalf("no node %q", name)
	return nil
}

// TestAJobMovesFromNodeToNode moves a job twice, and no byte of its output nor CPU second is lost or counted twice; nothing is shared.
func TestAJobMovesFromNodeToNode(t *testing.T) {
	f := startCluster(t, 3, "0s")
	id := f.submit("/burn")
	first := f.members[0]
	j := f.runsOn(first, id, "", 0, time.Minute)
	for _, to := range []string{"node2", "node3", "node1"} {
		if j.Owner == to {
			continue
		}
		f.wait(first, id, 1)
		r, err := first.api.Migrate(t.Context(), id, api.Migrate{To: to})
		if err != nil {
			t.Fatal(err)
		}
		if r.To != to {
			t.Errorf("it goes to %s, not %s", r.To, to)
		}
		j = f.runsOn(first, id, to, j.Epoch, 2*time.Minute)
	}
	f.wait(first, id, 1)
	owner := f.byName(j.Owner)
	if _, err := owner.api.Checkpoint(t.Context(), id, api.CheckpointRequest{Stop: true}); err != nil {
		t.Fatal(err)
	}
	f.until("it is saved", time.Minute, func() bool { s := first.job(t.Context(), id); return s.Epoch > j.Epoch || s.Phase != qos.PhaseRunning })
	end := f.runsOn(first, id, "", j.Epoch, 2*time.Minute)
	own, restores := f.burnt(first, id)
	base := end.Account.Entries[end.Account.Live].Base.Seconds()
	t.Logf("its own clock %.3f s, embodied in its last checkpoint %.3f s, consumed %.3f s, %d restores", own.Seconds(), base, end.Consumed, restores)
	if d := end.Consumed - end.Progress; d < -0.01 || d > 0.01*end.Consumed {
		t.Errorf("consumed %.3f, progress %.3f, and nothing was lost", end.Consumed, end.Progress)
	}
	if d := own.Seconds() - end.Consumed; d > 0.02*end.Consumed+0.3 || restores < 2 {
		t.Errorf("its own clock %.3f s, account %.3f s, %d restores", own.Seconds(), end.Consumed, restores)
	}
	if _, err := first.api.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	f.until("no container of it is left", time.Minute, func() bool { return f.containers(id) == 0 })
}

// containers counts the running containers of a job on nodes that answer.
func (f *fleet) containers(id string) (n int) {
	for _, m := range f.members {
		out, err := m.Run(f.t.Context(), "docker", "ps", "-q", "--filter", "name="+id)
		if err == nil {
			n += len(strings.Fields(out))
		}
	}
	return n
}

// TestAJobOutlivesItsNode kills everything on a job's node at once: it runs on elsewhere within a minute, from a copy of its last checkpoint.
func TestAJobOutlivesItsNode(t *testing.T) {
	f := startCluster(t, 3, "10s")
	id := f.submit("/burn")
	j := f.runsOn(f.members[0], id, "", 0, time.Minute)
	dead := f.byName(j.Owner)
	who := f.members[0]
	if who == dead {
		who = f.members[1]
	}
	f.until("a copy of its checkpoint is elsewhere", 2*time.Minute, func() bool {
		list, err := dead.api.Checkpoints(t.Context(), id, false)
		return err == nil && slices.ContainsFunc(list, func(c api.Checkpoint) bool { return c.Holder != dead.name && c.Sealed })
	})
	f.wait(who, id, 0.5)
	before := who.job(t.Context(), id)
	killed := time.Now()
	if err := dead.Kill(); err != nil {
		t.Fatal(err)
	}
	j = f.runsOn(who, id, "", before.Epoch, 2*time.Minute)
	took := time.Since(killed)
	base := j.Account.Entries[j.Account.Live].Base.Seconds()
	t.Logf("it ran again %s after the death, with %.2f of %.2f CPU-s kept", took.Round(100*time.Millisecond), base, before.Consumed)
	if took > time.Minute {
		t.Errorf("it took %s", took)
	}
	if base <= 0 || j.Consumed < before.Consumed-1.5 || before.Consumed-base > 12 {
		t.Errorf("before %.2f CPU-s, embodied %.2f, consumed %.2f now", before.Consumed, base, j.Consumed)
	}
	var apps struct{ Tasks []fleetTask }
	if err := f.ask(http.MethodGet, fleetMarathon, "/v2/apps/burn/tasks", "", &apps); err != nil || len(apps.Tasks) != 1 {
		t.Errorf("Marathon has %+v, %v", apps.Tasks, err)
	}
}

// cutFor is how long a node is cut off.
const cutFor = 3 * time.Minute

// TestAPartitionHeals cuts a job's node off while Marathon starts it elsewhere: afterwards one container runs, all tables agree, and every
// CPU second of both is consumed.
func TestAPartitionHeals(t *testing.T) {
	f := startCluster(t, 3, "10s")
	ctx := t.Context()
	id := f.submit("/burn")
	j := f.runsOn(f.members[0], id, "", 0, time.Minute)
	cut := f.byName(j.Owner)
	who := f.members[0]
	if who == cut {
		who = f.members[1]
	}
	f.until("a checkpoint of it is known", time.Minute, func() bool {
		list, err := cut.api.Checkpoints(ctx, id, false)
		return err == nil && len(list) > 0 && list[0].Sealed
	})
	f.wait(who, id, 1)
	began := time.Now()
	if err := cut.Cut(ctx); err != nil {
		t.Fatal(err)
	}
	other := f.runsOn(who, id, "", j.Epoch, 2*time.Minute)
	if other.Owner == cut.name {
		t.Fatalf("it runs on %s", other.Owner)
	}
	f.until("it was cut off long enough", cutFor+time.Minute, func() bool { return time.Since(began) > cutFor })
	alone := cut.job(ctx, id) // over the node's socket
	if err := cut.Heal(ctx); err != nil {
		t.Fatal(err)
	}
	f.until("one container runs, and all agree, on what the other one spent too", 30*time.Second, func() bool {
		for _, m := range f.members {
			s := m.job(ctx, id)
			if s.Owner != other.Owner || s.Epoch < other.Epoch || s.Phase != qos.PhaseRunning || s.Account == nil || s.Account.Entries[qos.Incarnation{N: 1, Node: cut.name}].Own.Seconds() < alone.Consumed-0.1 {
				return false
			}
		}
		return f.containers(id) == 1
	})
	end := who.job(ctx, id)
	t.Logf("the node that was cut off had %.2f CPU-s, all together %.2f, progress %.2f", alone.Consumed, end.Consumed, end.Progress)
	if end.Consumed < alone.Consumed+(end.Progress-end.Account.Entries[end.Account.Live].Base.Seconds())-0.5 {
		t.Errorf("consumed %.2f is less than what both spent: %.2f there, %.2f here", end.Consumed, alone.Consumed, end.Progress)
	}
	if end.Progress > end.Consumed-0.5 {
		t.Errorf("progress %.2f counts what was thrown away (consumed %.2f)", end.Progress, end.Consumed)
	}
}

// TestADrainMovesAChronosJob empties a node that a Chronos job runs on: Mesos offers the node to nobody, the job goes on on the other one, and an
// undrain gives the node back.
func TestADrainMovesAChronosJob(t *testing.T) {
	f := startCluster(t, 2, "0s")
	ctx := t.Context()
	id := f.handIn(map[string]any{
		"name": "burn", "command": "exec " + programs.Job + " burn -every 20ms", "schedule": "R1//P", "cpus": 0.4, "mem": 64,
		"container": map[string]any{"type": "DOCKER", "image": big},
		"qos":       map[string]any{"duration": 300, "deadline": 1200, "desv_deadline": 0.1},
	})
	who := f.members[0]
	j := f.runsOn(who, id, "", 0, time.Minute)
	from, to := "node1", "node2"
	if j.Owner == to {
		from, to = to, from
	}
	f.wait(who, id, 1)
	r, err := who.api.Drain(ctx, api.Drain{Node: from, On: true})
	if err != nil || !strings.Contains(r.How, "DEACTIVATE_AGENT") {
		t.Fatalf("drain: %+v, %v", r, err)
	}
	active := func(name string) bool {
		var v struct {
			Slaves []struct {
				Hostname string
				Active   bool
			}
		}
		if err := f.ask(http.MethodGet, fleetMaster, "/slaves", "", &v); err != nil {
			t.Fatal(err)
		}
		for _, s := range v.Slaves {
			if s.Hostname == name {
				return s.Active
			}
		}
		return false
	}
	f.runsOn(who, id, to, j.Epoch, 2*time.Minute)
	if active(from) || !active(to) {
		t.Errorf("Mesos makes offers of %s %t, of %s %t", from, active(from), to, active(to))
	}
	f.until("nothing is left on the node", 30*time.Second, func() bool {
		s, err := who.api.DrainStatus(ctx, from)
		return err == nil && s.Draining != "" && len(s.Left) == 0
	})
	f.wait(who, id, 1)
	if _, err := who.api.Drain(ctx, api.Drain{Node: from}); err != nil {
		t.Fatal(err)
	}
	f.until("Mesos makes offers of the node again", 30*time.Second, func() bool { return active(from) })
	if own, restores := f.burnt(who, id); own <= 0 || restores != 1 {
		t.Errorf("its own clock %s, %d restores", own, restores)
	}
	if _, err := who.api.Cancel(ctx, id); err != nil {
		t.Fatal(err)
	}
	f.until("no container of it is left", time.Minute, func() bool { return f.containers(id) == 0 })
}
