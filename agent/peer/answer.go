package peer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Answer writes v as a handler's JSON answer.
func Answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false) // no browser reads it, and it would make six bytes of each < in a job's file
	_ = e.Encode(v)        // the peer has gone: nobody to tell
}

// Fail writes what a Client returns as *StatusError.
func Fail(w http.ResponseWriter, status int, code, text string) {
	Answer(w, status, StatusError{Status: status, Code: code, Text: text})
}

// Read decodes a request's JSON body, which the Server has bounded.
func Read(r *http.Request, v any) error {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		if tooLong, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return &StatusError{Status: http.StatusRequestEntityTooLarge, Code: "invalid", Text: fmt.Sprintf("the body is longer than %d bytes", tooLong.Limit)}
		}
		return &StatusError{Status: http.StatusBadRequest, Code: "invalid", Text: "the body was cut off"}
	}
	if err := json.Unmarshal(b, v); err != nil {
		return &StatusError{Status: http.StatusBadRequest, Code: "invalid", Text: fmt.Sprintf("the body is not what this route takes: %s", err)}
	}
	return nil
}
