package ckpt

import (
	"bufio"
	"os"
	"regexp"
	"slices"
	"strings"
)

// saying is what CRIU's log says, in words, with what helps.
type saying struct {
	pattern *regexp.Regexp
	text    string
}

// sayings are what is known to go wrong, the most telling first.
func sayings() []saying {
	s := func(pattern, text string) saying { return saying{regexp.MustCompile(pattern), text} }
	return []saying{
		s(`Read -?\d+ bytes while \d+ expected|Unexpected EOF|[Mm]agic doesn't match|Unable to open .*\.img|Can't open dir .*images`, "an image is missing or cut short"),
		s(`Some file locks are hold`, "it holds file locks (checkpoint.file_locks: true lets CRIU carry them)"),
		s(`Connected TCP socket`, "it has an established TCP connection (checkpoint.tcp: keep, where it will have the same address again, or close)"),
		s(`Can't get 1:16 opt|sk-inet.*Operation not supported`, "it has an IP socket, which this version of CRIU can't save on this kernel (CRIU 4.2 can)"),
		s(`Unsupported proto 262`, "it listens on an MPTCP socket, which CRIU can't save (a Go program: set GODEBUG=multipathtcp=0 in its environment)"),
		s(`Can't connect inet socket back`, "its TCP connection can't be made again: with network none nothing can be reached after a restore, use host"),
		s(`No mapping for .*mountpoint`, "a mount of the checkpointed container is missing in the new one: volumes must be the same"),
		s(`Unable to statfs|mnt-v2`, "its mounts can't be made again; with docker-init CRIU needs mntns-compat-mode"),
		s(`has bad size|File .* bad mode`, "a file that it had open has changed since"),
		s(`Can't open file .*(on restore|: No such file)|No such file or directory.*open`, "a file that it had open is missing"),
		s(`Can't lookup mount`, "it has a file open that is not in its container (an inherited descriptor)"),
		s(`Operation not permitted|Can't get rlimit`, "CRIU lacks a capability (CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_SYS_RESOURCE)"),
		s(`No space left on device`, "the disk is full"),
		s(`Cannot allocate memory|\boom\b`, "there is not enough memory, or the memory limit is below what it has resident"),
		s(`unix socket .* external|External socket is used`, "it has a unix socket to a process outside of its container"),
		s(`Unseizable non-zombie`, "a process of it can't be seized (it is traced, waits for a child made by vfork, or is in another cgroup)"),
		s(`uffd|userfaultfd`, "it uses userfaultfd, which CRIU can't save"),
		s(`io_uring`, "it uses io_uring, which CRIU can't save"),
		s(`cpu:|CPU (capabilities|features)|fpu`, "this CPU lacks a feature of the one that it ran on"),
	}
}

// noise are errors that every log has.
var noise = regexp.MustCompile(`Can't setup RLIMIT_NOFILE|cgroupd: recv req|prepare_cgroup|Failed to (lock|unlock) network|pidfd`)

const (
	lastErrors = 4
	maxLogLine = 400
)

// explain puts CRIU's log into words: what is known of it, and its last errors.
func explain(log string) string {
	f, err := os.Open(log)
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // only read
	return explainLines(bufio.NewScanner(f))
}

func explainLines(in *bufio.Scanner) string {
	in.Buffer(make([]byte, 64<<10), 1<<20)
	var errs []string
	known, all := "", sayings()
	for in.Scan() {
		_, line, found := strings.Cut(in.Text(), "Error (")
		if !found || noise.MatchString(line) {
			continue
		}
		if _, text, ok := strings.Cut(line, "): "); ok {
			line = text
		}
		if len(line) > maxLogLine {
			line = line[:maxLogLine]
		}
		if errs = append(errs, line); len(errs) > lastErrors {
			errs = slices.Delete(errs, 0, 1)
		}
		for _, s := range all {
			if known == "" && s.pattern.MatchString(line) {
				known = s.text
			}
		}
	}
	switch last := strings.Join(errs, "; "); {
	case known != "":
		return known + " [CRIU: " + last + "]"
	case last != "":
		return "CRIU: " + last
	}
	return ""
}

// succeeded says whether CRIU's log ends with success.
func succeeded(log, what string) bool {
	b, err := os.ReadFile(log)
	if err != nil {
		return false
	}
	return strings.Contains(string(b[max(0, len(b)-4<<10):]), what)
}
