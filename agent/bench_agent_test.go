package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qosctl/cgroup"
	"qosctl/qos"
)

// What an agent with a thousand containers may cost at one sample a second, and how long it is looked at.
const (
	benchJobs   = 1000
	mostCore    = 2.5 // % of a core
	mostMemory  = 40  // MiB resident, its program's 13 and its store's 2 included
	benchWarm   = 15 * time.Second
	benchWindow = 30 * time.Second
)

// benchBinary is the program that is measured; make bench builds it.
const benchBinary = "../bin/qosctl"

// BenchmarkAgent1000 is qosctl itself with a thousand containers of the process engine in real cgroups at 1 Hz, beside a bare loop that
// reads the same files in the same half minute. In place of a thousand processes this one stands in all of them.
func BenchmarkAgent1000(b *testing.B) {
	if _, err := os.Stat(benchBinary); err != nil {
		b.Skipf("SKIPPED, needs the binary (make bench builds it): %v", err)
	}
	groups, err := cgroup.New(cgroup.Options{})
	if err == nil {
		err = groups.Access()
	}
	if err != nil {
		b.Skipf("SKIPPED, needs write access to cgroups (run as root): %v", err)
	}
	dir := b.TempDir()
	parent := "/qosctl-bench-" + filepath.Base(filepath.Dir(dir))
	b.Cleanup(func() {
		if err := groups.Remove(parent); err != nil {
			b.Error(err)
		}
	})
	if err := furnish(groups, dir, parent); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		agent := benchProcess(b, benchBinary, "agent", "--config", filepath.Join(dir, "agent.yaml"))
		bare := benchProcess(b, "/proc/self/exe", "bench-bare", dir, parent)
		wait(b, benchWarm)
		a0, b0 := cpuOf(b, agent), cpuOf(b, bare)
		wait(b, benchWindow)
		ours, limit := share(cpuOf(b, agent)-a0), share(cpuOf(b, bare)-b0)
		rss, anon := memoryOf(b, agent, "VmRSS:"), memoryOf(b, agent, "RssAnon:")
		end(b, agent)
		end(b, bare)
		b.Logf("agent %.2f %% of a core, bare loop %.2f %%, %.1f MiB resident, %.1f of them its own, load %.1f", ours, limit, rss, anon, busyness())
		b.ReportMetric(0, "ns/op") // an iteration is a window
		b.ReportMetric(ours, "%core")
		b.ReportMetric(limit, "bare-%core")
		b.ReportMetric(rss, "MiB-rss")
		b.ReportMetric(anon, "MiB-anon")
		b.ReportMetric(busyness(), "load1")
		if ours > mostCore && busyness() < 4 {
			b.Errorf("%.2f %% of a core, more than %g %%", ours, mostCore)
		}
		if rss > mostMemory {
			b.Errorf("%.1f MiB resident, more than %d", rss, mostMemory)
		}
	}
}

func share(d time.Duration) float64 { return 100 * d.Seconds() / benchWindow.Seconds() }

func wait(b *testing.B, d time.Duration) {
	b.Helper()
	select {
	case <-time.After(d):
	case <-b.Context().Done():
		b.Fatal(b.Context().Err())
	}
}

func benchID(i int) string          { return fmt.Sprintf("bbbbbbbb-0000-4000-8000-%012d", i) }
func benchPath(p, id string) string { return p + "/" + id }

// furnish makes the cgroups, and the configuration, store and containers of an agent whose jobs run in them.
func furnish(groups *cgroup.FS, dir, parent string) error {
	config := fmt.Sprintf(`{node: bench, listen: "", data_dir: %[1]s, run_dir: %[1]s/run, engine: {docker: ""}, cgroup: {parent: %[2]s},
run: {detach_grace: 1h}, control: {cpus: 16, min_cpus: 0.01}}`, dir, parent)
	if err := os.WriteFile(filepath.Join(dir, "agent.yaml"), []byte(config), 0o600); err != nil {
		return err
	}
	pid, err := benchPID()
	if err != nil {
		return err
	}
	s, _, err := openStore(dir, nil)
	if err != nil {
		return err
	}
	now := time.Now()
	var rows []row
	for i := range benchJobs {
		id := benchID(i)
		file := fmt.Sprintf(`{"id":"/bench/job-%d","cmd":"work","cpus":0.01,"mem":32,"qos":{"duration":100,"desv_deadline":0.1,"deadline":36000}}`, i)
		spec, _, err := qos.Parse([]byte(file), qos.ParseOptions{Now: now})
		if err != nil {
			return errors.Join(err, s.close())
		}
		spec.ID, spec.Submitted = id, now
		name := containerID(id, 1, 1)
		_, err = groups.Create(benchPath(parent, name))
		if err == nil {
			err = benchContainer(filepath.Join(dir, "containers", name), benchPath(parent, name), pid)
		}
		if err != nil {
			return errors.Join(err, s.close())
		}
		e := &qos.Execution{Index: 1, Task: "task-" + id, Started: now, Deadline: now.Add(10 * time.Hour), Allocation: 0.01}
		e.Account.StartIncarnation(qos.Entry{Node: "bench", Container: name, StatContainer: name})
		rows = append(rows, row{version: 1, Record: qos.Record{Spec: spec, Status: qos.Status{
			Phase: qos.PhaseRunning, Since: now, Epoch: 1, Owner: "bench", Started: now, Execution: e,
		}}, Local: local{Tasks: []task{{ID: e.Task, First: 1, At: now, CPUs: 0.01}}}})
	}
	return errors.Join(s.put(rows...), s.close())
}

// benchPID is what the process engine knows a payload by, as a part of JSON: this process.
func benchPID() (string, error) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return "", err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:])) // from the state on
	return fmt.Sprintf(`"pid": %d, "start_time": %s, "boot": %q`, os.Getpid(), fields[19], strings.TrimSpace(string(boot))), err
}

// benchContainer makes a container of the process engine's that runs, and whose shim is gone.
func benchContainer(dir, path, pid string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"config.json": fmt.Sprintf(`{"spec": {"id": %q, "limits": {"cpus": 0.01}}, "cgroup": %q, "proc": "/proc"}`, filepath.Base(dir), path),
		"pid.json":    fmt.Sprintf(`{%s, "cgroup": %q, "group": {"cpu": %[2]q, "cpuacct": %[2]q}}`, pid, path),
		"started":     "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// benchMain is what the test binary does when it stands for the bare loop.
func benchMain(what, _, parent string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if what != "bench-bare" {
		return fmt.Errorf("%s is nothing to measure", what)
	}
	return bareLoop(ctx, parent)
}

// bareLoop reads the files of all cgroups once a second, and does nothing with what it reads.
func bareLoop(ctx context.Context, parent string) error {
	var fds []int
	for i := range benchJobs {
		path := benchPath(parent, containerID(benchID(i), 1, 1))
		for _, file := range []string{"cpuacct" + path + "/cpuacct.usage", "cpuacct" + path + "/cpuacct.stat", "cpu" + path + "/cpu.stat", path + "/cpu.stat"} {
			if fd, err := unix.Open("/sys/fs/cgroup/"+file, unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
				fds = append(fds, fd)
			}
		}
	}
	if len(fds) == 0 {
		return errors.New("no file of a cgroup can be read")
	}
	fmt.Fprintln(os.Stdout, "ready") // the benchmark reads it
	var buf [1024]byte
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		for _, fd := range fds {
			if _, err := syscall.Pread(fd, buf[:], 0); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// benchProcess starts something, and returns when it says that it is ready.
func benchProcess(b *testing.B, name string, args ...string) *exec.Cmd {
	b.Helper()
	log, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	cmd := exec.CommandContext(b.Context(), name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); ; <-tick.C {
		said, err := os.ReadFile(log.Name())
		if err == nil && strings.Contains(string(said), "ready") {
			return cmd
		}
		if err != nil || time.Since(begun) > time.Minute {
			b.Fatalf("%s is not ready: %v\n%s", name, err, said)
		}
	}
}

func end(b *testing.B, cmd *exec.Cmd) {
	b.Helper()
	if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
		b.Error(err)
	}
}

// cpuOf is the CPU time that a process has had, to the tick.
func cpuOf(b *testing.B, cmd *exec.Cmd) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:])) // from the state on
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err := errors.Join(err1, err2); err != nil {
		b.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// memoryOf is a figure of a process' memory in MiB.
func memoryOf(b *testing.B, cmd *exec.Cmd, what string) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, what); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				b.Fatal(err)
			}
			return float64(kib) / 1024
		}
	}
	b.Fatal("/proc does not say how much memory is resident")
	return 0
}
