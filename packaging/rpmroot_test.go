package packaging_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qosctl/e2e/node"
)

// rpmRoot is a root file system with a data base of rpm's in it. The distribution in it is Debian, as there is none of rpm's to be had where
// Debian's mirrors alone are: its dependencies are rpm's only in part, so that packages are installed without asking for them (--nodeps). Shell,
// systemd-sysusers and systemd-tmpfiles, which the scripts call, are there; no systemd runs.
type rpmRoot struct {
	t   *testing.T
	dir string
}

func newRPMRoot(t *testing.T) *rpmRoot {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute) // the first time a root file system is made
	defer stop()
	lower, err := node.Root(ctx, node.Bookworm+"-systemd")
	if err != nil {
		t.Fatal(err)
	}
	r := &rpmRoot{t: t, dir: filepath.Join(t.TempDir(), "root")}
	on := t.TempDir() // overlayfs on overlayfs is none
	if err := unix.Mount("tmpfs", on, "tmpfs", 0, "size=512m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.unmount(on) })
	for _, d := range []string{on + "/upper", on + "/work", r.dir} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("overlay", r.dir, "overlay", 0, "lowerdir="+lower+",upperdir="+on+"/upper,workdir="+on+"/work"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.unmount(r.dir) })
	if err := unix.Mount("proc", r.path("/proc"), "proc", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.unmount(r.path("/proc")) })
	r.rpm("--initdb")
	return r
}

func (r *rpmRoot) unmount(dir string) {
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		r.t.Errorf("unmount %s: %v", dir, err)
	}
}

func (r *rpmRoot) path(p string) string { return filepath.Join(r.dir, p) }

// try calls rpm on the root, with variables in its environment.
func (r *rpmRoot) try(env string, args ...string) (string, error) {
	cmd := exec.CommandContext(r.t.Context(), "rpm", append([]string{"--root", r.dir}, args...)...)
	cmd.Env = append(os.Environ(), env)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (r *rpmRoot) rpm(args ...string) string {
	r.t.Helper()
	out, err := r.try("", args...)
	if err != nil {
		r.t.Fatalf("rpm %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

func (r *rpmRoot) read(p string) string {
	r.t.Helper()
	text, err := os.ReadFile(r.path(p))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

func (r *rpmRoot) there(p string) bool {
	_, err := os.Lstat(r.path(p))
	return err == nil
}

// installing are rpm's options for a package on Debian's rpm, which asks to be forced.
var installing = []string{"--nodeps", "--force-debian"}

// TestTheRPMInARoot installs, upgrades and erases the rpm in a root of rpm's own.
func TestTheRPMInARoot(t *testing.T) {
	dir := builtRPM(t)
	run(t, dir, "rpm", "rpm", "--version")
	one := filepath.Join(dir, "qosctl-1.0.0-1.x86_64.rpm")
	t.Run("scripts", func(t *testing.T) { scriptsOfTheRPM(t, one) })
	r := newRPMRoot(t)
	r.rpm(append([]string{"--install", one}, installing...)...)
	r.installed(one)
	two := r.changed(dir, "1.1.0")
	r.upgraded(two)
	r.erased()
}

// builtRPM makes the rpm as `make package` does.
func builtRPM(t *testing.T) (dir string) {
	t.Helper()
	if os.Getenv("QOSCTL_E2E") != "1" || os.Geteuid() != 0 {
		t.Skip("installs a package in a root of its own, as root with QOSCTL_E2E=1: make e2e")
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
	defer stop()
	if out, err := exec.CommandContext(ctx, "make", "-C", "..", "bin/nfpm").CombinedOutput(); err != nil {
		t.Fatalf("build nfpm: %v: %s", err, out)
	}
	dir = t.TempDir()
	cmd := exec.CommandContext(ctx, "../tools/package")
	cmd.Env = append(os.Environ(), "ARCHS=amd64", "KINDS=rpm", "OUT="+dir, "VERSION=1.0.0", "SOURCE_DATE_EPOCH=1700000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tools/package: %v: %s", err, out)
	}
	return dir
}

// scriptsOfTheRPM says that the scripts in the package are those of the directory, and that there are no others.
func scriptsOfTheRPM(t *testing.T, pkg string) {
	t.Helper()
	said := run(t, filepath.Dir(pkg), "rpm", "rpm", "-qp", "--scripts", pkg)
	t.Log(said)
	heads := regexp.MustCompile(`(?m)^(\w+) (?:scriptlet|program)(?: \(using (\S+)\))?:\n?`).FindAllStringSubmatchIndex(said, -1)
	found := map[string]string{}
	for i, h := range heads {
		end := len(said)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		if shell := said[h[4]:h[5]]; shell != "/bin/sh" {
			t.Errorf("%s is run by %s", said[h[2]:h[3]], shell)
		}
		found[said[h[2]:h[3]]] = strings.TrimSpace(said[h[1]:end])
	}
	for name, file := range map[string]string{"postinstall": "post", "preuninstall": "preun", "postuninstall": "postun"} {
		text, err := os.ReadFile(filepath.Join("rpm", file))
		if err != nil {
			t.Fatal(err)
		}
		if found[name] != strings.TrimSpace(string(text)) {
			t.Errorf("%s is\n%s\nnot\n%s", name, found[name], text)
		}
		delete(found, name)
	}
	if len(found) > 0 {
		t.Errorf("scripts that nobody wrote: %v", found)
	}
	if out := run(t, filepath.Dir(pkg), "rpm", "rpm", "-K", pkg); !strings.Contains(out, "digests OK") {
		t.Errorf("rpm -K: %s", out)
	}
}

// installed looks at what stands in the root.
func (r *rpmRoot) installed(pkg string) {
	r.t.Helper()
	if out := r.rpm("-V", "--nodeps", "qosctl"); strings.TrimSpace(out) != "" {
		r.t.Errorf("rpm -V: %s", out)
	}
	listed, there := run(r.t, filepath.Dir(pkg), "rpm", "rpm", "-qlp", pkg), r.rpm("-ql", "qosctl")
	if listed != there || strings.Count(there, "\n") < 40 {
		r.t.Errorf("rpm -qlp:\n%s\nrpm -ql:\n%s", listed, there)
	}
	for f := range strings.Lines(there) {
		var st unix.Stat_t
		f = strings.TrimSpace(f)
		if err := unix.Lstat(r.path(f), &st); err != nil {
			r.t.Errorf("%s: %v", f, err)
			continue
		}
		want := uint32(0o644)
		switch {
		case st.Mode&unix.S_IFMT == unix.S_IFDIR, f == "/usr/bin/qosctl":
			want = 0o755
		case f == "/etc/qosctl/agent.yaml":
			want = 0o640
		}
		if st.Uid != 0 || st.Gid != 0 || st.Mode&0o7777 != want {
			r.t.Errorf("%s: owner %d:%d, mode %o", f, st.Uid, st.Gid, st.Mode&0o7777)
		}
	}
	if out := r.rpm("-q", "--qf", `[%{FILENAMES} %{FILEFLAGS:fflags}\n]`, "qosctl"); !strings.Contains(out, "/etc/qosctl/agent.yaml cn\n") || strings.Count(out, " cn\n")+strings.Count(out, " c\n") != 1 {
		r.t.Errorf("configuration files (c: one, n: noreplace): %s", out)
	}
	if !strings.Contains(r.read("/etc/group"), "\nqosctl:") {
		r.t.Error("the script after the installation made no group")
	}
	if out, err := exec.CommandContext(r.t.Context(), "chroot", r.dir, "/usr/bin/qosctl", "version").Output(); err != nil || !strings.Contains(string(out), "1.0.0") {
		r.t.Errorf("qosctl version: %s, %v", out, err)
	}
}

// changed makes a newer package of what is in the root, with another agent.yaml, as nfpm makes the one before.
func (r *rpmRoot) changed(dir, version string) string {
	r.t.Helper()
	generated := r.t.TempDir()
	if err := os.Mkdir(filepath.Join(generated, "man"), 0o755); err != nil {
		r.t.Fatal(err)
	}
	config := filepath.Join(generated, "agent.yaml")
	if err := os.WriteFile(config, []byte(r.read("/etc/qosctl/agent.yaml")+"# of "+version+"\n"), 0o640); err != nil {
		r.t.Fatal(err)
	}
	from := func(pattern, to string) {
		files, err := filepath.Glob(r.path(pattern))
		if err != nil || len(files) == 0 {
			r.t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err == nil {
				err = os.WriteFile(filepath.Join(generated, to, filepath.Base(f)), text, 0o644)
			}
			if err != nil {
				r.t.Fatal(err)
			}
		}
	}
	from("/usr/share/man/man1/qosctl*.1.gz", "man")
	from("/usr/share/bash-completion/completions/qosctl", "")
	from("/usr/share/fish/vendor_completions.d/qosctl.fish", "")
	from("/usr/share/zsh/site-functions/_qosctl", "")
	if err := os.Rename(filepath.Join(generated, "qosctl"), filepath.Join(generated, "qosctl.bash")); err != nil {
		r.t.Fatal(err)
	}
	text, err := os.ReadFile("nfpm.yaml")
	if err != nil {
		r.t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("src: packaging/agent.yaml"), []byte("src: "+config), 1)
	text = bytes.ReplaceAll(text, []byte("compression: xz"), []byte("compression: gzip")) // sooner done
	file := filepath.Join(generated, "nfpm.yaml")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.CommandContext(r.t.Context(), "bin/nfpm", "package", "--config", file, "--packager", "rpm", "--target", dir)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "ARCH=amd64", "VERSION="+version, "MAINTAINER=test <test@example.org>", "STAGE="+r.path("/usr/bin"), "GENERATED="+generated, "SOURCE_DATE_EPOCH=1700000001")
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("nfpm: %v: %s", err, out)
	}
	return filepath.Join(dir, fmt.Sprintf("qosctl-%s-1.x86_64.rpm", version))
}

// runtime is our OCI runtime in the root.
const runtime = "/usr/libexec/qosctl/qosctl-runtime"

// upgraded installs the newer package over the older one, which the operator has configured, and whose OCI runtime is in its place.
func (r *rpmRoot) upgraded(pkg string) {
	r.t.Helper()
	const mine = "control: {mode: advise}\n"
	state := r.path("/var/lib/qosctl/kept")
	if err := errors.Join(os.WriteFile(r.path("/etc/qosctl/agent.yaml"), []byte(mine), 0o640), os.MkdirAll(r.path("/usr/libexec/qosctl"), 0o755),
		os.WriteFile(r.path(runtime), []byte("old"), 0o755), os.MkdirAll(filepath.Dir(state), 0o711), os.WriteFile(state, nil, 0o600)); err != nil {
		r.t.Fatal(err)
	}
	out := r.rpm(append([]string{"--upgrade", pkg}, installing...)...)
	r.t.Logf("upgrade: %s", out)
	if got := r.rpm("-q", "qosctl"); got != "qosctl-1.1.0-1.x86_64\n" {
		r.t.Errorf("installed is %s", got)
	}
	if r.read("/etc/qosctl/agent.yaml") != mine || !strings.HasSuffix(r.read("/etc/qosctl/agent.yaml.rpmnew"), "# of 1.1.0\n") {
		r.t.Error("the operator's configuration is not as it was, or the new one is not beside it")
	}
	if r.read(runtime) != r.read("/usr/bin/qosctl") {
		r.t.Error("the OCI runtime is still the old one")
	}
	if !r.there("/var/lib/qosctl/kept") || !r.there("/usr/lib/systemd/system/qosctl-agent.service") || !strings.Contains(r.read("/etc/group"), "\nqosctl:") {
		r.t.Error("the upgrade took away what it should have left")
	}
}

// erased takes the package out: not while its OCI runtime may have containers, unless that is forced.
func (r *rpmRoot) erased() {
	r.t.Helper()
	if out, err := r.try("", "--erase", "--nodeps", "qosctl"); err == nil || !strings.Contains(out, "QOSCTL_FORCE_REMOVE=1") || !r.there("/usr/bin/qosctl") {
		r.t.Errorf("erased under the OCI runtime: %v: %s", err, out)
	}
	if out, err := r.try("QOSCTL_FORCE_REMOVE=1", "--erase", "--nodeps", "qosctl"); err != nil {
		r.t.Fatalf("erase: %v: %s", err, out)
	}
	for p, want := range map[string]bool{
		"/usr/bin/qosctl": false, "/usr/lib/systemd/system/qosctl-agent.service": false, "/etc/qosctl/agent.yaml": false, "/usr/share/doc/qosctl": false, "/usr/share/licenses/qosctl": false,
		"/etc/qosctl/agent.yaml.rpmsave": true, runtime: true, "/var/lib/qosctl/kept": true,
	} {
		if r.there(p) != want {
			r.t.Errorf("after the erasure %s is there: %t", p, !want)
		}
	}
	if out, err := r.try("", "-q", "qosctl"); err == nil {
		r.t.Errorf("rpm still knows it: %s", out)
	}
}
