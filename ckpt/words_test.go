package ckpt

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// errorsOfLogs are the errors in logs of CRIU 4.1.1 and 4.2.1, as they were recorded in test nodes.
var errorsOfLogs = map[string]struct{ log, want string }{
	"nothing but noise": {`
(00.005682) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted
(00.268528) Dumping finished successfully`, ""},
	"a connection": {`
(00.004857) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted
(00.171429) Error (criu/sk-inet.c:191): inet: Connected TCP socket, consider using --tcp-established option.
(00.171444) Error (criu/cr-dump.c:1681): Dump files (pid: 16035) failed with -1
(00.247101) Error (criu/cr-dump.c:2111): Dumping FAILED.`, "established TCP connection (checkpoint.tcp"},
	"a lock": {`
(00.171429) Error (criu/file-lock.c:120): Some file locks are hold by dumping tasks! You can try --file-locks to dump them.
(00.247101) Error (criu/cr-dump.c:2111): Dumping FAILED.`, "file locks (checkpoint.file_locks"},
	"an IP socket, CRIU 4.1": {`
(00.149547) Error (criu/sockets.c:628): sockets: Can't get 1:16 opt: Operation not supported
(00.149551) Error (criu/sockets.c:628): sockets: Can't get 1:34 opt: Operation not supported
(00.149583) Error (criu/cr-dump.c:1681): Dump files (pid: 16684) failed with -1`, "an IP socket"},
	"a file is missing": {`
(00.415334)      1: Error (criu/files-reg.c:2353): Can't open file data/mine on restore: No such file or directory
(00.415338)      1: Error (criu/files-reg.c:2267): Can't open file data/mine: No such file or directory
(00.415340)      1: Error (criu/files.c:1221): Unable to open fd=3 id=0x5
(00.419394) Error (criu/cr-restore.c:2320): Restoring FAILED.
(00.427736) Error (criu/cgroup.c:1998): cg: cgroupd: recv req error: No such file or directory`, "a file that it had open is missing"},
	"a file was changed": {`
(00.277710)      1: Error (criu/files-reg.c:2175): File data/mine has bad size 43 (expect 2)
(00.277719)      1: Error (criu/files.c:1221): Unable to open fd=3 id=0x5`, "has changed since"},
	"an image is cut short": {`
(00.004) Error (criu/image.c:400): Read 0 bytes while 78 expected from /c/1/images/inventory.img: Operation not permitted`, "missing or cut short"},
	"a mount is missing": {`
(00.1) Error (criu/mount.c:3100): mnt: No mapping for 175:(null) mountpoint`, "volumes must be the same"},
	"an init": {`
(00.1) Error (criu/mount-v2.c:300): mnt-v2: Unable to statfs /tmp/.criu.mntns/mnt-0000000300`, "mntns-compat-mode"},
	"no room":           {"(00.1) Error (criu/pagemap.c:1): Can't write pages: No space left on device", "the disk is full"},
	"something unheard": {"(00.1) Error (criu/x.c:1): the moon is full", "CRIU: the moon is full"},
}

func TestExplain(t *testing.T) {
	t.Parallel()
	for name, c := range errorsOfLogs {
		got := explainLines(bufio.NewScanner(strings.NewReader(c.log)))
		if c.want == "" && got != "" || !strings.Contains(got, c.want) || strings.Contains(got, "RLIMIT") || strings.Contains(got, "cgroupd") {
			t.Errorf("%s: %q, want %q in it", name, got, c.want)
		}
	}
	if got := explain(filepath.Join(t.TempDir(), "none")); got != "" {
		t.Errorf("a log that is not there says %q", got)
	}
}

func TestExplainKeepsTheLastErrors(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	for range 20 {
		log.WriteString("(00.1) Error (criu/x.c:1): early\n")
	}
	log.WriteString("(00.1) Error (criu/x.c:1): " + strings.Repeat("x", 2*maxLogLine) + "\n(00.2) Error (criu/x.c:2): late\n")
	got := explainLines(bufio.NewScanner(strings.NewReader(log.String())))
	if !strings.HasSuffix(got, "late") || strings.Count(got, "early") != lastErrors-2 || len(got) > 2*maxLogLine {
		t.Errorf("got %q", got)
	}
}

func TestWithLog(t *testing.T) {
	t.Parallel()
	killed := errors.New("OCI runtime restore failed:\n read unixpacket @->@: EOF")
	err := withLog(killed, filepath.Join(t.TempDir(), "none"))
	if !errors.Is(err, killed) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "somebody has killed it") {
		t.Errorf("got %q", err)
	}
}

func TestLastWords(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "",
		`time="2026-11-23T02:39:28Z" level=error msg="criu failed: type NOTIFY errno 0\nlog file: /w/dump.log"` + "\n": "criu failed: type NOTIFY errno 0 log file: /w/dump.log",
		"first\nexec: \"criu\": executable file not found in $PATH\n":                                                  `exec: "criu": executable file not found in $PATH`,
	} {
		if got := lastWords([]byte(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestComplete(t *testing.T) {
	t.Parallel()
	images, work := t.TempDir(), t.TempDir()
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var waited time.Duration
	want := func(what string, whole, over bool, wait time.Duration) {
		t.Helper()
		if got := complete(images, work); got != whole {
			t.Errorf("%s: complete %t", what, got)
		}
		waited = 0
		if got := ended(images, work, func(d time.Duration) bool { waited = d; return true }); got != over || waited != wait {
			t.Errorf("%s: ended %t, waited %s", what, got, waited)
		}
		if ended(images, work, func(time.Duration) bool { return false }) {
			t.Errorf("%s: ended, and the container is there", what)
		}
	}
	log, inventory := filepath.Join(work, dumpLog), filepath.Join(images, "inventory.img")
	write(log, strings.Repeat("x\n", 5000)+"(00.2) "+dumpDone+"\n")
	want("without an image", false, false, 0)
	write(inventory, "")
	want("an empty inventory", false, false, 0)
	write(inventory, "x")
	want("whole", true, true, undoTime)
	write(log, "(00.1) "+dumpDone+"\n"+strings.Repeat("x\n", 5000)) // of a former try, in the same file
	want("killed before it said so", false, true, killTime)
}

// FuzzExplain gives it logs of any form.
func FuzzExplain(f *testing.F) {
	for _, c := range errorsOfLogs {
		f.Add(c.log)
	}
	f.Fuzz(func(t *testing.T, log string) {
		if got := explainLines(bufio.NewScanner(strings.NewReader(log))); len(got) > 10*maxLogLine {
			t.Errorf("%d bytes", len(got))
		}
	})
}

func TestDumperOfAnotherTime(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	if _, ok := dumper(work); ok {
		t.Error("there is one without a file")
	}
	self, err := processOf(os.Getpid())
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			t.Skip("SKIPPED, there is no /proc")
		}
		t.Fatal(err)
	}
	for text, want := range map[string]bool{self.String(): true, process{self.pid, "1"}.String(): false, "1 1": false, "x": false} {
		if err := os.WriteFile(filepath.Join(work, pidName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, ok := dumper(work); ok != want {
			t.Errorf("%q: %v", text, ok)
		}
	}
}
