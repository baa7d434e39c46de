package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Names of a container's files, in its directory.
const (
	configName  = "config.json" // what to run; written before the directory gets its name
	startedName = "started"     // made once by the shim: the payload is run at most once
	pidName     = "pid.json"    // written before the payload runs
	exitName    = "exit.json"   // written once, when all of it is gone
	lockName    = "lock"        // held by the shim as long as it lives
	shimLogName = "shim.log"
	sandboxName = "sandbox" // working directory of a container that names none
	rootName    = "root"    // where a container's own root is put together
	mountsName  = "mounts"  // empty directories for mounts whose source is missing
)

// writeFile replaces dir/name by v as JSON: it is there whole or not at all, and survives a power cut.
func writeFile(dir, name string, v any) error {
	return write(dir, name, v, os.Rename)
}

// writeOnce is writeFile for a file that is never replaced: of several writers the first wins, the others get fs.ErrExist.
func writeOnce(dir, name string, v any) error {
	return write(dir, name, v, func(tmp, dst string) error {
		return errors.Join(os.Link(tmp, dst), os.Remove(tmp))
	})
}

func write(dir, name string, v any, publish func(tmp, dst string) error) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	f, err := os.CreateTemp(dir, "."+name+".*") // mode 0600: it may hold a job's environment
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = publish(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		if rerr := os.Remove(f.Name()); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
		return fmt.Errorf("write %s: %w", name, err)
	}
	return syncDir(dir)
}

// readFile reads dir/name into v. fs.ErrNotExist if it is not there.
func readFile(dir, name string, v any) error {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if err = json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w", filepath.Join(dir, name), err)
	}
	return nil
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	if err = errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
