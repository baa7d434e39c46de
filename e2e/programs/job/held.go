package main

import (
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// locks holds a flock and a POSIX lock.
type locks struct {
	dir    string
	flock  *os.File
	posix  *os.File
	others [2]*os.File // other descriptions of both files, which meet the locks; never closed: that would drop the POSIX lock
}

func (l *locks) flags(set *flag.FlagSet) {
	set.StringVar(&l.dir, "dir", "/tmp", "directory for its files")
}

func (l *locks) begin([]string) (err error) {
	open := func(name string) *os.File {
		f, oerr := os.OpenFile(filepath.Join(l.dir, name), os.O_RDWR|os.O_CREATE, 0o600)
		err = errors.Join(err, oerr)
		return f
	}
	l.flock, l.posix = open("flock"), open("posix")
	l.others = [2]*os.File{open("flock"), open("posix")}
	if err != nil {
		return err
	}
	if err := unix.Flock(int(l.flock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("flock: %w", err)
	}
	if err := unix.FcntlFlock(l.posix.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: 10, Len: 20}); err != nil {
		return fmt.Errorf("lock a range: %w", err)
	}
	return nil
}

func (l *locks) step(int64) (string, error) {
	if err := unix.Flock(int(l.others[0].Fd()), unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		return "", fmt.Errorf("the flock is not held: %w", err)
	}
	ask := unix.Flock_t{Type: unix.F_WRLCK, Start: 15, Len: 1}
	if err := unix.FcntlFlock(l.others[1].Fd(), unix.F_OFD_GETLK, &ask); err != nil {
		return "", fmt.Errorf("ask for the range's lock: %w", err)
	}
	if ask.Type != unix.F_WRLCK || ask.Start != 10 || ask.Len != 20 || int(ask.Pid) != os.Getpid() {
		return "", fmt.Errorf("the range's lock is not held: %+v", ask)
	}
	return "held", nil
}

// tty looks whether its standard streams are still terminals, or still none, of the same size and modes.
type tty struct {
	want   bool
	before [3]string
}

func (t *tty) flags(set *flag.FlagSet) {
	set.BoolVar(&t.want, "want", true, "they are to be terminals")
}

func (t *tty) begin([]string) error {
	t.before = look()
	for fd, is := range t.before {
		if (is != "") != t.want {
			return fmt.Errorf("descriptor %d: terminal is %t", fd, is != "")
		}
	}
	return nil
}

// look describes the terminals of the standard streams; "" is none.
func look() (is [3]string) {
	for fd := range is {
		if modes, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
			size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
			is[fd] = fmt.Sprintf("%+v %+v %v", *modes, size, err)
		}
	}
	return is
}

func (t *tty) step(int64) (string, error) {
	if now := look(); now != t.before {
		return "", fmt.Errorf("terminals were %q and are %q", t.before, now)
	}
	return fmt.Sprint(t.want), nil
}

// tmpfs keeps content in file systems that are memory: one file open and growing, one closed.
type tmpfs struct {
	files []*os.File
	want  [][]byte
}

func (*tmpfs) flags(*flag.FlagSet) {}

// begin takes the directories, /dev/shm if there are none.
func (t *tmpfs) begin(dirs []string) error {
	if len(dirs) == 0 {
		dirs = []string{"/dev/shm"}
	}
	for _, d := range dirs {
		var st unix.Statfs_t
		if err := unix.Statfs(d, &st); err != nil || st.Type != unix.TMPFS_MAGIC {
			return fmt.Errorf("%s is no tmpfs (type %x, %w)", d, st.Type, err)
		}
		content := make([]byte, 3<<20)
		if _, err := rand.Read(content); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(d, "closed"), content, 0o600); err != nil {
			return err
		}
		f, err := os.Create(filepath.Join(d, "open"))
		if err != nil {
			return err
		}
		t.files, t.want = append(t.files, f), append(t.want, content)
	}
	return nil
}

func (t *tmpfs) step(n int64) (string, error) {
	for i, f := range t.files {
		if err := contains(filepath.Join(filepath.Dir(f.Name()), "closed"), string(t.want[i])); err != nil {
			return "", err
		}
		if err := grow(f, n); err != nil {
			return "", err
		}
	}
	return fmt.Sprint(len(t.files)), nil
}

// record is a line of a growing file; all have one length.
func record(n int64) string { return fmt.Sprintf("%15d\n", n) }

// grow looks whether an open file holds the records before n, its offset at their end, and adds one by that offset.
func grow(f *os.File, n int64) error {
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if want := (n - 1) * 16; at != want {
		return fmt.Errorf("%s: the offset is %d, not %d", f.Name(), at, want)
	}
	var all strings.Builder
	for i := int64(1); i < n; i++ {
		all.WriteString(record(i))
	}
	if err := holds(f, all.String()); err != nil {
		return err
	}
	if _, err := f.WriteString(record(n)); err != nil {
		return err
	}
	return contains(f.Name(), all.String()+record(n))
}

// volume keeps a growing file in each of some directories: bind mounts and volumes.
type volume struct{ files []*os.File }

func (*volume) flags(*flag.FlagSet) {}

func (v *volume) begin(dirs []string) error {
	if len(dirs) == 0 {
		return errors.New("name the directories")
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if !slices.ContainsFunc(strings.Split(string(mounts), "\n"), func(line string) bool {
			f := strings.Fields(line)
			return len(f) > 4 && f[4] == d
		}) {
			return fmt.Errorf("nothing is mounted at %s", d)
		}
		f, err := os.Create(filepath.Join(d, "grows"))
		if err != nil {
			return err
		}
		v.files = append(v.files, f)
	}
	return nil
}

func (v *volume) step(n int64) (string, error) {
	for _, f := range v.files {
		if err := grow(f, n); err != nil {
			return "", err
		}
	}
	return fmt.Sprint(len(v.files)), nil
}
