package ckpt

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/container"
)

func TestCRIUOptions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		allow Allow
		v2    bool
		want  []string
	}{
		"nothing":    {Allow{}, false, nil},
		"locks":      {Allow{FileLocks: true}, false, []string{"file-locks"}},
		"TCP":        {Allow{TCPEstablished: true, TCPClose: true}, false, []string{"tcp-established", "tcp-close"}},
		"cgroup v2":  {Allow{}, true, []string{"manage-cgroups=ignore"}}, // with "=": a blank has no effect
		"everything": {Allow{FileLocks: true, TCPEstablished: true}, true, []string{"file-locks", "tcp-established", "manage-cgroups=ignore"}},
	} {
		if d := cmp.Diff(append([]string{"ghost-limit 64M", "link-remap"}, c.want...), criuOptions(c.allow, c.v2)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestConf(t *testing.T) {
	t.Parallel()
	c := conf{t.TempDir(), "c-1-1"}
	if err := c.writeCRIU([]string{"a", "b c"}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(c.criu())
	if err != nil || string(b) != "a\nb c\n" {
		t.Errorf("%q, %v", b, err)
	}
	if info, err := os.Stat(c.criu()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for _, l := range []string{"a\nexec-cmd x", `images-dir "x"`, `a\`} {
		if err := c.writeCRIU([]string{l}); err == nil {
			t.Errorf("%q is written", l)
		}
	}
	want := restoreFile{Version: 1, Images: "/i", Work: "/w", Flags: []string{"--file-locks"}}
	if err := c.writeRestore(want); err != nil {
		t.Fatal(err)
	}
	var got restoreFile
	b, err = os.ReadFile(c.restore())
	if err == nil {
		err = json.Unmarshal(b, &got)
	}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
	c.clear()
	if left, err := os.ReadDir(c.dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestReady(t *testing.T) {
	t.Parallel()
	b := base{conf: "/c/.conf"}
	for want, d := range map[string]driver{"": &dockerDriver{base: b}, "qosctl": &runtimeDriver{base: b, runtime: "qosctl"}} {
		s := container.Spec{ID: "x"}
		if err := d.ready(&s); err != nil {
			t.Fatal(err)
		}
		notes := map[string]string{"org.criu.config": "/c/.conf/x.conf", "org.qosctl.restore": "/c/.conf/x.restore"}
		if diff := cmp.Diff(notes, s.Annotations); s.Runtime != want || diff != "" {
			t.Errorf("driver %s: runtime %q, %s", d.name(), s.Runtime, diff)
		}
	}
}

// TestHook runs the script as CRIU does: twice at each stage, of which only one counts.
func TestHook(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("SKIPPED, there is no shell")
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		f := filepath.Join(dir, name)
		if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	procs := write("cgroup.procs", "")
	zero := filepath.Join(dir, "it's zero")
	for _, c := range []struct {
		stage, text, want string
	}{
		{"post-restore", "1\n", ""},
		{"pre-resume", "123456789\n", "123456789"},
		{"pre-resume", "usage_usec 5000\nuser_usec 1\n", "usage_usec 5000"},
		{"post-resume", "9\n", "usage_usec 5000"},
	} {
		script := write("hook", hook{counter: write("counter", c.text), mount: filepath.Dir(procs), zero: zero}.script())
		cmd := exec.CommandContext(t.Context(), "sh", script)
		cmd.Env = []string{"CRTOOLS_SCRIPT_ACTION=" + c.stage}
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v %s", c.stage, err, out)
		}
		got, err := os.ReadFile(zero)
		if strings.TrimSpace(string(got)) != c.want || err != nil && c.want != "" {
			t.Errorf("%s: %q, %v", c.stage, got, err)
		}
	}
}

func TestParseZero(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"123": 123, "usage_usec 5": 5000, "": -1, "x": -1, "usage_usec": -1} {
		got, err := parseZero(text)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

// TestStats reads what CRIU 4.2.1 wrote at a dump.
func TestStats(t *testing.T) {
	t.Parallel()
	b, err := base64.StdEncoding.DecodeString("QFkQVQYzCVciAAAACiAIyUkQ3PELGPIEIEMoFjAAOA9AAEgAUARYBGAAaABwAA==")
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	if got := readDump(work); got != (DumpStats{}) {
		t.Errorf("of no file: %+v", got)
	}
	for name, c := range map[string]struct {
		text []byte
		want DumpStats
	}{
		"whole": {b, DumpStats{Freezing: 9417 * time.Microsecond, Frozen: 194780 * time.Microsecond, MemDump: 626 * time.Microsecond, MemWrite: 67 * time.Microsecond, Pages: 15}},
		"torn":  {b[:20], DumpStats{}},
	} {
		if err := os.WriteFile(filepath.Join(work, statsDump), c.text, 0o600); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, readDump(work)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func FuzzStats(f *testing.F) {
	f.Add([]byte("0123456789ab"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parseStats(b) }) // it must not panic
}

// TestSelfTestPrograms runs them: they wait.
func TestSelfTestPrograms(t *testing.T) {
	t.Parallel()
	idle, listen, err := testPrograms()
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	for name, program := range map[string][]byte{"idle": idle, "listen": listen} {
		file := filepath.Join(t.TempDir(), name)
		syscall.ForkLock.RLock() // a program that another test is just starting would hold it open, and it be busy
		err := os.WriteFile(file, program, 0o755)
		syscall.ForkLock.RUnlock()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), file)
		if err := cmd.Start(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		waits := func() bool { // in a system call, for ever: pause or ppoll
			b, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/stat")
			_, rest, ok := strings.Cut(string(b), ") ")
			return err == nil && ok && strings.HasPrefix(rest, "S")
		}
		until := time.Now().Add(5 * time.Second)
		for !waits() && time.Now().Before(until) {
			_ = pause(t.Context(), time.Millisecond) // the test's end ends the loop too
		}
		if !waits() {
			t.Errorf("%s does not wait", name)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_ = cmd.Wait() // killed
	}
}

func TestUnescapeMount(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"/a": "/a", `/a\040b`: "/a b", `/a\134040b`: `/a\040b`} {
		if got := unescapeMount(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestAtWorkTakesNoJobForCRIU(t *testing.T) {
	t.Parallel()
	proc, dir := t.TempDir(), t.TempDir()
	add := func(pid, parent, comm, open string, argv ...string) {
		t.Helper()
		d := filepath.Join(proc, pid)
		err := os.MkdirAll(filepath.Join(d, "fd"), 0o700)
		for name, text := range map[string]string{
			"comm": comm + "\n", "cmdline": strings.Join(argv, "\x00") + "\x00", "stat": pid + " (" + comm + ") S " + parent + " 1 1",
		} {
			if err == nil {
				err = os.WriteFile(filepath.Join(d, name), []byte(text), 0o600)
			}
		}
		if err == nil && open != "" {
			err = os.Symlink(open, filepath.Join(d, "fd", "5"))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	log := filepath.Join(dir, dumpLog)
	add("100", "1", "containerd-shim", "", "containerd-shim", "-id", "box")
	add("101", "100", "job", log, "job", "box") // CRIU's code in it writes to the log
	add("102", "100", "runc", "", "runc", "checkpoint", "box")
	add("103", "102", "criu", "", "criu", "swrk", "3")
	add("104", "103", "criu", "", "criu", "swrk", "3")
	add("105", "1", "criu", log, "criu", "swrk", "3") // its parent was killed
	add("106", "100", "runc", "", "runc", "checkpoint", "another")
	add("107", "106", "criu", "/elsewhere/dump.log", "criu", "swrk", "3")
	got := atWork(proc, "box", "checkpoint", dir)
	slices.Sort(got)
	if d := cmp.Diff([]int{102, 103, 104, 105}, got); d != "" {
		t.Error(d)
	}
}
