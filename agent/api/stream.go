package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// MaxLine bounds one line of a stream of Output, in bytes.
const MaxLine = 4 << 20

// OutputStream reads lines of Output as they come.
type OutputStream struct {
	address string
	body    io.ReadCloser
	lines   *bufio.Scanner
}

// stream begins a stream. It has no time limit but ctx's.
func (c *Client) stream(ctx context.Context, path string, query url.Values) (*OutputStream, error) {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	response, err := c.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	return newOutputStream(c.address, response.Body), nil
}

func newOutputStream(address string, body io.ReadCloser) *OutputStream {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 4<<10), MaxLine)
	lines.Split(wholeLines)
	return &OutputStream{address: address, body: body, lines: lines}
}

// Next returns the next line; io.EOF where the agent ended the stream in good order; an error that wraps ErrUnreachable where it broke.
// Empty lines, which an agent sends to see whether the reader is still there, are skipped. A half line at the end is not a line. ctx is the one that the stream was opened with.
func (s *OutputStream) Next(ctx context.Context) (Output, error) {
	for s.lines.Scan() {
		line := bytes.TrimSpace(s.lines.Bytes())
		if len(line) == 0 {
			continue
		}
		var o Output
		if err := json.Unmarshal(line, &o); err != nil {
			return Output{}, fmt.Errorf("read the output from %s: %w", s.address, err)
		}
		return o, nil
	}
	err := s.lines.Err()
	switch {
	case err == nil:
		return Output{}, io.EOF
	case ctx.Err() != nil:
		return Output{}, fmt.Errorf("read the output from %s: %w", s.address, ctx.Err())
	case errors.Is(err, bufio.ErrTooLong):
		return Output{}, fmt.Errorf("read the output from %s: a line is longer than %d bytes", s.address, MaxLine)
	}
	return Output{}, &UnreachableError{Address: s.address, Sent: true, Err: err}
}

// Close ends the stream.
func (s *OutputStream) Close() error {
	if err := s.body.Close(); err != nil {
		return fmt.Errorf("close the output from %s: %w", s.address, err)
	}
	return nil
}

// wholeLines splits at line feeds, as bufio.ScanLines does, but drops an unfinished last line: an agent that was killed in the middle of it sends it again.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF {
		return len(data), nil, nil
	}
	return 0, nil, nil
}
