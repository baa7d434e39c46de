package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// maxError bounds the body of an answer ≥ 400 that is kept.
const maxError = 1 << 20

// none is the answer of a route whose body says nothing.
type none struct{}

// call makes one request within the client's timeout and decodes its answer.
func call[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	return callWithin[T](ctx, c, c.timeout, method, path, body)
}

func callWithin[T any](ctx context.Context, c *Client, limit time.Duration, method, path string, body any) (T, error) {
	var answer T
	data, err := c.exchange(ctx, limit, method, path, body)
	if err != nil {
		return answer, err
	}
	if _, ignore := any(answer).(none); ignore || len(data) == 0 {
		return answer, nil
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return answer, fmt.Errorf("read the answer of %s %s from %s: %w", method, path, c.address, err)
	}
	return answer, nil
}

// exchange makes one request and returns the body of its answer; an answer ≥ 300 is an error.
func (c *Client) exchange(ctx context.Context, limit time.Duration, method, path string, body any) ([]byte, error) {
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	data, err := c.exchangeOnce(within, method, path, body)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return nil, &UnreachableError{Address: c.address, Sent: true, Err: fmt.Errorf("no answer to %s %s within %s", method, path, limit)}
	}
	return data, err
}

func (c *Client) exchangeOnce(ctx context.Context, method, path string, body any) ([]byte, error) {
	response, err := c.send(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, MaxAnswer+1))
	switch {
	case err != nil:
		return nil, c.broken(ctx, err, true)
	case len(data) > MaxAnswer:
		return nil, fmt.Errorf("the answer of %s %s from %s is longer than %d bytes", method, path, c.address, MaxAnswer)
	}
	return data, nil
}

// send makes one request and returns an answer < 300; its body is the caller's to close.
func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	request, err := c.request(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		op, isOp := errors.AsType[*net.OpError](err)
		return nil, c.broken(ctx, err, (!isOp || op.Op != "dial") && !untrusted(err) && !errors.Is(err, http.ErrSchemeMismatch))
	}
	if response.StatusCode < http.StatusMultipleChoices {
		return response, nil
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxError))
	if err != nil {
		data = nil // the status says enough
	}
	return nil, statusError(response.StatusCode, response.Header.Get("Content-Type"), data)
}

func (c *Client) request(ctx context.Context, method, path string, body any) (*http.Request, error) {
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("write the request %s %s: %w", method, path, err)
		}
		reader = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, reader)
	if err != nil {
		return nil, fmt.Errorf("make the request %s %s: %w", method, path, err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("Accept", "application/json")
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	return request, nil
}

// broken is the error of a request that got no answer, or half of one.
func (c *Client) broken(ctx context.Context, err error, sent bool) error {
	if ctx.Err() != nil {
		return fmt.Errorf("ask the agent at %s: %w", c.address, ctx.Err())
	}
	return &UnreachableError{Address: c.address, Sent: sent, Err: err}
}

// decodeError reads an Error; what isn't one is the zero Error.
func decodeError(data []byte) Error {
	var e Error
	if json.Unmarshal(data, &e) != nil {
		return Error{}
	}
	return e
}
