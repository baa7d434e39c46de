package agent

import (
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"qosctl/agent/api"
	"qosctl/cgroup"
	"qosctl/qos"
)

// TestAVanishedCgroupIsSaid takes a job's cgroups away while it runs: that is said once, nothing that was counted is lost, and the job
// comes to its end.
func TestAVanishedCgroupIsSaid(t *testing.T) {
	t.Parallel()
	for name, level := range map[string]func(string) string{
		"the container's": func(p string) string { return p },
		"the execution's": path.Dir,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := testNode(t, nil)
			n.submit(idA, `{"id":"/moved","cmd":"while [ ! -e `+n.cfg.DataDir+`/stop ]; do :; done; exit 0","cpus":0.3,"mem":32,"qos":{"duration":100,"desv_deadline":0.1,"deadline":600,"executions":1}}`)
			s, _ := n.claim(idA, "t1")
			before := n.await(idA, "burning", func(j api.Job) bool { return j.Consumed > 0.2 })
			away(t, level(before.Account.Entries[before.Account.Live].Cgroup))
			said := func() (count int) {
				x, err := n.client().Explain(t.Context(), idA)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range x.Events {
					if strings.Contains(e.Text, "its cgroup was removed") {
						count++
					}
				}
				return count
			}
			n.await(idA, "known to have lost its cgroup", func(api.Job) bool { return said() > 0 })
			if err := os.WriteFile(filepath.Join(n.cfg.DataDir, "stop"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, _, code := n.read(s, "t1"); code != 0 {
				t.Errorf("exit code %d", code)
			}
			after := n.await(idA, "completed", inPhase(qos.PhaseCompleted))
			if after.Tally.CPU < before.Consumed || said() != 1 {
				t.Errorf("%g CPU seconds, %g before; said %d times", after.Tally.CPU, before.Consumed, said())
			}
		})
	}
}

// away moves the processes below a cgroup to the root and removes it, in every hierarchy.
func away(t *testing.T, group string) {
	t.Helper()
	groups, err := cgroup.New(cgroup.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := filepath.Glob("/sys/fs/cgroup/*" + group)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range append(dirs, "/sys/fs/cgroup"+group) {
		top := filepath.Join(strings.TrimSuffix(dir, group), "cgroup.procs")
		files, err := filepath.Glob(dir + "/cgroup.procs")
		if err != nil {
			t.Fatal(err)
		}
		below, err := filepath.Glob(dir + "/*/cgroup.procs")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range append(files, below...) {
			pids, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for pid := range strings.FieldsSeq(string(pids)) {
				if _, err := strconv.Atoi(pid); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(top, []byte(pid), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := groups.Remove(group); err != nil {
		t.Fatal(err)
	}
}
