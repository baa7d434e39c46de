package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// What a message or a page may hold. Everything that a peer sends is held to these before anything is kept of it.
const (
	maxName    = 255     // bytes of a node's name
	maxID      = 64      // bytes of a job's id
	maxCounter = 1 << 53 // of epochs, sequences, duties and clocks: what JSON carries exactly, and far more than a job ever needs
)

// errMalformed is what every parser of foreign bytes answers, wrapped with what was wrong.
var errMalformed = errors.New("malformed")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errMalformed, fmt.Sprintf(format, args...))
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendBytes(b, v []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

func appendU64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

// reader takes a message apart. After the first fault everything it returns is zero; err says what it was.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = malformed(format, args...)
	}
	r.b = nil
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail("ends early")
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

// uvarint reads a number of at most most, in its shortest form.
func (r *reader) uvarint(most uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	switch {
	case n <= 0:
		r.fail("ends early, or has a number that is too long")
		return 0
	case n > 1 && r.b[n-1] == 0:
		r.fail("has a number that is not in its shortest form")
		return 0
	case v > most:
		r.fail("has a number of %d where at most %d is allowed", v, most)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) u64() uint64 {
	b := r.fixed(8)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// fixed reads n bytes; they share the message's memory.
func (r *reader) fixed(n int) []byte {
	if len(r.b) < n {
		r.fail("ends early")
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// bytes reads bytes that go after their number; they share the message's memory.
func (r *reader) bytes(most int) []byte {
	return r.fixed(int(r.uvarint(uint64(most))))
}

// text reads a string of valid UTF-8 without control characters.
func (r *reader) text(most int) string {
	s := string(r.bytes(most))
	if !printable(s) {
		r.fail("has text that cannot be printed")
		return ""
	}
	return s
}

// done reports the first fault, or bytes that nobody asked for.
func (r *reader) done() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("has %d bytes too many", len(r.b))
	}
	return r.err
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, c := range s {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	return true
}
