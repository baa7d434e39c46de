package process

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"qosctl/cgroup"
	"qosctl/container"
)

// runIn runs a command to its end and gives both outputs.
func runIn(t *testing.T, e *Engine, s container.Spec) (x container.Exit, stdout, stderr string) {
	t.Helper()
	s.ID = "x"
	if err := e.Create(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	defer stopAll(t, e)
	if err := e.Start(t.Context(), "x"); err != nil {
		t.Log(err)
	}
	x, err := e.Wait(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	var out [2]string
	for n, name := range []string{"stdout", "stderr"} {
		b, err := os.ReadFile(filepath.Join(e.o.Dir, "x", name))
		if err != nil {
			t.Fatal(err)
		}
		out[n] = string(b)
	}
	return x, out[0], out[1]
}

func put(t testing.TB, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// TestImageAndMounts: an image's entries lie over the host's, mounts over both, and the host sees none of it.
func TestImageAndMounts(t *testing.T) {
	t.Parallel()
	o := options(t)
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, images need root")
	}
	side := filepath.Dir(o.Dir)
	image, data := filepath.Join(side, "image"), filepath.Join(side, "data")
	put(t, filepath.Join(image, "opt/app/run.sh"), "#!/bin/sh\necho from the image\n", 0o755)
	put(t, filepath.Join(image, "proc/none"), "", 0o644)
	put(t, filepath.Join(image, "top"), "a file\n", 0o644)
	put(t, filepath.Join(data, "in"), "input\n", 0o644)
	if err := os.Chmod(side, 0o755); err != nil {
		t.Fatal(err)
	}
	o.Images = map[string]string{"repo/app:1": image}
	e := open(t, o)
	mounts := []container.Mount{
		{Source: data, Target: "/data", ReadOnly: true},
		{Source: data, Target: "/usr/share/qosctl-test/deep/rw"}, // its directory is the host's and must not be made there
		{Source: filepath.Join(data, "in"), Target: "/etc/qosctl-test-file"},
		{Source: "/nonexistent/source", Target: "/empty"},
	}
	for _, u := range []container.User{{}, {UID: 65534, GID: 65534}} {
		x, out, errs := runIn(t, e, container.Spec{Image: "repo/app:1", Mounts: mounts, User: u, Command: `
/opt/app/run.sh; cat /top /data/in /etc/qosctl-test-file; ls /opt /empty; [ -d /proc/self ] && echo proc
touch /empty/mine && echo empty; (echo x > /data/in) 2>/dev/null || echo read-only; ls /usr/share | grep -c . > lines; [ $(cat lines) -gt 1 ] && echo share
ls -d /.host /usr/share/qosctl-test/deep/rw/in 2>/dev/null; pwd | grep -c sandbox; head -1 /etc/passwd | cut -d: -f1; exit 0`})
		want := "from the image\na file\ninput\ninput\n/empty:\n\n/opt:\napp\nproc\nempty\nread-only\nshare\n/usr/share/qosctl-test/deep/rw/in\n1\nroot\n"
		if x.Code != 0 || out != want {
			t.Errorf("user %d: exit %+v\n%s\nwant\n%s\n%s", u.UID, x, out, want, errs)
		}
	}
	for _, name := range []string{"/data", "/empty", "/top", "/usr/share/qosctl-test", "/etc/qosctl-test-file", "/.host", "/.stage"} {
		if exists(name) {
			t.Errorf("the host has got a %s", name)
		}
	}
	mi, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mi), o.Dir) {
		t.Errorf("mounts are left on the host, or %v", err)
	}
}

// TestWorkingDirectoryBelowImage: the sandbox stays reachable where the image has an entry in place of the directory above it.
func TestWorkingDirectoryBelowImage(t *testing.T) {
	t.Parallel()
	o := options(t)
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, images need root")
	}
	image, work := filepath.Join(filepath.Dir(o.Dir), "image"), filepath.Join(filepath.Dir(o.Dir), "work")
	put(t, filepath.Join(image, "tmp/of-the-image"), "", 0o644) // the test's directory is below /tmp
	put(t, filepath.Join(work, "mine"), "", 0o644)
	o.Images = map[string]string{"i": image}
	x, out, errs := runIn(t, open(t, o), container.Spec{Image: "i", Dir: work, Command: "ls /tmp | grep of-the; ls; pwd"})
	if want := "of-the-image\nmine\n" + work + "\n"; x.Code != 0 || out != want {
		t.Errorf("exit %+v, %q, want %q, %s", x, out, want, errs)
	}
}

// TestSignalsAreReset: a job starts with default signals even if the agent was started with some ignored, as nohup does.
func TestSignalsAreReset(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Shim = append([]string{"/bin/sh", "-c", `trap '' HUP INT TERM PIPE USR1; exec "$0" "$@"`, "/proc/self/exe"}, "shim")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o.Shim[3] = self
	x, out, _ := runIn(t, open(t, o), container.Spec{Args: []string{"grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"}})
	if want := "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"; x.Code != 0 || out != want {
		t.Errorf("exit %+v, %s", x, out)
	}
}

// TestNothingIsInherited: neither the agent's environment nor its descriptors reach shim or job.
func TestNothingIsInherited(t *testing.T) {
	t.Parallel()
	e := open(t, options(t))
	x, out, _ := runIn(t, e, container.Spec{Env: []string{"A=1"}, Args: []string{"sh", "-c", "env | grep -v ^_ | sort; for f in /proc/$$/fd/*; do [ -e $f ] && echo ${f##*/}; done; ps -o sid= -p $$ | tr -d ' ' | grep -c ^$$"}})
	if want := "A=1\nPATH=" + defaultPath + "\nPWD="; x.Code != 0 || !strings.HasPrefix(out, want) || !strings.HasSuffix(out, "\n0\n1\n2\n1\n") {
		t.Errorf("exit %+v, %s", x, out)
	}
}

func TestNewIsRefused(t *testing.T) {
	t.Parallel()
	fs := needCgroups(t)
	for _, o := range []Options{{}, {Dir: "relative", Shim: []string{"x"}, Cgroups: fs}, {Dir: t.TempDir(), Cgroups: fs}, {Dir: t.TempDir(), Shim: []string{"x"}}} {
		if _, err := New(o); err == nil {
			t.Errorf("accepted: %+v", o)
		}
	}
}

// TestOrdinaryUser runs part of this file as nobody: no access to cgroups is an error with a remedy.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Getenv("QOSCTL_TEST_ORDINARY") != "" || os.Geteuid() != 0 {
		fs, err := cgroup.New(cgroup.Options{})
		if err != nil {
			t.Skipf("SKIPPED, no cgroups on this host: %v", err)
		}
		_, err = New(Options{Dir: t.TempDir(), Shim: []string{"x"}, Cgroups: fs})
		if !errors.Is(err, cgroup.ErrNoAccess) || !strings.Contains(err.Error(), "as root") {
			t.Errorf("new: %v", err)
		}
		return
	}
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip("SKIPPED, setpriv is not installed")
	}
	dir, err := os.MkdirTemp("", "qosctl-ordinary-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "test"), string(self), 0o755)
	if err = os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", filepath.Join(dir, "test"), "-test.run=^TestOrdinaryUser$", "-test.v")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "QOSCTL_TEST_ORDINARY=1", "TMPDIR="+dir)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS: TestOrdinaryUser") {
		t.Errorf("%v\n%s", err, out)
	}
}
