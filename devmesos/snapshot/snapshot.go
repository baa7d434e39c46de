// Package snapshot keeps a value in a file that is always whole: written beside it, synced, renamed.
package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Save writes v as JSON to path, so that a crash leaves the old or the new value.
func Save(path string, v any) (err error) {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // err is what went wrong first
		}
	}()
	_, werr := f.Write(b)
	if err := errors.Join(werr, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	return nil
}

// Load reads what Save wrote into v. No file leaves v as it is. One that can't be read as JSON is kept aside, and Load returns
// its new name.
func Load(path string, v any) (aside string, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("load %s: %w", path, err)
	}
	if json.Unmarshal(b, v) == nil {
		return "", nil
	}
	aside = fmt.Sprintf("%s.corrupt-%d", path, time.Now().UnixNano())
	if err := os.Rename(path, aside); err != nil {
		return "", fmt.Errorf("keep corrupt %s aside: %w", path, err)
	}
	return aside, nil
}
