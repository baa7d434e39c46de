package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qosctl/cgroup"
	"qosctl/qos"
)

// TestThesisJobs submits each of the thesis' job files as it stands: launched, running, its quota set, and a first sample of progress.
func TestThesisJobs(t *testing.T) {
	c := start(t)
	files, err := filepath.Glob("../qos/testdata/thesis/*.json")
	if err != nil || len(files) != 9 {
		t.Fatalf("thesis files: %v, %v", files, err)
	}
	groups, err := cgroup.New(cgroup.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			id := c.submit(f)
			c.until("running with progress", 30*time.Second, func() bool {
				j := c.job(id)
				return j.Phase == qos.PhaseRunning && j.Progress > 0.2 && j.State != ""
			})
			j := c.job(id)
			path := j.Account.Entries[j.Account.Live].Cgroup
			limits, err := groups.OpenLimits(cgroup.Group{CPU: path, CPUAcct: path})
			if err != nil {
				t.Fatal(err)
			}
			defer limits.Close()
			if in, err := limits.CPUs(); err != nil || in < j.Request-0.001 || in > 2 {
				t.Errorf("quota in force: %g CPUs (%v), request %g", in, err, j.Request)
			}
			if shares, err := limits.Shares(); err != nil || shares < j.Request-0.001 || shares > j.Request+0.001 {
				t.Errorf("shares in force: %g CPUs (%v), request %g", shares, err, j.Request)
			}
			if code, _, errs := c.qosctl("cancel", id); code != 0 {
				t.Errorf("cancel: exit %d: %s", code, errs)
			}
			c.until("cancelled", 30*time.Second, func() bool { return c.job(id).Phase == qos.PhaseCancelled })
		})
	}
}

// TestThesisJobsScaled runs copies of the files with a tenth of the matrix to their ends.
func TestThesisJobsScaled(t *testing.T) {
	c := start(t)
	for _, name := range []string{"chronos-openmplinpack1", "chronos-openmplinpack6", "marathon-openmplinpack1"} {
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile("../qos/testdata/thesis/" + name + ".json")
			if err != nil {
				t.Fatal(err)
			}
			var file map[string]any
			if err := json.Unmarshal(b, &file); err != nil {
				t.Fatal(err)
			}
			want := map[string]any{"duration": 2, "desv_deadline": 0.2, "deadline": 60}
			runs := 3
			if file["id"] != nil {
				file["cmd"], want["executions"], runs = shrink(t, file["cmd"]), 1, 1
			} else {
				file["command"], file["schedule"] = shrink(t, file["command"]), "R3//P"
			}
			file["qos"] = want
			id := c.submit(write(t, file))
			if code, out, errs := c.qosctl("wait", "--timeout", "90s", id); code != 0 {
				t.Errorf("wait: exit %d: %s%s", code, out, errs)
			}
			j := c.job(id)
			if j.Phase != qos.PhaseCompleted || j.Tally.Succeeded != runs || j.Tally.CPU <= 0 {
				t.Errorf("at the end: %+v", j)
			}
			_, out, _ := c.qosctl("logs", id)
			if n := strings.Count(out, "residual"); n != runs {
				t.Errorf("%d of %d runs solved their system:\n%s", n, runs, out)
			}
		})
	}
}

func shrink(t *testing.T, command any) string {
	t.Helper()
	s, ok := command.(string)
	program, size, found := strings.Cut(s, " ")
	if !ok || !found || len(size) < 2 {
		t.Fatalf("command %v", command)
	}
	return lasting(program+" "+strings.TrimSuffix(size, "0"), 0.6) // long enough to be sampled
}
