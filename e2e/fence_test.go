package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"qosctl/gossip/zkfence/zktest"
	"qosctl/qos"
)

// TestFence has two agents claim at a real ZooKeeper: what they run is claimed there, nothing new starts while ZooKeeper is away, what runs goes
// on.
func TestFence(t *testing.T) {
	if !wanted() {
		t.Skip("end-to-end tests run as root with QOSCTL_E2E=1: make e2e")
	}
	z := zktest.Start(t)
	c := start(t, "--nodes", "2", "--cpus", "1", "--gossip", freeAddr(t), "--peer", freeAddr(t), "--mesos-master", freeAddr(t),
		"--set", "cluster.fence=zookeeper", "--set", "cluster.zookeeper="+z.Addr)
	gate := filepath.Join(t.TempDir(), "gate")
	job := func(name, node string) string {
		file := marathonJob(name)
		file["cmd"] = "echo begun; while [ ! -e " + gate + " ]; do sleep 0.05; done"
		file["constraints"] = [][]string{{"hostname", "LIKE", node}}
		return c.submit(write(t, file))
	}
	runs := func(id string) bool { j := c.job(id); return j.Phase == qos.PhaseRunning && j.Allocation > 0 }
	first := job("/first", "node2")
	c.until("the first job runs", 30*time.Second, func() bool { return runs(first) })
	if got := claimOf(t, z, first); got.Node != "node2" || got.Epoch != c.job(first).Epoch {
		t.Errorf("claimed is %+v, the job is at epoch %d", got, c.job(first).Epoch)
	}

	z.Stop()
	second := job("/second", "node1")
	c.until("the second job waits for the fence", 30*time.Second, func() bool {
		b, err := os.ReadFile(c.log.Name())
		return err == nil && strings.Contains(string(b), `msg="ask the fence" pkg=agent job=/second`)
	})
	if runs(second) || c.job(second).Consumed > 0 {
		t.Errorf("started without the fence: %+v", c.job(second))
	}
	if !runs(first) {
		t.Errorf("the first job does not go on: %+v", c.job(first))
	}

	z.Start()
	c.until("the second job runs", time.Minute, func() bool { return runs(second) })
	if got := claimOf(t, z, second); got.Node != "node1" {
		t.Errorf("claimed is %+v", got)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{first, second} {
		if code, _, errs := c.qosctl("wait", "--timeout", "60s", id); code != 0 {
			t.Errorf("wait: exit %d: %s", code, errs)
		}
	}
}

type zkClaim struct {
	Epoch uint64 `json:"epoch"`
	Node  string `json:"node"`
}

// claimOf reads what ZooKeeper has of a job.
func claimOf(t *testing.T, z *zktest.Server, id string) (claim zkClaim) {
	t.Helper()
	conn, _, err := zk.Connect([]string{z.Addr}, 10*time.Second, zk.WithLogInfo(false))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	b, _, err := conn.Get("/qosctl/jobs/" + id)
	for until := time.Now().Add(20 * time.Second); errors.Is(err, zk.ErrNoServer) && time.Now().Before(until); { // it tries them all again
		b, _, err = conn.Get("/qosctl/jobs/" + id)
	}
	if err == nil {
		err = json.Unmarshal(b, &claim)
	}
	if err != nil {
		t.Fatal(err)
	}
	return claim
}
