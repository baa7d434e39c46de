package monasca

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// verdict is what an answer of Monasca or Keystone means for what was sent.
type verdict int

const (
	taken    verdict = iota // it is stored
	refused                 // something in it is not legal: find out what, and go on without
	tooLarge                // send less at once
	expired                 // the token is not taken: get another one
	denied                  // the token is good, and its user may not do this
	wrong                   // the address is not Monasca's (or Keystone's)
	later                   // try again
	badLogin                // Keystone does not take the credentials
)

// answer is what a server said.
type answer struct {
	verdict verdict
	status  int
	text    string        // what it said, short, on one line; secrets are not taken out yet
	after   time.Duration // it wants to be left alone for so long; 0: it did not say
	lost    bool          // whether it was carried out is not known
}

const (
	maxRetryAfter = time.Hour
	maxText       = 200 // bytes of a server's words that are shown
)

// judge reads Monasca's answer to a POST. The body wins over the status: a policy's refusal comes as 401 too, and getting a new token
// helps as little as it does with 403.
func judge(status int, header http.Header, body []byte, now time.Time) answer {
	said := readError(body)
	a := answer{status: status, text: said.String(), after: retryAfter(header.Get("Retry-After"), now)}
	switch {
	case status == http.StatusNoContent:
		a.verdict = taken
	case status == http.StatusUnauthorized && !said.forbidden():
		a.verdict = expired
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		a.verdict = denied
	case status == http.StatusRequestEntityTooLarge:
		a.verdict = tooLarge
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		a.verdict = later
		a.lost = status == http.StatusBadGateway || status == http.StatusGatewayTimeout || status == http.StatusInternalServerError
	case status < 400, status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status == http.StatusGone:
		a.verdict = wrong
	default:
		a.verdict = refused
	}
	return a
}

// judgeLogin reads Keystone's answer to a request for a token, when it was not 201.
func judgeLogin(status int, header http.Header, body []byte, now time.Time) answer {
	a := answer{status: status, text: readError(body).String(), after: retryAfter(header.Get("Retry-After"), now)}
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		a.verdict = badLogin
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		a.verdict = later
	default:
		a.verdict = wrong
	}
	return a
}

// said is the body of an error: of Monasca's API {"title", "description"}, of Keystone and its middleware {"error": {"code", "title",
// "message"}}, else plain text or a page.
type said struct {
	title, text string
}

// readError reads a body that may be anything.
func readError(body []byte) said {
	var object struct {
		Title       text `json:"title"`
		Description text `json:"description"`
		Message     text `json:"message"`
		Error       *struct {
			Title   text `json:"title"`
			Message text `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &object) != nil {
		return said{text: oneLine(string(body))}
	}
	if e := object.Error; e != nil {
		return said{title: oneLine(string(e.Title)), text: oneLine(string(e.Message))}
	}
	s := said{title: oneLine(string(object.Title)), text: oneLine(string(object.Description))}
	if s.text == "" {
		s.text = oneLine(string(object.Message))
	}
	return s
}

// text is a JSON string; any other value is read as none, not as an error.
type text string

func (t *text) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) == nil {
		*t = text(s)
	}
	return nil
}

func (s said) forbidden() bool { return strings.EqualFold(s.title, "Forbidden") }

func (s said) String() string {
	if s.title != "" && s.text != "" && s.title != s.text {
		return s.title + ": " + s.text
	}
	return s.title + strings.TrimPrefix(s.text, s.title)
}

// oneLine makes a server's words short and printable.
func oneLine(s string) string {
	if len(s) > 4*maxText {
		s = s[:4*maxText]
	}
	s = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))), " ")
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return strings.TrimSuffix(s, ".")
}

// retryAfter reads a Retry-After header: seconds or a date. What is no such thing, or in the past, is 0.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if n, err := strconv.ParseInt(value, 10, 64); err == nil {
		return time.Duration(min(max(n, 0), int64(maxRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
