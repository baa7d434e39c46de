package framework

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Sentinels that callers branch on. Every *Error wraps one of them.
var (
	ErrNotFound     = errors.New("not found")
	ErrExists       = errors.New("exists already")
	ErrLocked       = errors.New("locked by a deployment")
	ErrUnauthorized = errors.New("not authorized")
	ErrInvalid      = errors.New("refused as invalid")
	ErrUnavailable  = errors.New("not available")
)

// maxExcerpt bounds what an error shows of a body, in bytes.
const maxExcerpt = 512

// Error is an answer that is not a success, or the lack of an answer (Status 0).
type Error struct {
	Framework   string   // name of the endpoint
	Method      string   // of the request
	Path        string   // of the request, with its query, without the host
	Status      int      // HTTP status; 0: there was no answer
	Message     string   // the framework's own words, its first line; else ours
	Details     []Detail // what validation found
	Deployments []string // ids of the deployments that lock the app
	Body        string   // excerpt, at most 512 bytes, control characters taken out
	HTML        bool     // the answer was HTML: probably something else listens there
	Repeated    bool     // the request was sent more than once; an earlier one may have been carried out
	Uncertain   bool     // the request may have been carried out in spite of the error
	Kind        error    // sentinel
	Cause       error    // of the lack of an answer
}

// Detail is one fault that the framework's validation found.
type Detail struct {
	Path   string   `json:"path"` // of the field, as /upgradeStrategy; "" for none
	Errors []string `json:"errors"`
}

// Error describes the failed request, and what helps where we know it.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s %s", e.Framework, e.Method, e.Path)
	if e.Status != 0 {
		fmt.Fprintf(&b, ": answered %d", e.Status)
		if text := http.StatusText(e.Status); text != "" {
			b.WriteString(" " + text)
		}
	}
	switch {
	case e.Message != "":
		b.WriteString(": " + e.Message)
	case e.Body != "":
		b.WriteString(": " + e.Body)
	}
	for _, d := range e.Details {
		b.WriteString("; ")
		if d.Path != "" {
			b.WriteString(d.Path + ": ")
		}
		b.WriteString(strings.Join(d.Errors, ", "))
	}
	if len(e.Deployments) > 0 {
		b.WriteString(" (deployments " + strings.Join(e.Deployments, ", ") + ")")
	}
	if e.Cause != nil {
		b.WriteString(": " + e.Cause.Error())
	}
	return b.String()
}

// Unwrap gives the sentinel and the cause.
func (e *Error) Unwrap() []error {
	var all []error
	if e.Kind != nil {
		all = append(all, e.Kind)
	}
	if e.Cause != nil {
		all = append(all, e.Cause)
	}
	return all
}

// Remedy says what the user can do about an error of a framework; "" when there is nothing to say.
func Remedy(err error) string {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return ""
	}
	switch {
	case e.HTML && !errors.Is(err, ErrUnauthorized):
		return "check the URL of " + e.Framework + ": something else answers there"
	case errors.Is(err, ErrUnauthorized):
		return "check the credentials of " + e.Framework
	case errors.Is(err, ErrLocked):
		return "wait for the running deployment to end, or cancel it"
	case e.Status == 0 && errors.Is(err, ErrUnavailable):
		return "check that " + e.Framework + " runs, and its URL"
	case errors.Is(err, ErrUnavailable):
		return "the fault lies with " + e.Framework + ": look into its log, and try again when it answers"
	}
	return ""
}

// Uncertain says whether the request that failed may have been carried out all the same.
func Uncertain(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Uncertain
}

// parseError makes the error of an answer. It never fails: what can't be understood is shown as an excerpt.
func parseError(status int, contentType string, body []byte) *Error {
	e := &Error{Status: status, Body: excerpt(body)}
	e.HTML = isHTML(contentType, body)
	var answer struct {
		Message     json.RawMessage   `json:"message"`
		Details     json.RawMessage   `json:"details"`
		Errors      json.RawMessage   `json:"errors"`
		Deployments []json.RawMessage `json:"deployments"`
	}
	isJSON := !e.HTML && json.Unmarshal(body, &answer) == nil
	if isJSON {
		e.Message = firstLine(text(answer.Message))
		e.Details = append(details(answer.Details), details(answer.Errors)...)
		for _, d := range answer.Deployments {
			var object struct {
				ID string `json:"id"`
			}
			if json.Unmarshal(d, &object) == nil && object.ID != "" {
				e.Deployments = append(e.Deployments, object.ID)
			}
		}
	}
	if e.HTML {
		e.Message = ""
		e.Body = excerpt(stripTags(body))
	}
	e.Kind = kindOf(e, isJSON && e.Message != "")
	return e
}

// kindOf sorts an answer by its status. A 404 counts as "not found" only in the framework's own words: to take any 404 (of a
// proxy, of a wrong URL) for a deleted app would cancel the job.
func kindOf(e *Error, spoken bool) error {
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return ErrUnauthorized
	case http.StatusNotFound:
		if spoken {
			return ErrNotFound
		}
		return ErrUnavailable
	case http.StatusConflict:
		// Marathon's two 409s: one names the deployments that hold the lock, the other has no such key.
		if len(e.Deployments) > 0 || strings.Contains(e.Message, "locked") {
			return ErrLocked
		}
		return ErrExists
	case http.StatusTooManyRequests, http.StatusRequestTimeout:
		return ErrUnavailable
	}
	if e.HTML || e.Status >= 500 || e.Status < 400 {
		return ErrUnavailable
	}
	return ErrInvalid
}

// details reads Marathon's "details": a list of {path, errors}, or a text.
func details(raw json.RawMessage) []Detail {
	if len(raw) == 0 {
		return nil
	}
	var list []struct {
		Path      string   `json:"path"`
		Attribute string   `json:"attribute"` // 1.4 and before
		Errors    []string `json:"errors"`
		Error     string   `json:"error"`
	}
	if json.Unmarshal(raw, &list) == nil {
		out := make([]Detail, 0, len(list))
		for _, d := range list {
			if d.Path == "" {
				d.Path = d.Attribute
			}
			if d.Error != "" {
				d.Errors = append(d.Errors, d.Error)
			}
			for i := range d.Errors {
				d.Errors[i] = excerpt([]byte(d.Errors[i]))
			}
			out = append(out, Detail{Path: excerpt([]byte(d.Path)), Errors: d.Errors})
		}
		return out
	}
	if s := text(raw); s != "" {
		return []Detail{{Errors: []string{firstLine(s)}}}
	}
	return nil
}

// text is a JSON string's text; "" for anything else.
func text(raw json.RawMessage) string {
	var s string
	if len(raw) == 0 || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// firstLine cuts a Java stack trace down to what it says.
func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return excerpt([]byte(s))
}

// excerpt makes bytes of unknown origin fit to be printed: valid UTF-8, one line, bounded.
func excerpt(b []byte) string {
	if len(b) > maxExcerpt {
		b = b[:maxExcerpt]
		for len(b) > 0 && !utf8.Valid(b[max(0, len(b)-utf8.UTFMax):]) && len(b) > maxExcerpt-utf8.UTFMax {
			b = b[:len(b)-1]
		}
		b = append(bytes.Clone(b), "…"...)
	}
	s := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(b), "�"))
	return strings.Join(strings.Fields(s), " ")
}

// isHTML says whether an answer is a web page, whatever it claims to be.
func isHTML(contentType string, body []byte) bool {
	head := bytes.ToLower(bytes.TrimSpace(body[:min(len(body), 256)]))
	for _, start := range []string{"<!doctype", "<html", "<head", "<body"} {
		if bytes.HasPrefix(head, []byte(start)) {
			return true
		}
	}
	return strings.HasPrefix(strings.ToLower(contentType), "text/html") && bytes.HasPrefix(head, []byte("<"))
}

// stripTags leaves the words of a web page's beginning.
func stripTags(b []byte) []byte {
	b = b[:min(len(b), 4*maxExcerpt)]
	var out []byte
	depth := 0
	for _, c := range b {
		switch {
		case c == '<':
			depth++
			out = append(out, ' ')
		case c == '>' && depth > 0:
			depth--
		case depth == 0:
			out = append(out, c)
		}
	}
	return out
}

// hider replaces what must not be shown: the secrets of a request, and what its Authorization header says.
func hider(authorization string, secrets []string) *strings.Replacer {
	pairs := []string{}
	add := func(s string) {
		if s != "" {
			pairs = append(pairs, s, "<secret>")
		}
	}
	for _, s := range secrets {
		add(s)
	}
	_, credentials, _ := strings.Cut(authorization, " ")
	add(credentials)
	if plain, err := base64.StdEncoding.DecodeString(credentials); err == nil {
		_, password, _ := strings.Cut(string(plain), ":")
		add(password)
	}
	return strings.NewReplacer(pairs...)
}

// hide takes secrets out of what a server may have repeated. A password of one letter would take every such letter along, and
// that is as it should be.
func (e *Error) hide(h *strings.Replacer) *Error {
	e.Message, e.Body = h.Replace(e.Message), h.Replace(e.Body)
	for i := range e.Details {
		e.Details[i].Path = h.Replace(e.Details[i].Path)
		for j := range e.Details[i].Errors {
			e.Details[i].Errors[j] = h.Replace(e.Details[i].Errors[j])
		}
	}
	return e
}
