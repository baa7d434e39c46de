package peer

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
)

// Sentinels that callers branch on.
var (
	ErrRefused     = errors.New("peer refused")          // one side does not know the other: nothing was asked
	ErrUnreachable = errors.New("peer is not reachable") // or the connection broke
)

var (
	errNoCertificate = errors.New("it has no certificate")
	errNoName        = errors.New("its certificate names no node")
)

// otherNodeError says that an address is another node's.
type otherNodeError struct{ want, got string }

// Error names both.
func (e *otherNodeError) Error() string { return fmt.Sprintf("it is node %s, not %s", e.got, e.want) }

// RefusedError is ErrRefused with its cause.
type RefusedError struct {
	To  Target
	Err error
}

// Error names the peer and the cause.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("node %s at %s is no peer of ours: %v", e.To.Node, e.To.Addr, e.Err)
}

// Unwrap makes errors.Is(err, ErrRefused) true.
func (e *RefusedError) Unwrap() []error { return []error{ErrRefused, e.Err} }

// Hint is a remedy for the user.
func (e *RefusedError) Hint() string {
	if _, ok := errors.AsType[*otherNodeError](e.Err); ok {
		return "two nodes have exchanged addresses, or one was installed anew under another name; gossip sets this right, unless an address is shared"
	}
	return "the two nodes have no cluster key in common: compare /etc/qosctl/cluster.key (or the authority's files), and their clocks"
}

// UnreachableError is ErrUnreachable with its cause.
type UnreachableError struct {
	To   Target
	Sent bool // the request may have reached the peer
	Err  error
}

// Error names the peer and the cause.
func (e *UnreachableError) Error() string {
	if e.Sent {
		return fmt.Sprintf("node %s at %s broke the connection: %v", e.To.Node, e.To.Addr, e.Err)
	}
	return fmt.Sprintf("node %s does not answer at %s: %v", e.To.Node, e.To.Addr, e.Err)
}

// Unwrap makes errors.Is(err, ErrUnreachable) true.
func (e *UnreachableError) Unwrap() []error { return []error{ErrUnreachable, e.Err} }

// StatusError is a peer's answer ≥ 300. It is also how handlers say what went wrong: see Fail.
type StatusError struct {
	Node   string `json:"-"`
	Status int    `json:"status"`
	Code   string `json:"code,omitempty"` // for programs
	Text   string `json:"text"`
	Body   []byte `json:"-"` // the whole JSON answer; nil: it was none
}

// Error is the peer's text.
func (e *StatusError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("node %s answered %d %s", e.Node, e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("node %s: %s", e.Node, e.Text)
}

// statusError reads an answer ≥ 300.
func statusError(node string, r *http.Response) *StatusError {
	e := &StatusError{}
	b, err := io.ReadAll(io.LimitReader(r.Body, maxErrorBody))
	if err != nil || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") || json.Unmarshal(b, e) != nil {
		e, b = &StatusError{}, nil // the status says enough
	}
	e.Body = b
	e.Node, e.Status = node, r.StatusCode
	return e
}

// refusal says whether err is of a handshake in which one side does not know the other.
func refusal(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" { // an alert, by which the other side refuses
		return true
	}
	if _, ok := errors.AsType[*otherNodeError](err); ok {
		return true
	}
	_, record := errors.AsType[tls.RecordHeaderError](err)
	return record || errors.Is(err, errNoCertificate) || errors.Is(err, errNoName) || untrusted(err)
}

// untrusted says whether err is of the verification of a certificate.
func untrusted(err error) bool {
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	_, critical := errors.AsType[x509.UnhandledCriticalExtension](err)
	return unknown || invalid || critical
}

// Reasons for which a Server refuses, as Stats counts them.
const (
	reasonNone    = "no certificate"
	reasonUnknown = "unknown authority" // another cluster's key, an old one, or a forged certificate
	reasonExpired = "expired"
	reasonName    = "no name"
	reasonTLS     = "not TLS 1.3"
	reasonTime    = "too slow"
	reasonMany    = "too many connections"
	reasonGone    = "went away"
)

// reasons lists them all.
func reasons() []string {
	return []string{reasonNone, reasonUnknown, reasonExpired, reasonName, reasonTLS, reasonTime, reasonMany, reasonGone}
}

// reasonOf says why a handshake failed.
func reasonOf(err error) string {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return reasonExpired
	}
	if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() || errors.Is(err, os.ErrDeadlineExceeded) {
		return reasonTime
	}
	switch {
	case untrusted(err):
		return reasonUnknown
	case errors.Is(err, errNoName):
		return reasonName
	case errors.Is(err, errNoCertificate), err != nil && strings.Contains(err.Error(), "didn't provide a certificate"): // crypto/tls has no type for it
		return reasonNone
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op != "remote error" || errors.Is(err, io.EOF) {
		return reasonGone
	}
	return reasonTLS
}
