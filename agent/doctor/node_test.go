package doctor

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"qosctl/agent/api"
	"qosctl/ckpt"
)

// tree writes files below a directory of the test's own.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// small mounts a file system of its own.
func small(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("needs to mount a small file system (run as root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

func TestKernel(t *testing.T) {
	t.Parallel()
	for release, level := range map[string]api.Level{
		"2.6.32-754.el6.x86_64": api.LevelFault, "3.2.0-4-amd64": api.LevelFault, "3.10.0-1160.el7": api.LevelWarning, "4.9.0-19-amd64": api.LevelOK,
		"6.12.48+deb13": api.LevelOK, "unknown": api.LevelWarning,
	} {
		proc := tree(t, map[string]string{"sys/kernel/osrelease": release + "\n", "sys/kernel/ns_last_pid": "1\n"})
		wants(t, named(t, KernelVersion, Kernel(proc)...), level, release)
		wants(t, named(t, KernelRestore, Kernel(proc)...), api.LevelOK)
	}
	none := Kernel(t.TempDir())
	wants(t, named(t, KernelVersion, none...), api.LevelWarning, "cgroup.proc")
	wants(t, named(t, KernelRestore, none...), api.LevelWarning, "CONFIG_CHECKPOINT_RESTORE")
}

func TestCgroups(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files               map[string]string
		hierarchy, cpu      api.Level
		says, saysOfTheCPUs string
	}{
		"nothing": {map[string]string{"x": ""}, api.LevelFault, api.LevelSkipped, "cgroup.root", ""},
		"v1": {
			map[string]string{"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_quota_us": "-1", "cpuacct/cpuacct.usage": "0"},
			api.LevelOK, api.LevelOK, "cgroup v1", "quotas",
		},
		"v1 of a kernel without quotas": {map[string]string{"cpu/cpu.shares": "1024", "cpuacct/cpuacct.usage": "0"}, api.LevelOK, api.LevelFault, "cgroup v1", "CONFIG_CFS_BANDWIDTH"},
		"v1 without cpu":                {map[string]string{"memory/tasks": ""}, api.LevelFault, api.LevelSkipped, "no cpu", ""},
		"hybrid":                        {map[string]string{"cpu/cpu.cfs_quota_us": "-1", "cpuacct/cpuacct.usage": "0", "unified/cgroup.controllers": ""}, api.LevelOK, api.LevelOK, "cgroup hybrid", ""},
		"v2":                            {map[string]string{"cgroup.controllers": "cpuset cpu memory"}, api.LevelOK, api.LevelOK, "cgroup v2", "quotas"},
		"v2 without cpu":                {map[string]string{"cgroup.controllers": "hugetlb"}, api.LevelOK, api.LevelFault, "cgroup v2", "subtree_control"},
		"v2 that hands nothing on": {
			map[string]string{"cgroup.controllers": "cpu", "jobs/cgroup.controllers": ""},
			api.LevelOK, api.LevelFault, "cgroup v2", "no cpu controller",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := Cgroups{Root: tree(t, c.files), Proc: t.TempDir(), Parent: "/jobs"}.Probe()
			wants(t, named(t, CgroupHierarchy, p), c.hierarchy, c.says)
			wants(t, named(t, CgroupCPU, p), c.cpu, c.saysOfTheCPUs)
		})
	}
	dir := small(t, "size=1m")
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "cgroup.controllers"), []byte("cpu"), 0o644), unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")); err != nil {
		t.Fatal(err)
	}
	readOnly := Cgroups{Root: dir, Proc: t.TempDir(), Parent: "/jobs"}
	wants(t, named(t, CgroupWrite, readOnly.Probe()), api.LevelFault, "read-only", "Delegate=yes")
	readOnly.Observe = true
	wants(t, named(t, CgroupWrite, readOnly.Probe()), api.LevelWarning, "observe")
}

// criuIs puts a program in CRIU's place.
func criuIs(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if script != "" {
		if err := os.WriteFile(filepath.Join(dir, "criu"), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
}

func TestCRIU(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		level  api.Level
		says   string
	}{
		"none":    {"", api.LevelWarning, "apt-get install criu"},
		"broken":  {"echo error while loading shared libraries: libnl.so >&2; exit 127", api.LevelWarning, "libnl.so"},
		"old":     {"echo Version: 3.6", api.LevelWarning, "older than 3.11"},
		"another": {"echo hello", api.LevelWarning, "hello"},
		"good":    {"echo Version: 4.2; echo GitID: v4.2", api.LevelOK, "CRIU 4.2"},
	} {
		t.Run(name, func(t *testing.T) {
			criuIs(t, c.script)
			wants(t, named(t, CRIUVersion, CRIU{}.Probes()...), c.level, c.says)
		})
	}
	if os.Geteuid() == 0 {
		criuIs(t, "echo 'Error (criu/cr-check.c): kernel lacks mem dirty tracking'; exit 1")
		wants(t, named(t, CRIUCheck, CRIU{}.Probes()...), api.LevelWarning, "dirty tracking")
		criuIs(t, "echo Looks good.")
		wants(t, named(t, CRIUCheck, CRIU{}.Probes()...), api.LevelOK, "Looks good.")
	}
	criuIs(t, "echo Version: 4.2")
	none := CRIU{Tested: true, Report: &ckpt.Report{Checks: []ckpt.Check{{Name: "driver runtime", Text: "it hangs", Remedy: "CRIU_FAULT"}, {Name: "image", OK: true, Text: "there"}}}}
	wants(t, named(t, SelfTest, none.Probes()...), api.LevelWarning, "it hangs", "CRIU_FAULT")
	wants(t, named(t, Driver, none.Probes()...), api.LevelWarning, "in place only")
	wants(t, named(t, Driver, CRIU{Tested: true, Report: &ckpt.Report{Driver: "runtime"}}.Probes()...), api.LevelOK, "runtime")
	wants(t, named(t, SelfTest, CRIU{Report: &ckpt.Report{}}.Probes()...), api.LevelWarning, "under way")
	wants(t, named(t, Driver, CRIU{Off: "switched off"}.Probes()...), api.LevelSkipped, "switched off")
}

func TestDisk(t *testing.T) {
	t.Parallel()
	wants(t, only(t, Disk{Entry: DiskData, Dir: filepath.Join(t.TempDir(), "none")}.Probe()), api.LevelSkipped)
	dir := small(t, "size=200m,nr_inodes=1200")
	wants(t, only(t, Disk{Entry: DiskData, Dir: dir}.Probe()), api.LevelOK, "200.0 MiB")
	wants(t, only(t, Disk{Entry: DiskData, Dir: dir, Want: 1 << 30}.Probe()), api.LevelWarning, "nearly full")
	wants(t, only(t, Disk{Entry: DiskData, Dir: dir, Share: 1.1}.Probe()), api.LevelWarning, "nearly full")
	for i := range 300 {
		if err := os.WriteFile(filepath.Join(dir, string(rune('0'+i%10))+string(rune('a'+i/10))), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wants(t, only(t, Disk{Entry: DiskData, Dir: dir}.Probe()), api.LevelFault, "inodes")
	full := small(t, "size=1m")
	f, err := os.Create(filepath.Join(full, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	wants(t, only(t, Disk{Entry: DiskCheckpoints, Dir: full}.Probe()), api.LevelFault, "0.0 MiB of 1.0 MiB are free", "the disk is full", "qosctl checkpoints")
}

func TestClockSync(t *testing.T) {
	t.Parallel()
	wants(t, clockSync(unix.STA_UNSYNC, nil), api.LevelWarning, "chrony")
	wants(t, clockSync(unix.STA_PLL, nil), api.LevelOK)
	wants(t, clockSync(0, unix.EPERM), api.LevelSkipped, "timedatectl")
}

func TestRights(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte("x"), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for mode, level := range map[os.FileMode]api.Level{
		0o600: api.LevelOK, 0o400: api.LevelOK, 0o640: api.LevelWarning, 0o644: api.LevelFault, 0o602: api.LevelFault, 0o620: api.LevelFault,
	} {
		wants(t, only(t, Secret(File{"token_file", file("secret", mode)})), level)
	}
	wants(t, only(t, Secret(File{"token_file", filepath.Join(dir, "none")})), api.LevelFault, "no such file")
	for mode, level := range map[os.FileMode]api.Level{0o640: api.LevelOK, 0o644: api.LevelWarning, 0o666: api.LevelFault} {
		wants(t, only(t, ConfigFile(file("agent.yaml", mode))), level)
	}
	for mode, want := range map[os.FileMode][2]api.Level{
		0o755: {api.LevelOK, api.LevelWarning}, 0o711: {api.LevelOK, api.LevelWarning}, 0o700: {api.LevelOK, api.LevelOK}, 0o777: {api.LevelFault, api.LevelFault},
	} {
		d := filepath.Join(dir, "d")
		if err := errors.Join(os.MkdirAll(d, 0o700), os.Chmod(d, mode)); err != nil {
			t.Fatal(err)
		}
		wants(t, only(t, Directory(File{"data_dir", d}, false)), want[0])
		wants(t, only(t, Directory(File{"checkpoint.dir", d}, true)), want[1])
	}
	wants(t, only(t, Directory(File{"data_dir", filepath.Join(dir, "none")}, false)), api.LevelSkipped)
	wants(t, only(t, Command(file("program", 0o755))), api.LevelOK)
	wants(t, only(t, Command(file("program", 0o700))), api.LevelWarning, "other than root")
	wants(t, only(t, Command(file("program", 0o644))), api.LevelFault, "no program")
	wants(t, only(t, Command(filepath.Join(dir, "none"))), api.LevelFault, "run.command")
}

func TestSockets(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "doctor") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	at := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		l, err := net.Listen("unix", path)
		if err == nil {
			err = os.Chmod(path, mode)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return path
	}
	list := Sockets(at("admin", 0o660), at("standin", 0o666)).Look(t.Context())
	wants(t, list[0], api.LevelOK)
	wants(t, list[1], api.LevelOK)
	list = Sockets(at("open", 0o666), at("closed", 0o600)).Look(t.Context())
	wants(t, list[0], api.LevelFault, "everybody")
	wants(t, list[1], api.LevelWarning, "other users")
	list = Sockets(filepath.Join(dir, "none"), filepath.Join(dir, "none")).Look(t.Context())
	wants(t, list[0], api.LevelFault, "restart the agent")
	private, open, none := at("helper", 0o600), at("helper2", 0o666), filepath.Join(dir, "none")
	for _, c := range []struct {
		dumps, jobs string
		levels      [2]api.Level
		words       [2]string
	}{
		{"", "", [2]api.Level{api.LevelSkipped, api.LevelSkipped}, [2]string{"the agent itself takes dumps", "the agent itself starts plain processes"}},
		{private, private, [2]api.Level{api.LevelOK, api.LevelOK}, [2]string{private, private}},
		{open, none, [2]api.Level{api.LevelWarning, api.LevelFault}, [2]string{"qosctl-dump.socket", "qosctl-job.socket"}},
		{none, open, [2]api.Level{api.LevelFault, api.LevelWarning}, [2]string{"qosctl-dump.socket", "qosctl-job.socket"}},
	} {
		found := Helpers(c.dumps, c.jobs).Look(t.Context())
		if len(found) != 2 {
			t.Fatalf("%+v", found)
		}
		for i := range found {
			wants(t, found[i], c.levels[i], c.words[i])
		}
	}
}
