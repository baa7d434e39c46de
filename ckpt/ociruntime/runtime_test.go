package ociruntime

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]call{
		"":          {},
		"--version": {global: []string{"--version"}},
		"state x":   {command: "state", rest: []string{"x"}},
		"--root /r --log=/l create --bundle /b --pid-file /p x": {
			global: []string{"--root", "/r", "--log=/l"}, command: "create", rest: []string{"--bundle", "/b", "--pid-file", "/p", "x"},
		},
		"-debug -root /r create -b /b x":     {global: []string{"-debug", "-root", "/r"}, command: "create", rest: []string{"-b", "/b", "x"}},
		"--systemd-cgroup --root /r start x": {global: []string{"--systemd-cgroup", "--root", "/r"}, command: "start", rest: []string{"x"}},
	} {
		if d := cmp.Diff(want, parse(strings.Fields(line)), cmp.AllowUnexported(call{}), cmp.Transformer("nil", func(s []string) []string { return append([]string{}, s...) })); d != "" {
			t.Errorf("%q: %s", line, d)
		}
	}
}

// bundle makes a bundle whose annotation names a restore file below root.
func bundle(t *testing.T, annotation string) string {
	t.Helper()
	dir := t.TempDir()
	b, err := json.Marshal(map[string]any{"annotations": map[string]string{Annotation: annotation}})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// tree makes a root for restore files that is trusted.
func tree(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "checkpoints")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestCreateBecomesRestore(t *testing.T) {
	t.Parallel()
	root := tree(t)
	file := filepath.Join(root, "c.restore")
	b := bundle(t, file)
	line := []string{"--root", "/r", "create", "--bundle", b, "--pid-file", "/p", "--console-socket", "/s", "x"}
	got, err := rewrite(parse(line), Config{Root: root}, "runc")
	if err != nil || !slices.Equal(got, line) {
		t.Errorf("without the file: %q, %v", got, err)
	}
	text := `{"version":1,"images":"` + root + `/i","work":"` + root + `/w","flags":["--file-locks"]}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err = rewrite(parse(line), Config{Root: root}, "runc")
	want := []string{
		"--root", "/r", "restore", "--detach", "--bundle", b, "--pid-file", "/p", "--console-socket", "/s",
		"--image-path", root + "/i", "--work-path", root + "/w", "--file-locks", "x",
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("with the file: %q, %v", got, err)
	}
	if err := os.Chmod(file, 0o622); err != nil {
		t.Fatal(err)
	}
	if got, err := rewrite(parse(line), Config{Root: root}, "runc"); err == nil {
		t.Errorf("a file that others can write is believed: %q", got)
	}
}

// TestStartOfARestored: it is known by the order that is still there, and by runc's state without anything that waits to be started.
func TestStartOfARestored(t *testing.T) {
	root, state := tree(t), t.TempDir()
	file := filepath.Join(root, "c.restore")
	dir := filepath.Join(filepath.Dir(bundle(t, file)), "x")
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "config.json"), `{"annotations":{"`+Annotation+`":"`+file+`"}}`)
	t.Chdir(dir)
	is := func(want bool, when string) {
		t.Helper()
		for _, global := range [][]string{{"--root", state}, {"--log", "l", "--root=" + state}} {
			if got := restoring(global, "x", root) != nil; got != want {
				t.Errorf("%s: %v with %q", when, got, global)
			}
		}
	}
	is(false, "nothing is there")
	write(file, `{"version":1,"images":"`+root+`/i","work":"`+root+`/w"}`)
	is(false, "runc does not know it")
	write(filepath.Join(state, "x", "state.json"), "{}")
	is(true, "restored")
	write(filepath.Join(state, "x", "exec.fifo"), "")
	is(false, "it waits to be started")
	if restoring([]string{"--root", state}, "y", root) != nil || restoring([]string{"--root"}, "x", root) != nil || restoring(nil, "x", root) != nil {
		t.Error("another container, or no state, is taken for it")
	}
}

func TestPlainRunc(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	for _, line := range []string{
		"", "--version", "features", "--root /r state x", "--root /r kill x 9", "create", "create --bundle " + empty + " x", "create --help", "start", "start --help", "--root /r --log /l start x",
		"run --bundle " + empty + " x", "restore x", "exec x create",
	} {
		args := strings.Fields(line)
		got, err := rewrite(parse(args), Config{Root: "/nowhere"}, "/bin/false")
		if err != nil || !slices.Equal(got, args) {
			t.Errorf("%q becomes %q, %v", line, got, err)
		}
	}
}

func TestCreateOptions(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"create --bundle /b --pid-file /p x":                       "/b x --bundle /b --pid-file /p",
		"create -bundle /b -pid-file=/p x":                         "/b x --bundle /b --pid-file /p",
		"create -b=/b --no-pivot --no-new-keyring x":               "/b x --bundle /b --no-pivot",
		"create --preserve-fds 3 --pidfd-socket /s --bundle /b x":  "/b x --bundle /b",
		"create --console-socket /s --bundle /b x":                 "/b x --console-socket /s --bundle /b",
		"--root /r --log /l --log-format json create --bundle . x": ". x --bundle .",
	} {
		bundle, id, kept := parse(strings.Fields(line)).create()
		if got := strings.Join(append([]string{bundle, id}, kept...), " "); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

func TestWithoutLog(t *testing.T) {
	t.Parallel()
	got := withoutLog(strings.Fields("--root /r --log /l --log-format json -log=/l --systemd-cgroup"))
	if want := "--root /r --log-format json --systemd-cgroup"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRuncIsNotUs(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := findRunc(self); err == nil {
		t.Errorf("%s is to call itself", got)
	}
	if got, err := findRunc("/usr/bin/other-runc"); err != nil || got != "/usr/bin/other-runc" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestRestoreFilesThatAreNotBelieved(t *testing.T) {
	t.Parallel()
	root := tree(t)
	for name, text := range map[string]string{
		"no JSON":         `x`,
		"another version": `{"version":2,"images":"` + root + `/i","work":"` + root + `/w"}`,
		"images outside":  `{"version":1,"images":"/etc","work":"` + root + `/w"}`,
		"images above":    `{"version":1,"images":"` + root + `/../i","work":"` + root + `/w"}`,
		"no flag":         `{"version":1,"images":"` + root + `/i","work":"` + root + `/w","flags":["rm"]}`,
		"another bundle":  `{"version":1,"images":"` + root + `/i","work":"` + root + `/w","flags":["--bundle=/x"]}`,
	} {
		if o, err := parseOrder([]byte(text), root); err == nil {
			t.Errorf("%s: %+v", name, o)
		}
	}
	link := filepath.Join(root, "link")
	if err := os.Symlink("/etc/passwd", link); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"/etc/passwd", root, root + "/../x", "relative", link} {
		if o, err := readOrder(file, root); err == nil {
			t.Errorf("%s is believed: %+v", file, o)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"--root /r create --bundle /b x", "start x", "--log", "create --bundle"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Fields(line)
		c := parse(args)
		if got := slices.Concat(c.global, nonEmpty(c.command), c.rest); c.command != "" && !slices.Equal(got, args) {
			t.Errorf("%q is taken apart to %q", args, got)
		}
		c.create()
	})
}

func FuzzOrder(f *testing.F) {
	f.Add([]byte(`{"version":1,"images":"/c/i","work":"/c/w","flags":["--x"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseOrder(b, "/c")
		if err == nil && (!strings.HasPrefix(o.Images, "/c/") || !strings.HasPrefix(o.Work, "/c/")) {
			t.Errorf("%q leads to %+v", b, o)
		}
	})
}

func TestInstall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := Paths{
		Binary: filepath.Join(dir, "qosctl"), Runtime: filepath.Join(dir, "libexec", Name), Daemon: filepath.Join(dir, "docker", "daemon.json"),
		PIDFile: filepath.Join(dir, "docker.pid"), Proc: "/proc",
	}
	if err := os.WriteFile(p.Binary, []byte("one"), 0o755); err != nil {
		t.Fatal(err)
	}
	in, err := Install(t.Context(), p, nil)
	if err != nil || !in.Changed || in.Copy != "" || in.Reloaded {
		t.Errorf("first: %+v, %v", in, err)
	}
	if err := os.WriteFile(p.Binary, []byte("two"), 0o755); err != nil {
		t.Fatal(err)
	}
	in, err = Install(t.Context(), p, nil)
	if b, rerr := os.ReadFile(p.Runtime); err != nil || in.Changed || rerr != nil || string(b) != "two" {
		t.Errorf("again: %+v, %v; %q, %v", in, err, b, rerr)
	}
	out, err := Uninstall(t.Context(), p, func(context.Context) ([]string, error) { return []string{"job-1"}, nil })
	if _, serr := os.Stat(p.Runtime); err == nil || !strings.Contains(err.Error(), "job-1") || serr != nil {
		t.Errorf("taken out while it is used: %+v, %v, %v", out, err, serr)
	}
	out, err = Uninstall(t.Context(), p, func(context.Context) ([]string, error) { return nil, nil })
	if _, serr := os.Stat(p.Runtime); err != nil || !out.Changed || out.Copy == "" || !os.IsNotExist(serr) {
		t.Errorf("taken out: %+v, %v, %v", out, err, serr)
	}
	if err := os.WriteFile(p.Daemon, []byte("{broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Install(t.Context(), p, nil); err == nil {
		t.Error("a broken daemon.json is taken")
	}
	if b, err := os.ReadFile(p.Daemon); err != nil || string(b) != "{broken" {
		t.Errorf("it was changed: %q, %v", b, err)
	}
}

// TestLetGo: what is written, and where to, is in a file of the order's; nothing else is ever written to.
func TestLetGo(t *testing.T) {
	t.Parallel()
	work, group := t.TempDir(), t.TempDir()
	state, other := filepath.Join(group, "freezer.state"), filepath.Join(group, "cgroup.procs")
	for _, f := range []string{state, other} {
		if err := os.WriteFile(f, []byte("FROZEN"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := &order{Work: work}
	if err := errors.Join((&order{}).letGo(), o.letGo()); err != nil {
		t.Errorf("nothing is frozen: %v", err)
	}
	for _, c := range []struct {
		text, want string
		ok         bool
	}{
		{"THAWED " + other, "FROZEN", false},
		{"1 " + state, "FROZEN", false},
		{"THAWED freezer.state", "FROZEN", false},
		{"", "FROZEN", false},
		{"THAWED " + state + "\n", "THAWED", true},
	} {
		if err := os.WriteFile(filepath.Join(work, FrozenName), []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := o.letGo(); (err == nil) != c.ok {
			t.Errorf("%q: %v", c.text, err)
		}
		if b, err := os.ReadFile(state); err != nil || string(b) != c.want {
			t.Errorf("%q: %q, %v", c.text, b, err)
		}
	}
	if b, err := os.ReadFile(other); err != nil || string(b) != "FROZEN" {
		t.Errorf("%q, %v", b, err)
	}
}
