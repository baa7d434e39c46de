package framework

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// GetJSON sends a GET and decodes its answer.
func GetJSON(ctx context.Context, c *Client, path string, query url.Values, into any) error {
	resp, err := c.Do(ctx, Request{Method: http.MethodGet, Path: path, Query: query})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(resp.Body, into); err != nil {
		odd := Odd(c, http.MethodGet, path, fmt.Sprintf("not the JSON that was expected: %v", err))
		odd.Status = resp.Status // and no excerpt: an app's environment holds secrets
		return odd
	}
	return nil
}

// Odd is the error of an answer that succeeded and makes no sense: probably something else listens there.
func Odd(c *Client, method, path, what string) *Error {
	return &Error{
		Framework: c.Name(), Method: method, Path: path, Status: http.StatusOK,
		Message: "answer makes no sense, is this really " + title(c.Name()) + "? " + what,
		Kind:    ErrUnavailable, Uncertain: method != http.MethodGet,
	}
}
