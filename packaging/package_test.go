package packaging_test

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"qosctl/agent"
)

// built makes the packages of one architecture, as `make package` does, with a directory and a time zone of its own.
func built(t *testing.T, arch, zone string) (dir string) {
	t.Helper()
	nfpm, err := filepath.Abs("../bin/nfpm")
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("QOSCTL_E2E") != "1" {
		t.Skip("builds packages, with QOSCTL_E2E=1: make e2e")
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
	defer stop()
	if out, err := exec.CommandContext(ctx, "make", "-C", "..", "bin/nfpm").CombinedOutput(); err != nil {
		t.Fatalf("build nfpm: %v: %s", err, out)
	}
	dir = t.TempDir()
	cmd := exec.CommandContext(ctx, "../tools/package")
	cmd.Env = append(os.Environ(), "ARCHS="+arch, "OUT="+dir, "NFPM="+nfpm, "TZ="+zone, "TMPDIR="+t.TempDir(), "VERSION=1.2.3", "SOURCE_DATE_EPOCH=1700000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tools/package: %v: %s", err, out)
	}
	return dir
}

// TestPackages builds what `make package` builds, and looks at it.
func TestPackages(t *testing.T) {
	dir := built(t, "amd64", "UTC")
	t.Run("the same commit gives the same bytes", func(t *testing.T) {
		same(t, dir, built(t, "amd64", "Asia/Tokyo"))
		same(t, built(t, "arm64", "UTC"), built(t, "arm64", "Asia/Tokyo"))
	})
	t.Run("what checkers find is mended or let off by name", func(t *testing.T) { clean(t, dir) })
	t.Run("everything is in them", func(t *testing.T) { whole(t, dir) })
}

func same(t *testing.T, one, other string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(one, "qosctl*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("built %v, %v", files, err)
	}
	for _, f := range files {
		a, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(other, filepath.Base(f)))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes", filepath.Base(f), len(a))
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs between two builds", filepath.Base(f))
		}
	}
}

// run runs one of Debian's tools in the packages' directory; it is installed, with the packages that it needs, if it is not there.
func run(t *testing.T, dir, pkgs, tool string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "apt-get update -q && apt-get install -q -y --no-install-recommends "+pkgs).CombinedOutput()
		if err != nil {
			t.Fatalf("THE PACKAGES CAN'T BE CHECKED: %s can't be had: %v: %s", tool, err, out)
		}
	}
	cmd := exec.CommandContext(t.Context(), tool, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", tool, strings.Join(args, " "), err, out)
	}
	return string(out)
}

const (
	deb = "qosctl_1.2.3-1_amd64.deb"
	rpm = "qosctl-1.2.3-1.x86_64.rpm"
)

func clean(t *testing.T, dir string) {
	t.Helper()
	rules, err := filepath.Abs("rpm/rpmlintrc")
	if err != nil {
		t.Fatal(err)
	}
	if out := run(t, dir, "lintian", "lintian", "--allow-root", "--fail-on", "error,warning,info", "--display-info", "--tag-display-limit", "0", deb); strings.TrimSpace(out) != "" {
		t.Errorf("lintian: %s", out)
	}
	if out := run(t, dir, "rpmlint rpm", "rpmlint", "--rpmlintrc", rules, rpm); !strings.Contains(out, "1 packages and 0 specfiles checked; 0 errors, 0 warnings") {
		t.Errorf("rpmlint: %s", out)
	}
	if out := run(t, dir, "rpm", "rpm", "-K", rpm); !strings.Contains(out, "digests OK") {
		t.Errorf("rpm -K: %s", out)
	}
	if out := run(t, dir, "rpm", "rpm", "-qcp", rpm); strings.TrimSpace(out) != "/etc/qosctl/agent.yaml" {
		t.Errorf("configuration files of the rpm: %q", out)
	}
}

func whole(t *testing.T, dir string) {
	t.Helper()
	want := []string{
		"/usr/bin/qosctl", "/etc/qosctl/agent.yaml", "/usr/lib/systemd/system/qosctl-agent.service", "/usr/lib/systemd/system/qosctl-dump.socket", "/usr/lib/systemd/system/qosctl-dump@.service",
		"/usr/lib/systemd/system/qosctl-job.socket", "/usr/lib/systemd/system/qosctl-job@.service", "/usr/lib/sysusers.d/qosctl.conf",
		"/usr/lib/tmpfiles.d/qosctl.conf", "/usr/share/man/man1/qosctl.1.gz", "/usr/share/man/man1/qosctl-agent.1.gz", "/usr/share/man/man1/qosctl-submit.1.gz",
		"/usr/share/bash-completion/completions/qosctl", "/usr/share/fish/vendor_completions.d/qosctl.fish", "/usr/share/doc/qosctl/qosctl.yaml", "/usr/share/doc/qosctl/installing.md",
	}
	cmd := exec.CommandContext(t.Context(), "dpkg-deb", "--fsys-tarfile", deb)
	cmd.Dir = dir
	data, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	modes := map[string]os.FileMode{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if err == io.EOF { //nolint:errorlint // the reader's own
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		modes["/"+strings.TrimPrefix(h.Name, "./")] = h.FileInfo().Mode()
		if h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != 1700000000 {
			t.Errorf("%s: owner %d:%d, time %s", h.Name, h.Uid, h.Gid, h.ModTime)
		}
	}
	listed := run(t, dir, "rpm", "rpm", "-qlp", rpm)
	for _, f := range want {
		if _, ok := modes[f]; !ok {
			t.Errorf("the deb has no %s", f)
		}
		if !strings.Contains(listed, f+"\n") {
			t.Errorf("the rpm has no %s", f)
		}
	}
	if modes["/usr/bin/qosctl"] != 0o755 || modes["/etc/qosctl/agent.yaml"] != 0o640 {
		t.Errorf("modes: program %v, configuration %v", modes["/usr/bin/qosctl"], modes["/etc/qosctl/agent.yaml"])
	}
	if out := run(t, dir, "dpkg", "dpkg-deb", "--info", deb, "conffiles"); out != "/etc/qosctl/agent.yaml\n" {
		t.Errorf("conffiles of the deb: %q", out)
	}
}

// A fresh installation changes nothing on the node until its operator says so.
func TestAFreshInstallationObserves(t *testing.T) {
	t.Parallel()
	c, err := agent.Load("agent.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if c.Control.Mode != "observe" || !strings.HasPrefix(c.Listen, "127.0.0.1:") || len(c.Frameworks) != 0 {
		t.Errorf("mode %s, listen %s, frameworks %v", c.Control.Mode, c.Listen, c.Frameworks)
	}
}

// What stands in the configuration as a comment, for its reader to uncomment, is right too.
func TestTheExamplesInTheConfigurationAreRight(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("agent.yaml")
	if err != nil {
		t.Fatal(err)
	}
	whole := regexp.MustCompile(`(?m)^#( *[a-z_]+:)`).ReplaceAll(text, []byte("$1"))
	c, err := agent.Parse(whole, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if len(c.Frameworks) != 2 || len(c.Cluster.Join) != 1 {
		t.Errorf("%d frameworks, join %v", len(c.Frameworks), c.Cluster.Join)
	}
}

// The scripts of both packages are shell, and none of them stops or kills anything at an upgrade.
func TestScriptsStopNothingAtAnUpgrade(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("nfpm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Overrides map[string]struct{ Scripts map[string]string }
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	args := map[string]map[string][]string{ // as dpkg and rpm call them at an upgrade
		"deb": {"preremove": {"upgrade", "2"}, "postremove": {"upgrade", "2"}, "postinstall": {"configure", "1"}},
		"rpm": {"preremove": {"1"}, "postremove": {"1"}, "postinstall": {"2"}},
	}
	for kind, scripts := range args {
		for name, argv := range scripts {
			file := c.Overrides[kind].Scripts[name]
			if file == "" {
				t.Errorf("%s has no script %s", kind, name)
				continue
			}
			for _, call := range called(t, filepath.Join("..", file), argv) {
				if strings.Contains(call, "stop") || strings.Contains(call, "kill") || strings.Contains(call, "disable") || strings.Contains(call, "mask ") && !strings.Contains(call, "unmask") || strings.Contains(call, " restart") {
					t.Errorf("%s %s, called with %v, does %q", kind, name, argv, call)
				}
			}
		}
	}
}

// called runs a script with every program that it may use replaced by one that notes how it was called.
func called(t *testing.T, script string, argv []string) []string {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	for _, name := range []string{"systemctl", "systemd-sysusers", "systemd-tmpfiles", "deb-systemd-helper", "deb-systemd-invoke", "qosctl", "groupdel", "getent", "readlink", "rm", "find", "rmdir", "kill", "pkill"} {
		text := "#!/bin/sh\necho " + name + " \"$@\" >>" + log + "\n"
		syscall.ForkLock.RLock() // a program that another test is just starting would hold it open, and it be busy
		err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755)
		syscall.ForkLock.RUnlock()
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", append([]string{script}, argv...)...)
	cmd.Env = []string{"PATH=" + dir} // nothing else can be called
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", script, argv, err, out)
	}
	said, err := os.ReadFile(log)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(said)), "\n")
}
