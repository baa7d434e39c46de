package ociruntime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// Annotation names the file that says what to restore.
	Annotation = "org.qosctl.restore"
	// Env is read instead where the engine knows no annotations (Docker API < 1.43).
	Env = "QOSCTL_RESTORE"
	// Name is the base name under which the binary acts as this runtime.
	Name = "qosctl-runtime"

	// ConfigFile may say where checkpoints and runc are: {"root": "/var/lib/qosctl/checkpoints", "runc": "/usr/sbin/runc"}.
	ConfigFile  = "/etc/qosctl/oci-runtime.json"
	defaultRoot = "/var/lib/qosctl/checkpoints"

	maxJSON = 4 << 20

	// FrozenName is the file in an order's work directory that says how the processes of a container that was created restored are let go:
	// what is to be written, and the file of their cgroup that it is to be written to.
	FrozenName = "frozen"

	stateTime = 20 * time.Second // runc takes some milliseconds to say what a container's state is
)

// Config is what ConfigFile says.
type Config struct {
	Root string `json:"root"` // restore files are accepted only below it
	Runc string `json:"runc"` // "": found by PATH
}

// order is the file that the annotation names.
type order struct {
	Version int      `json:"version"` // 1
	Images  string   `json:"images"`
	Work    string   `json:"work"`
	Flags   []string `json:"flags,omitempty"` // of runc restore
}

// Main is the runtime: args are those of runc, without the program's name. It returns an exit code, if runc was not run in its place.
func Main(args []string, stderr io.Writer) int {
	if err := run(args); err != nil {
		fmt.Fprintln(stderr, "qosctl-runtime:", err)
		return 1
	}
	return 0
}

func run(args []string) error {
	c, err := loadConfig(ConfigFile)
	if err != nil {
		return err
	}
	runc, err := findRunc(c.Runc)
	if err != nil {
		return err
	}
	args, err = rewrite(parse(args), c, runc)
	if err != nil || args == nil {
		return err
	}
	if err := syscall.Exec(runc, append([]string{runc}, args...), os.Environ()); err != nil {
		return fmt.Errorf("run %s: %w", runc, err)
	}
	return nil
}

// call is a command line of runc.
type call struct {
	global  []string // options before the command
	command string
	rest    []string
}

// switches are runc's global options without a value.
var switches = []string{"debug", "systemd-cgroup", "help", "h", "version", "v"}

// option takes an option apart: runc takes one dash for two.
func option(a string) (name, value string, joined bool) {
	name, value, joined = strings.Cut(strings.TrimPrefix(strings.TrimPrefix(a, "-"), "-"), "=")
	return name, value, joined
}

// parse takes a command line apart; command is "" if there is none.
func parse(args []string) call {
	var c call
	for i := 0; i < len(args); i++ {
		a := args[i]
		if !strings.HasPrefix(a, "-") || a == "-" {
			c.command, c.rest = a, args[i+1:]
			return c
		}
		c.global = append(c.global, a)
		if name, _, joined := option(a); !joined && !slices.Contains(switches, name) && i+1 < len(args) {
			i++
			c.global = append(c.global, args[i])
		}
	}
	return c
}

// createValues are the options of runc create that have a value.
var createValues = []string{"bundle", "b", "console-socket", "pidfd-socket", "pid-file", "preserve-fds"}

// create reads the options of a create.
func (c call) create() (bundle, id string, kept []string) {
	bundle = "."
	for i := 0; i < len(c.rest); i++ {
		a := c.rest[i]
		if !strings.HasPrefix(a, "-") {
			return bundle, a, kept
		}
		name, value, joined := option(a)
		if !joined && slices.Contains(createValues, name) && i+1 < len(c.rest) {
			i++
			value = c.rest[i]
		}
		switch name {
		case "bundle", "b":
			bundle = value
			kept = append(kept, "--bundle", value)
		case "console-socket", "pid-file":
			kept = append(kept, "--"+name, value)
		case "no-pivot":
			kept = append(kept, a)
		}
	}
	return bundle, "", kept
}

// rewrite says what runc is to be called with: nil for nothing at all.
func rewrite(c call, conf Config, runc string) ([]string, error) {
	whole := slices.Concat(c.global, nonEmpty(c.command), c.rest)
	switch c.command {
	case "create":
		bundle, id, kept := c.create()
		file, err := restoreFile(bundle)
		if err != nil || file == "" || id == "" {
			return whole, nil //nolint:nilerr // runc says what is wrong with a bundle
		}
		o, err := readOrder(file, conf.Root)
		if err == nil {
			err = nameCRIUsFile(bundle, file, conf.Root)
		}
		if err != nil || o == nil {
			return whole, err
		}
		restore := slices.Concat(c.global, []string{"restore", "--detach"}, kept, []string{"--image-path", o.Images, "--work-path", o.Work}, o.Flags, []string{id})
		return restore, nil
	case "start":
		id := ""
		if n := len(c.rest); n > 0 {
			id = c.rest[n-1]
		}
		o, frozen := restoring(c.global, id, conf.Root), false
		if o == nil {
			o, frozen = restored(runc, c.global, id, conf.Root)
		}
		switch {
		case frozen && o.Work == "": // the order is gone, and with it what was written of the freezer
			return slices.Concat(c.global, []string{"resume", id}), nil
		case o != nil:
			return nil, o.letGo()
		} // else runc starts it, or says what is wrong
	}
	return whole, nil
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// withoutLog drops --log, so that a look does not write into the caller's.
func withoutLog(global []string) []string {
	var out []string
	for i := 0; i < len(global); i++ {
		switch name, _, joined := option(global[i]); {
		case name == "log" && joined:
		case name == "log":
			i++
		default:
			out = append(out, global[i])
		}
	}
	return out
}

// errUntrusted refuses a file that somebody else may have written.
var errUntrusted = errors.New("it is not root's alone")

// readOrder reads the file that says what to restore; nil if it is not there: then the container is created.
func readOrder(file, root string) (*order, error) {
	if err := below(file, root); err != nil {
		return nil, fmt.Errorf("restore file %s: %w", file, err)
	}
	if _, err := os.Lstat(file); errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // nothing to restore
	}
	if err := trusted(file, root); err != nil {
		return nil, fmt.Errorf("restore file %s: %w", file, err)
	}
	b, err := readFile(file, 64<<10)
	if err != nil {
		return nil, fmt.Errorf("restore file: %w", err)
	}
	return parseOrder(b, root)
}

func parseOrder(b []byte, root string) (*order, error) {
	var o order
	if err := json.Unmarshal(b, &o); err != nil {
		return nil, fmt.Errorf("restore file: %w", err)
	}
	if o.Version != 1 {
		return nil, fmt.Errorf("restore file: version %d is not known", o.Version)
	}
	for _, dir := range []string{o.Images, o.Work} {
		if err := below(dir, root); err != nil {
			return nil, fmt.Errorf("restore file: %s: %w", dir, err)
		}
	}
	for _, f := range o.Flags {
		if !strings.HasPrefix(f, "--") || strings.HasPrefix(f, "--bundle") {
			return nil, fmt.Errorf("restore file: flag %q is none of runc restore", f)
		}
	}
	return &o, nil
}

// below refuses a path that is not below root.
func below(file, root string) error {
	if !filepath.IsAbs(file) || filepath.Clean(file) != file || !strings.HasPrefix(file, strings.TrimSuffix(root, "/")+"/") {
		return fmt.Errorf("it is not below %s", root)
	}
	return nil
}

// trusted refuses a path of which any part below root, or root itself, could be written by somebody else, or is a link.
func trusted(file, root string) error {
	for p := file; ; p = filepath.Dir(p) {
		info, err := os.Lstat(p)
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || st.Uid != uint32(os.Geteuid()) || info.Mode().Perm()&0o022 != 0 || info.Mode()&os.ModeSymlink != 0 {
			return fmt.Errorf("%s: %w", p, errUntrusted)
		}
		if p == strings.TrimSuffix(root, "/") {
			return nil
		}
	}
}

// loadConfig reads the configuration; there may be none.
func loadConfig(file string) (Config, error) {
	c := Config{Root: defaultRoot}
	b, err := readFile(file, 64<<10)
	if errors.Is(err, os.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	if err := trusted(file, filepath.Dir(file)); err != nil {
		return c, fmt.Errorf("%s: %w", file, err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("%s: %w", file, err)
	}
	if !filepath.IsAbs(c.Root) || c.Root == "/" || c.Runc != "" && !filepath.IsAbs(c.Runc) {
		return c, fmt.Errorf("%s: root and runc must be absolute paths", file)
	}
	return c, nil
}

// findRunc finds the runc behind us.
func findRunc(named string) (string, error) {
	if named != "" {
		if isSelf(named) {
			return "", fmt.Errorf("%s names this program itself as runc", ConfigFile)
		}
		return named, nil
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		file := filepath.Join(dir, "runc")
		if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o111 != 0 && !isSelf(file) {
			return file, nil
		}
	}
	return "", errors.New(`no runc found; name it in ` + ConfigFile + `: {"runc": "/path/of/runc"}`)
}

// isSelf says whether a file is this program: it would call itself for ever.
func isSelf(file string) bool {
	a, err := os.Stat(file)
	if err != nil {
		return false
	}
	b, err := os.Stat("/proc/self/exe")
	return err == nil && os.SameFile(a, b)
}

func readFile(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%s is longer than %d bytes", name, most)
	}
	return b, nil
}
