package monasca

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// segmentSuffix ends the names of the spool's files.
const segmentSuffix = ".spool"

// segment is one file of the spool. It is only ever appended to, by the process that made it.
type segment struct {
	id    uint64
	size  int64         // of its whole records, in bytes
	left  int           // measurements that are not settled
	torn  int64         // bytes behind them that are no record
	known map[int64]int // at its opening: measurements of each record, by its offset
}

func segmentPath(dir string, id uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x", id)+segmentSuffix)
}

// listSegments finds the spool's files, oldest first.
func listSegments(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list the spool: %w", err)
	}
	var ids []uint64
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), segmentSuffix)
		id, err := strconv.ParseUint(name, 16, 64)
		if ok && err == nil && id > 0 && len(name) == 16 && e.Type().IsRegular() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// scan finds a file's whole records by their headers. What stands behind the last of them is torn.
func scan(dir string, id uint64) (segment, error) {
	s := segment{id: id, known: make(map[int64]int)}
	f, err := os.Open(segmentPath(dir, id))
	if err != nil {
		return s, fmt.Errorf("scan the spool: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return s, fmt.Errorf("scan the spool: %w", err)
	}
	for s.size < info.Size() {
		h, err := readHeader(f, s.size)
		if err != nil && !errors.Is(err, errTorn) {
			return s, err
		}
		if err != nil || s.size+h.size() > info.Size() {
			break
		}
		s.known[s.size] = h.count
		s.size += h.size()
		s.left += h.count
	}
	s.torn = info.Size() - s.size
	return s, nil
}

func readHeader(r io.ReaderAt, at int64) (header, error) {
	var b [headerSize]byte
	if n, err := r.ReadAt(b[:], at); err != nil && (!errors.Is(err, io.EOF) || n == len(b)) {
		return header{}, fmt.Errorf("read the spool: %w", err)
	}
	return parseHeader(b[:])
}

// readRecord reads the record at an offset.
func (c *codec) readRecord(dir string, id uint64, at int64) (header, [][]byte, error) {
	f, err := os.Open(segmentPath(dir, id))
	if err != nil {
		return header{}, nil, fmt.Errorf("read the spool: %w", err)
	}
	defer f.Close()
	h, err := readHeader(f, at)
	if err != nil {
		return h, nil, err
	}
	payload := make([]byte, h.length)
	if _, err := f.ReadAt(payload, at+headerSize); err != nil {
		return h, nil, fmt.Errorf("read the spool: %w", err)
	}
	lines, err := c.decode(h, payload)
	return h, lines, err
}

// headerAt reads the header of the record at a place.
func headerAt(dir string, p position) (header, error) {
	f, err := os.Open(segmentPath(dir, p.Segment))
	if err != nil {
		return header{}, fmt.Errorf("read the spool: %w", err)
	}
	defer f.Close()
	return readHeader(f, p.Offset)
}
