package ckpt

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"qosctl/cgroup"
	"qosctl/ckpt/ociruntime"
	"qosctl/container"
)

// Annotations of the containers that can be checkpointed. The first is runc's: a CRIU configuration file, read at each operation, whose
// options override runc's own. The second is that of our OCI runtime.
const (
	annotationCRIU    = "org.criu.config"
	annotationRestore = "org.qosctl.restore"
)

// conf are a driver's files for one container, below <Dir>/.conf. They are root's: CRIU runs programs that they name.
type conf struct{ dir, id string }

func (c conf) criu() string    { return filepath.Join(c.dir, c.id+".conf") }
func (c conf) restore() string { return filepath.Join(c.dir, c.id+".restore") }
func (c conf) hook() string    { return filepath.Join(c.dir, c.id+".hook") }

// annotate adds what a container must have from its creation on.
func (c conf) annotate(s *container.Spec) {
	if s.Annotations == nil {
		s.Annotations = map[string]string{}
	}
	s.Annotations[annotationCRIU], s.Annotations[annotationRestore] = c.criu(), c.restore()
}

// criuOptions are the lines of a CRIU configuration file (criu(8)).
func criuOptions(a Allow, v2 bool) []string {
	lines := []string{"ghost-limit 64M", "link-remap"}
	add := func(on bool, line string) {
		if on {
			lines = append(lines, line)
		}
	}
	add(a.FileLocks, "file-locks")
	add(a.TCPEstablished, "tcp-established")
	add(a.TCPClose, "tcp-close")
	add(v2, "manage-cgroups=ignore") // runc < 1.2 leaves restored processes in the old container's cgroup
	return lines
}

// writeCRIU writes the CRIU configuration of a container.
func (c conf) writeCRIU(lines []string) error {
	for _, l := range lines {
		if strings.ContainsAny(l, "\n\"'\\") {
			return fmt.Errorf("CRIU's configuration can't have %q", l)
		}
	}
	return writeFile(c.criu(), []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}

// hook is what the script that CRIU runs at each stage of a restore does when all is restored and nothing runs yet. It takes CRIU and itself out
// of the container's cgroup, where runc has put them, and notes the counter: what is counted from there on is the job's own. CRIU reads
// its configuration twice and runs the script twice: the second time counts.
type hook struct {
	counter string // copied to zero
	mount   string // of its hierarchy
	zero    string
	frozen  string // the processes stay frozen, and how to let them go is written here; "": they run
	freezer cgroup.Freezer
}

// writeHook writes the script of a restore; held: the processes are to stay frozen.
func (c conf) writeHook(fs *cgroup.FS, g cgroup.Group, work string, held bool) error {
	counter, mount, err := fs.CounterFile(g)
	if err != nil {
		return err
	}
	h := hook{counter: counter, mount: mount, zero: filepath.Join(work, zeroName)}
	if z, ok := fs.Freezer(); ok && held {
		h.frozen, h.freezer = filepath.Join(work, ociruntime.FrozenName), z
	}
	return writeFile(c.hook(), []byte(h.script()), 0o700)
}

func (h hook) script() string {
	s := fmt.Sprintf(`#!/bin/sh
[ "$CRTOOLS_SCRIPT_ACTION" = pre-resume ] || exit 0
# CRIU makes the network namespace of a container without a network anew, and leaves its loopback down.
nsenter -t "$CRTOOLS_INIT_PID" -n ip link set lo up 2>/dev/null
leave() {
	echo $$ >"$1"
	p=$PPID
	for _ in 1 2 3; do
		read -r comm </proc/$p/comm || break
		case $comm in criu | sh | dash | bash | busybox) ;; *) break ;; esac
		echo $p >"$1"
		read -r stat </proc/$p/stat || break
		stat=${stat##*) }
		stat=${stat#* }
		p=${stat%%%% *}
	done
}
leave %[1]s
read -r name value <%[2]s
echo "$name $value" >%[3]s
`, quote(filepath.Join(h.mount, "cgroup.procs")), quote(h.counter), quote(h.zero))
	if h.frozen != "" {
		s += fmt.Sprintf(`# A container that is created restored runs from its start on.
while IFS=: read -r _ names path; do
	case ,$names, in ,%[1]s,) break ;; esac
done </proc/$CRTOOLS_INIT_PID/cgroup
[ "${path:-/}" = / ] && exit 0
leave %[2]s
while read -r p; do # what CRIU has started
	read -r comm </proc/$p/comm && [ "$comm" = criu ] && echo $p >%[2]s
done <%[3]s"$path"/cgroup.procs
echo %[4]s %[3]s"$path"/%[5]s >%[6]s && echo %[7]s >%[3]s"$path"/%[5]s
`, h.freezer.Controller, quote(filepath.Join(h.freezer.Mount, "cgroup.procs")), quote(h.freezer.Mount), h.freezer.Off, h.freezer.File, quote(h.frozen), h.freezer.On)
	}
	return s + "exit 0\n"
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// parseZero reads what the hook has written: nanoseconds, or "usage_usec" and microseconds.
func parseZero(text string) (int64, error) {
	var n int64
	if _, err := fmt.Sscanf(text, "usage_usec %d", &n); err == nil {
		return n * 1000, nil
	}
	if _, err := fmt.Sscanf(text, "%d", &n); err != nil {
		return 0, fmt.Errorf("the counter at the restore's end is %q", text)
	}
	return n, nil
}

// restoreFile is what our OCI runtime is told (package ociruntime has the same).
type restoreFile struct {
	Version int      `json:"version"`
	Images  string   `json:"images"`
	Work    string   `json:"work"`
	Flags   []string `json:"flags,omitempty"` // of runc restore
}

func (c conf) writeRestore(r restoreFile) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	return writeFile(c.restore(), append(b, '\n'), 0o600)
}

// writeFile replaces a file whole.
func writeFile(name string, b []byte, mode os.FileMode) error {
	tmp := name + ".tmp"
	if err := os.WriteFile(tmp, b, mode); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.Chmod(tmp, mode); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.Rename(tmp, name); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// clear removes a container's files, when it is gone.
func (c conf) clear() {
	for _, f := range []string{c.criu(), c.restore(), c.hook()} {
		_ = os.Remove(f) // may never have been there
	}
}
