package cgroup

import (
	"bytes"
	"errors"
	"math"
)

// errMalformed says that a file of the kernel is not what it should be. Parsers return it bare, so that they never allocate; readers name the file.
var errMalformed = errors.New("malformed")

// parseUint reads a decimal number that is all of b.
func parseUint(b []byte) (uint64, bool) {
	if len(b) == 0 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		d := uint64(c) - '0'
		if d > 9 || n > (math.MaxUint64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// parseInt reads a decimal number, with a sign if it is negative, that is all of b.
func parseInt(b []byte) (int64, bool) {
	neg := len(b) > 0 && b[0] == '-'
	if neg {
		b = b[1:]
	}
	n, ok := parseUint(b)
	if !ok || n > math.MaxInt64 {
		return 0, false
	}
	if neg {
		return -int64(n), true
	}
	return int64(n), true
}

// trimLine takes one line feed off the end.
func trimLine(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		return b[:n-1]
	}
	return b
}

// cutPair takes the first line "key value" off b. ok is false when the line is none; an unknown key's value need not be a number for a caller that skips it.
func cutPair(b []byte) (key, value, rest []byte, ok bool) {
	line, rest, _ := bytes.Cut(b, []byte{'\n'})
	i := bytes.IndexByte(line, ' ')
	if i <= 0 {
		return nil, nil, rest, false
	}
	return line[:i], line[i+1:], rest, true
}

// nanoseconds turns n units of so many nanoseconds into a number that a time.Duration holds.
func nanoseconds(n uint64, unit int64) (int64, bool) {
	if unit <= 0 || n > uint64(math.MaxInt64/unit) {
		return 0, false
	}
	return int64(n) * unit, true
}
