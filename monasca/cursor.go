package monasca

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
)

// cursorName is the file that says how far the spool was sent.
const cursorName = "cursor"

// position is a place in the spool. Segment 0 is none.
type position struct {
	Segment uint64 `json:"segment"`
	Offset  int64  `json:"offset"` // of a record
	Skip    int    `json:"skip"`   // measurements of it that are settled
}

// cursorFile is the file's form.
type cursorFile struct {
	position

	CRC uint32 `json:"crc"` // CRC-32C of the text "segment offset skip"
}

func (p position) sum() uint32 {
	return crc32.Checksum(fmt.Appendf(nil, "%d %d %d", p.Segment, p.Offset, p.Skip), castTab)
}

// parseCursor reads the file's text.
func parseCursor(data []byte) (position, error) {
	var f cursorFile
	if err := json.Unmarshal(data, &f); err != nil || f.CRC != f.sum() || f.Segment == 0 || f.Offset < 0 || f.Skip < 0 {
		return position{}, errors.New("the spool's cursor is torn or was changed")
	}
	return f.position, nil
}

// loadCursor reads the cursor of a spool; a zero one if there is none.
func loadCursor(dir string) (position, error) {
	data, err := readSmall(filepath.Join(dir, cursorName), 4096)
	if errors.Is(err, os.ErrNotExist) {
		return position{}, nil
	}
	if err != nil {
		return position{}, fmt.Errorf("read the spool's cursor: %w", err)
	}
	return parseCursor(data)
}

// saveCursor replaces the cursor. It is not forced to the disk: after a power failure an older one is there, or one that is found to be
// torn, and some measurements are sent again.
func saveCursor(dir string, p position) error {
	data, err := json.Marshal(cursorFile{position: p, CRC: p.sum()})
	if err != nil {
		return fmt.Errorf("encode the spool's cursor: %w", err)
	}
	path := filepath.Join(dir, cursorName)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return fmt.Errorf("write the spool's cursor: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write the spool's cursor: %w", err)
	}
	return nil
}
