package process

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"qosctl/cgroup"
	"qosctl/container"
)

// lay writes files of a container as a crash, a reboot or a bad disk may have left them.
func lay(t *testing.T, e *Engine, id string, files map[string]any) {
	t.Helper()
	dir := filepath.Join(e.o.Dir, id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, v := range files {
		b, ok := v.(string)
		if !ok {
			j, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			b = string(j)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatIsFoundOnDisk(t *testing.T) {
	t.Parallel()
	e := open(t, options(t))
	conf := config{Spec: container.Spec{ID: "x", Command: "true"}, Cgroup: e.o.CgroupParent + "/x"}
	me, err := e.proc.identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	self := running{identity: me, Boot: e.boot}
	reused := self
	reused.Start++
	earlier := self
	earlier.Boot = "another"
	for _, c := range []struct {
		name   string
		files  map[string]any
		state  container.State
		code   int
		reason string
	}{
		{"created", map[string]any{configName: conf}, container.Created, 0, ""},
		{"no-config", map[string]any{}, container.Exited, 255, "config.json"},
		{"torn-config", map[string]any{configName: `{"spec":{"id":`}, container.Exited, 255, "config.json"},
		{"torn-config-started", map[string]any{configName: `{`, startedName: ""}, container.Exited, 255, "config.json"},
		{"orphan", map[string]any{configName: conf, startedName: "", pidName: self}, container.Running, 0, ""},
		{"pid-used-again", map[string]any{configName: conf, startedName: "", pidName: reused}, container.Exited, 255, "its shim was killed"},
		{"reboot", map[string]any{configName: conf, startedName: "", pidName: earlier}, container.Exited, 255, "restarted"},
		{"no-pid", map[string]any{configName: conf, startedName: ""}, container.Exited, 255, "before its command ran"},
		{"torn-pid", map[string]any{configName: conf, startedName: "", pidName: `{"pid": 1`}, container.Exited, 255, "pid.json"},
		{"wrong-pid", map[string]any{configName: conf, startedName: "", pidName: `{"pid": "one"}`}, container.Exited, 255, "pid.json"},
		{"exited", map[string]any{configName: conf, startedName: "", pidName: self, exitName: container.Exit{Code: 3}}, container.Exited, 3, ""},
		{"torn-exit", map[string]any{configName: conf, startedName: "", pidName: self, exitName: `{"code":`}, container.Exited, 255, "exit.json"},
	} {
		lay(t, e, c.name, c.files)
		for range 2 { // the second look finds what the first has settled
			i, err := e.Inspect(t.Context(), c.name)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				break
			}
			x := container.Exit{}
			if i.Exit != nil {
				x = *i.Exit
			}
			if i.State != c.state || x.Code != c.code || !strings.Contains(x.Reason, c.reason) || x.Unknown != (c.code == 255) {
				t.Errorf("%s: %s, %+v", c.name, i.State, x)
			}
		}
	}
	if _, err = e.List(t.Context()); err != nil {
		t.Error(err)
	}
}

// FuzzState: no content of a container's files makes an engine panic, or its list fail. Without an exit status (an empty one is no
// file) the engine settles what it finds.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"spec":{"id":"x"},"cgroup":""}`), []byte(`{"pid":1,"start_time":2,"shim":{"pid":0},"boot":"b","cgroup":"/x"}`), []byte(`{"code":1}`))
	f.Add([]byte(`null`), []byte(`[]`), []byte(`{`))
	f.Add([]byte(`{"spec":{"id":"x"},"cgroup":"/q/x"}`), []byte(`{"pid":1,"boot":"b"}`), []byte(``))
	f.Add([]byte(`{"cgroup":"/../x"}`), []byte(`{`), []byte(``))
	f.Add([]byte(`{"spec":{"limits":{"cpus":1e999}}}`), []byte(`{"pid":-1}`), []byte(`{"finished":"never"}`))
	// Cgroups of a host that has none: what is read must not lead to a real one.
	root := f.TempDir()
	for _, c := range []string{"cpu", "cpuacct"} {
		put(f, filepath.Join(root, c, "cgroup.procs"), "", 0o644)
		put(f, filepath.Join(root, c, "cpu.shares"), "1024", 0o644)
		put(f, filepath.Join(root, c, "cpuacct.usage"), "0", 0o644)
	}
	fs, err := cgroup.New(cgroup.Options{Root: root})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, conf, pid, exit []byte) {
		dir := memoryDir(t)
		e := &Engine{o: Options{Dir: dir, Cgroups: fs}, log: slog.New(slog.DiscardHandler), proc: procTable{"/proc", new(ends)}, loads: make(chan struct{}, 1), boot: "not this one", children: map[int]struct{}{}}
		files := map[string]any{configName: string(conf), pidName: string(pid), startedName: ""}
		if len(exit) > 0 {
			files[exitName] = string(exit)
		}
		lay(t, e, "x", files)
		r, err := e.load("x")
		if err != nil || r.state != container.Exited {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// memoryDir is a TempDir in memory, where there is one: a settled container is synced, and a disk takes most of the time for that.
func memoryDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "qosctl-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("1 (a) b) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 1 1"))
	f.Add([]byte(")"))
	f.Add([]byte("1 (x) R"))
	f.Fuzz(func(t *testing.T, b []byte) {
		state, start, err := parseStat(b)
		if err != nil && (state != 0 || start != 0) {
			t.Error("an error and a value")
		}
	})
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	state, start, err := parseStat([]byte("7 (a) S 9 ) R 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 1 1\n"))
	if state != 'R' || start != 12345 || err != nil {
		t.Errorf("%c %d %v", state, start, err)
	}
}

func FuzzParseInotify(f *testing.F) {
	f.Add(append(make([]byte, 12), 4, 0, 0, 0, 'a', 'b', 0, 0))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		if err := parseInotify(b, func(int32, uint32, string) { n++ }); err == nil && n > len(b)/unix.SizeofInotifyEvent {
			t.Error("more records than fit")
		}
	})
}

func TestCutAt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		keep := rapid.Int64Range(blockSize, 1<<30).Draw(t, "keep")
		size := rapid.Int64Range(0, 1<<40).Draw(t, "size")
		dropped := rapid.Int64Range(0, size).Draw(t, "dropped")
		cut := cutAt(size, dropped, keep)
		switch {
		case cut == 0:
			if size-dropped > keep+keep/4+blockSize {
				t.Fatalf("nothing is dropped of %d bytes", size-dropped)
			}
		case cut%blockSize != 0 || cut <= dropped || size-cut < keep || size-cut >= keep+blockSize:
			t.Fatalf("cut at %d", cut)
		}
	})
}

func TestOutputIsBounded(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.MaxLog = 256 << 10
	e := open(t, o)
	defer stopAll(t, e)
	// 4 MiB in lines of 16 bytes, then a wait in which the shim looks at it.
	if err := e.Create(t.Context(), container.Spec{ID: "x", Command: `seq -f '%015.0f' 0 262143; while ! [ -e go ]; do sleep 0.02; done; seq -f '%015.0f' 262144 262145`}); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(o.Dir, "x")
	end := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	// The mark is written before the hole is made (a reader must never meet zeros), so the mark alone does not say that it is.
	var st unix.Stat_t
	for readMark(markName(dir, container.Stdout)) < 4<<20-o.MaxLog || st.Blocks*512 > 2*o.MaxLog {
		if <-tick.C; time.Now().After(end) {
			t.Fatalf("nothing was dropped: %d bytes on disk", st.Blocks*512)
		}
		if err := unix.Stat(filepath.Join(dir, "stdout"), &st); err != nil {
			t.Fatal(err)
		}
	}
	if st.Size < 4<<20 {
		t.Errorf("the file shrank to %d bytes", st.Size)
	}
	if err := os.WriteFile(filepath.Join(dir, sandboxName, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := e.Logs(t.Context(), "x", container.Stdout, 160)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() //nolint:errcheck // nothing was written
	line := make([]byte, 16)
	if _, err = io.ReadFull(r, line); err != nil {
		t.Fatal(err)
	}
	at := r.(container.Positioner).Offset() - 16 //nolint:forcetypeassert // every reader of Logs is one
	if at < 3<<20 || strings.TrimLeft(string(line[:15]), "0") != itoa(at/16) {
		t.Errorf("at %d: %q", at, line)
	}
	rest, err := io.ReadAll(r)
	if err != nil || at+16+int64(len(rest)) != 4<<20+32 {
		t.Errorf("%d bytes after %d, %v", len(rest), at, err)
	}
}

func itoa(n int64) string { return strings.TrimSpace(string(mustJSON(n))) }

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// TestDiskFull: errors, nothing half there, and an exit status that is written as soon as there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	o := options(t)
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", o.Dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("SKIPPED, no right to mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(o.Dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	e := open(t, o)
	defer stopAll(t, e)
	for id, command := range map[string]string{"runs": "while ! [ -e /proc/$PPID/nothing ] && ! [ -e ../stop ]; do sleep 0.02; done; exit 3", "starts": "true"} {
		if err := e.Create(t.Context(), container.Spec{ID: id, Command: command}); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Start(t.Context(), "runs"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.Dir, "runs", "stop.tmp"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fill := filepath.Join(o.Dir, ".fill")
	if err := os.WriteFile(fill, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	if err := e.Create(t.Context(), container.Spec{ID: "new", Command: "true"}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("create: %v", err)
	}
	if ents, err := filepath.Glob(filepath.Join(o.Dir, tmpPrefix+"*")); err != nil || len(ents) > 0 {
		t.Errorf("left behind: %v", ents)
	}
	if err := e.Start(t.Context(), "starts"); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("start: %v", err)
	}
	if err := os.Rename(filepath.Join(o.Dir, "runs", "stop.tmp"), filepath.Join(o.Dir, "runs", "stop")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if x, err := e.Wait(ctx, "runs"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait with a full disk: %+v, %v", x, err)
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	if x, err := e.Wait(t.Context(), "runs"); err != nil || x.Code != 3 || x.Unknown {
		t.Errorf("exit %+v, %v", x, err)
	}
	if x, err := e.Wait(t.Context(), "starts"); err != nil || x.Code != container.CodeSetup || !strings.Contains(x.Reason, "no space") {
		t.Errorf("exit %+v, %v", x, err)
	}
}
