package ociruntime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Paths are where the runtime and Docker's configuration stand.
type Paths struct {
	Binary  string // the program that is installed: this one
	Runtime string // "/usr/libexec/qosctl/qosctl-runtime"
	Daemon  string // "/etc/docker/daemon.json"
	PIDFile string // "/var/run/docker.pid"
	Proc    string // "/proc"
}

// DefaultPaths are those of a packaged Docker.
func DefaultPaths() Paths {
	return Paths{
		Binary: "/proc/self/exe", Runtime: "/usr/libexec/qosctl/" + Name, Daemon: "/etc/docker/daemon.json", PIDFile: "/var/run/docker.pid", Proc: "/proc",
	}
}

// registered is the name by which Docker knows the runtime.
const registered = "qosctl"

// maxDaemon bounds daemon.json.
const maxDaemon = 1 << 20

// Installed says what an installation has done.
type Installed struct {
	Runtime  string // the file
	Changed  bool   // daemon.json was changed
	Copy     string // of daemon.json as it was; "" if there was none, or nothing was changed
	Reloaded bool   // dockerd was told
}

// Install puts the runtime in its place and registers it with Docker, which is told to read its configuration again (SIGHUP). Whatever
// else is in daemon.json stays as it is. It may be done again: an upgrade replaces the file in one step.
func Install(ctx context.Context, p Paths) (Installed, error) {
	in := Installed{Runtime: p.Runtime}
	if err := place(p); err != nil {
		return in, err
	}
	old, err := readDaemon(p.Daemon)
	if err != nil {
		return in, err
	}
	text, changed, err := register(old, p.Runtime)
	if err != nil {
		return in, fmt.Errorf("%s: %w", p.Daemon, err)
	}
	if changed {
		if in.Copy, err = replaceDaemon(p.Daemon, old, text); err != nil {
			return in, err
		}
		in.Changed = true
	}
	in.Reloaded, err = reload(ctx, p)
	return in, err
}

// Uninstall takes the runtime out of Docker's configuration and removes it. used says which containers were made by it: while there are
// any it is refused, since Docker could not even remove them.
func Uninstall(ctx context.Context, p Paths, used func(context.Context) ([]string, error)) (Installed, error) {
	in := Installed{Runtime: p.Runtime}
	containers, err := used(ctx)
	if err != nil {
		return in, fmt.Errorf("find out which containers use the runtime: %w", err)
	}
	if len(containers) > 0 {
		return in, fmt.Errorf("%d container(s) were made by it: %s; let their jobs end, or remove them", len(containers), strings.Join(containers, ", "))
	}
	old, err := readDaemon(p.Daemon)
	if err != nil {
		return in, err
	}
	text, changed, err := unregister(old)
	if err != nil {
		return in, fmt.Errorf("%s: %w", p.Daemon, err)
	}
	if changed {
		if in.Copy, err = replaceDaemon(p.Daemon, old, text); err != nil {
			return in, err
		}
		in.Changed = true
		if in.Reloaded, err = reload(ctx, p); err != nil {
			return in, err
		}
	}
	if err := os.Remove(p.Runtime); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return in, fmt.Errorf("remove the runtime: %w", err)
	}
	return in, nil
}

// place copies the binary to where the runtime is called, in one step.
func place(p Paths) (err error) {
	from, err := os.Open(p.Binary)
	if err != nil {
		return fmt.Errorf("install the runtime: %w", err)
	}
	defer from.Close() //nolint:errcheck // only read
	if err := os.MkdirAll(filepath.Dir(p.Runtime), 0o755); err != nil {
		return fmt.Errorf("install the runtime: %w", err)
	}
	tmp := p.Runtime + ".new"
	to, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return fmt.Errorf("install the runtime: %w", err)
	}
	_, err = io.Copy(to, from)
	if err == nil {
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close()); err == nil {
		err = os.Rename(tmp, p.Runtime)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("install the runtime: %w", err), os.Remove(tmp))
	}
	return nil
}

// readDaemon reads Docker's configuration; there may be none.
func readDaemon(file string) ([]byte, error) {
	b, err := readFile(file, maxDaemon)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read Docker's configuration: %w", err)
	}
	return b, nil
}

// register adds the runtime to a configuration. Keys keep their order and values their form.
func register(old []byte, path string) (text []byte, changed bool, err error) {
	top, err := parseObject(old)
	if err != nil {
		return nil, false, err
	}
	runtimes, err := parseObject(top.get("runtimes"))
	if err != nil {
		return nil, false, fmt.Errorf("runtimes: %w", err)
	}
	want, err := json.Marshal(map[string]string{"path": path})
	if err != nil {
		return nil, false, fmt.Errorf("encode: %w", err)
	}
	if has := runtimes.get(registered); has != nil {
		var r struct {
			Path string `json:"path"`
		}
		if err := json.Unmarshal(has, &r); err == nil && r.Path == path {
			return old, false, nil
		}
	}
	runtimes.set(registered, want)
	top.set("runtimes", runtimes.encode())
	return top.pretty(), true, nil
}

// unregister takes the runtime out.
func unregister(old []byte) (text []byte, changed bool, err error) {
	top, err := parseObject(old)
	if err != nil {
		return nil, false, err
	}
	runtimes, err := parseObject(top.get("runtimes"))
	if err != nil {
		return nil, false, fmt.Errorf("runtimes: %w", err)
	}
	if runtimes.get(registered) == nil {
		return old, false, nil
	}
	runtimes.remove(registered)
	if len(runtimes.keys) == 0 {
		top.remove("runtimes")
	} else {
		top.set("runtimes", runtimes.encode())
	}
	return top.pretty(), true, nil
}

// object is a JSON object whose keys keep their order.
type object struct {
	keys   []string
	values map[string]json.RawMessage
}

// parseObject reads an object; nothing at all is an empty one.
func parseObject(b []byte) (*object, error) {
	o := &object{values: map[string]json.RawMessage{}}
	if len(bytes.TrimSpace(b)) == 0 {
		return o, nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	t, err := d.Token()
	if err == nil && t != json.Delim('{') {
		err = errors.New("it is no JSON object")
	}
	for err == nil && d.More() {
		var key json.Token
		if key, err = d.Token(); err != nil {
			break
		}
		var v json.RawMessage
		if err = d.Decode(&v); err == nil {
			o.set(fmt.Sprint(key), v)
		}
	}
	if err == nil {
		_, err = d.Token()
	}
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the object")
		}
	}
	if err != nil {
		line := 1 + bytes.Count(b[:min(int(d.InputOffset()), len(b))], []byte("\n"))
		return nil, fmt.Errorf("line %d: %w; mend it first, nothing was changed", line, err)
	}
	return o, nil
}

func (o *object) get(key string) json.RawMessage { return o.values[key] }

func (o *object) set(key string, v json.RawMessage) {
	if _, ok := o.values[key]; !ok {
		o.keys = append(o.keys, key)
	}
	o.values[key] = v
}

func (o *object) remove(key string) {
	delete(o.values, key)
	for i, k := range o.keys {
		if k == key {
			o.keys = append(o.keys[:i], o.keys[i+1:]...)
			return
		}
	}
}

func (o *object) encode() json.RawMessage {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, k := range o.keys {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(k)
		if err != nil { // a string always can be
			continue
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(o.values[k])
	}
	b.WriteByte('}')
	return b.Bytes()
}

func (o *object) pretty() []byte {
	var b bytes.Buffer
	if err := json.Indent(&b, o.encode(), "", "    "); err != nil { // it was parsed: it is JSON
		return append(o.encode(), '\n')
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// replaceDaemon writes Docker's configuration in one step and keeps a copy of the old one.
func replaceDaemon(file string, old, text []byte) (kept string, err error) {
	mode := os.FileMode(0o644)
	if info, err := os.Stat(file); err == nil {
		mode = info.Mode().Perm()
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", fmt.Errorf("write Docker's configuration: %w", err)
	}
	if old != nil {
		kept = file + ".qosctl-" + time.Now().UTC().Format("20060102T150405.000")
		if err := os.WriteFile(kept, old, mode); err != nil {
			return "", fmt.Errorf("keep a copy of Docker's configuration: %w", err)
		}
	}
	tmp := file + ".new"
	if err := os.WriteFile(tmp, text, mode); err != nil {
		return kept, fmt.Errorf("write Docker's configuration: %w", err)
	}
	if err := os.Rename(tmp, file); err != nil {
		return kept, fmt.Errorf("write Docker's configuration: %w", err)
	}
	return kept, nil
}

// reload has dockerd read its configuration again; false: none runs.
func reload(_ context.Context, p Paths) (bool, error) {
	b, err := os.ReadFile(p.PIDFile)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("find dockerd: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return false, fmt.Errorf("find dockerd: %s holds no pid", p.PIDFile)
	}
	name, err := os.ReadFile(filepath.Join(p.Proc, strconv.Itoa(pid), "comm"))
	if err != nil || strings.TrimSpace(string(name)) != "dockerd" {
		return false, nil // a pid of long ago
	}
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		return false, fmt.Errorf("tell dockerd to read its configuration: %w", err)
	}
	return true, nil
}
