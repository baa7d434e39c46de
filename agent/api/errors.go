package api

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"syscall"
)

// Codes are the values of Error.Code.
const (
	CodeInvalid   = "invalid"
	CodeExists    = "exists"
	CodeNotFound  = "not_found"
	CodeForbidden = "forbidden"
	CodeFramework = "framework"
	CodeConflict  = "conflict"
	CodeInternal  = "internal"
)

// ErrUnreachable says that no agent answered. Errors of a Client that wrap it are *UnreachableError.
var ErrUnreachable = errors.New("agent is not reachable")

// UnreachableError is ErrUnreachable with its cause, and what the user can do about it.
type UnreachableError struct {
	Address string
	Sent    bool // the request may have reached an agent: the connection was there, the answer was not
	Err     error
}

// Error names the address and the cause.
func (e *UnreachableError) Error() string {
	if untrusted(e.Err) {
		return fmt.Sprintf("the agent at %s is not one that we trust: %v", e.Address, rootCause(e.Err))
	}
	if e.Sent {
		return fmt.Sprintf("agent at %s broke the connection: %v", e.Address, e.Err)
	}
	if errors.Is(e.Err, fs.ErrPermission) {
		return fmt.Sprintf("the agent's socket %s is not for this user: %v", e.Address, rootCause(e.Err))
	}
	return fmt.Sprintf("no agent at %s: %v", e.Address, rootCause(e.Err))
}

// Unwrap makes errors.Is(err, ErrUnreachable) and errors.Is(err, <the cause>) true.
func (e *UnreachableError) Unwrap() []error { return []error{ErrUnreachable, e.Err} }

// Hint is a remedy for the user.
func (e *UnreachableError) Hint() string {
	_, alert := errors.AsType[tls.AlertError](e.Err)
	switch {
	case untrusted(e.Err):
		return "--ca names the file of the authority that has signed the agent's certificate, which must have the name or address that the agent is asked by"
	case errors.Is(e.Err, http.ErrSchemeMismatch):
		return "the agent speaks HTTP without TLS there: use http://, or give it a certificate (`tls` in its configuration)"
	case alert:
		return "the agent did not like the handshake: it speaks TLS 1.2 and later"
	case errors.Is(e.Err, fs.ErrPermission):
		return "the agent's socket is for root and its group: use sudo, or have yourself added to the socket's group"
	case e.Sent:
		return "the agent may be starting again; try once more"
	case errors.Is(e.Err, fs.ErrNotExist), errors.Is(e.Err, syscall.ECONNREFUSED):
		return "start the agent with `systemctl start qosctl`, or a development setup with `qosctl dev`; if it runs elsewhere, name it with --agent or QOSCTL_AGENT"
	}
	return "check --agent or QOSCTL_AGENT, and that the agent runs"
}

// untrusted says whether a server's certificate was not good.
func untrusted(err error) bool {
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok
}

// rootCause leaves out what the layers of package net say of an address that is named already.
func rootCause(err error) error {
	if no, ok := errors.AsType[syscall.Errno](err); ok {
		return no
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// StatusError is an agent's answer ≥ 400.
type StatusError struct {
	Body Error
}

// Error is the agent's own text.
func (e *StatusError) Error() string {
	if e.Body.Text == "" {
		return fmt.Sprintf("agent answered %d %s", e.Body.Status, http.StatusText(e.Body.Status))
	}
	return e.Body.Text
}

// Hint is the agent's remedy, or ours.
func (e *StatusError) Hint() string {
	if e.Body.Hint != "" {
		return e.Body.Hint
	}
	switch e.Body.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return "the TCP address is read-only without a token or a certificate: use the agent's unix socket, or give --token-file, or --cert and --key"
	}
	return ""
}

// IsStatus says whether err is an agent's answer of that HTTP status.
func IsStatus(err error, status int) bool {
	s, ok := errors.AsType[*StatusError](err)
	return ok && s.Body.Status == status
}

// statusError makes a StatusError of an answer's status and body, which need not be ours (a proxy's HTML).
func statusError(status int, contentType string, body []byte) *StatusError {
	e := &StatusError{}
	if strings.HasPrefix(contentType, "application/json") {
		e.Body = decodeError(body)
	}
	e.Body.Status = status
	if status == http.StatusBadRequest && bytes.Contains(body, []byte("HTTP request to an HTTPS server")) { // as package net/http says it
		e.Body.Text, e.Body.Hint = "the agent speaks TLS at this address", "use https://, with --ca"
	}
	if e.Body.Code == "" {
		e.Body.Code = codeOf(status)
	}
	return e
}

func codeOf(status int) string {
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
		return CodeInvalid
	case http.StatusUnauthorized, http.StatusForbidden:
		return CodeForbidden
	case http.StatusNotFound:
		return CodeNotFound
	case http.StatusConflict:
		return CodeConflict
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return CodeFramework
	}
	return CodeInternal
}
