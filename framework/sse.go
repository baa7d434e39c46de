package framework

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
)

// maxEvent bounds one server-sent event, in bytes: a deployment of many apps is long.
const maxEvent = 4 << 20

// ErrEventTooLong says that an event, or a line of one, is longer than 4 MiB.
var ErrEventTooLong = errors.New("server-sent event is longer than 4 MiB")

// SSE reads server-sent events. Lines end in LF, CR LF or CR; comments, ids and retry fields are skipped.
type SSE struct {
	r      *bufio.Reader
	skipLF bool // the last line ended in CR
}

// NewSSE reads from r.
func NewSSE(r io.Reader) *SSE { return &SSE{r: bufio.NewReaderSize(r, 32<<10)} }

// Next returns the next event with data: its type ("message" if it names none) and its data. What a stream's end cuts off is dropped.
func (s *SSE) Next() (event string, data []byte, err error) {
	var lines int
	for {
		line, err := s.line()
		if err != nil {
			return "", nil, err
		}
		if len(line) == 0 {
			if lines > 0 {
				if event == "" {
					event = "message"
				}
				return event, data, nil
			}
			event, data = "", nil
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "event":
			event = strings.ToValidUTF8(string(value), "�")
		case "data":
			if lines > 0 {
				data = append(data, '\n')
			}
			data = append(data, value...)
			lines++
		}
		if len(data) > maxEvent {
			return "", nil, ErrEventTooLong
		}
	}
}

// line reads a line without its end.
func (s *SSE) line() ([]byte, error) {
	var line []byte
	for {
		c, err := s.r.ReadByte()
		if err != nil {
			return nil, err
		}
		skip := s.skipLF && c == '\n'
		s.skipLF = false
		if skip {
			continue
		}
		switch c {
		case '\n':
			return line, nil
		case '\r':
			// The line ends here. An LF that belongs to it is dropped when it comes: it must not be waited for, a
			// heartbeat may be all that is sent for long.
			s.skipLF = true
			return line, nil
		}
		if len(line) >= maxEvent {
			return nil, ErrEventTooLong
		}
		line = append(line, c)
	}
}
