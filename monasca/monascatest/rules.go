package monascatest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	illegalName  = `<>={},"\;&() `
	illegalValue = `<>={},"\;&`
	illegalKey   = illegalValue + `()|` // the last three by the Java API alone
	longest      = 255
	maxMeta      = 16
	maxMetaText  = 2048
)

// post takes an object or an array of them, all or nothing.
func (m *Monasca) post(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Content-Encoding") != "" {
		refuse(w, http.StatusBadRequest, "Bad request", "Bad content type. Must be application/json")
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		refuse(w, http.StatusBadRequest, "Bad request", "Request body is not valid JSON")
		return
	}
	if m.MaxBody > 0 && len(body) > m.MaxBody {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		fmt.Fprint(w, "<html><h1>413 Request Entity Too Large</h1></html>")
		return
	}
	points, err := Parse(body, m.Strict, time.Now())
	var bad *illegal
	switch {
	case errors.As(err, &bad):
		refuse(w, http.StatusUnprocessableEntity, "Unprocessable Entity", "%s", bad.text)
	case err != nil:
		refuse(w, http.StatusBadRequest, "Bad request", "Request body is not valid JSON")
	default:
		m.mu.Lock()
		for _, p := range points {
			if m.OnPoint != nil {
				m.OnPoint(p)
			} else {
				m.points = append(m.points, p)
			}
		}
		m.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	}
}

// illegal is a fault of a measurement.
type illegal struct{ text string }

// Error names it.
func (e *illegal) Error() string { return e.text }

// metric is a measurement as it was sent; a pointer that is nil, or raw text that is empty, was left out.
type metric struct {
	Name       *string                     `json:"name"`
	Dimensions json.RawMessage             `json:"dimensions"`
	Timestamp  json.RawMessage             `json:"timestamp"`
	Value      json.RawMessage             `json:"value"`
	Meta       *map[string]json.RawMessage `json:"value_meta"`
}

// Parse checks a request's body by the rules of Monasca's API; strict has those of its Java API on top, which looks at times.
func Parse(body []byte, strict bool, now time.Time) ([]Point, error) {
	body = bytes.TrimSpace(body)
	if len(body) == 0 || body[0] != '[' {
		body = []byte("[" + string(body) + "]")
	}
	var list []metric
	if err := json.Unmarshal(body, &list); err != nil {
		if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return nil, &illegal{err.Error()}
		}
		return nil, err
	}
	points := make([]Point, 0, len(list))
	for _, m := range list {
		p, err := m.point(strict, now)
		if err != nil {
			return nil, err
		}
		points = append(points, p)
	}
	return points, nil
}

func (m metric) point(strict bool, now time.Time) (Point, error) {
	if m.Name == nil || !length(*m.Name) || strings.ContainsAny(*m.Name, illegalName) {
		return Point{}, &illegal{fmt.Sprintf("invalid characters in metric name: %v", m.Name)}
	}
	p := Point{Name: *m.Name}
	bad := func(format string, args ...any) (Point, error) {
		return Point{}, &illegal{fmt.Sprintf(format, args...) + ": for metric " + p.Name}
	}
	if m.Dimensions != nil {
		if err := dimensions(m.Dimensions, &p); err != nil {
			return bad("%v", err)
		}
	}
	value, ok := number(m.Value)
	if !ok && string(m.Value) != "true" && string(m.Value) != "false" {
		return bad("invalid value %s", m.Value)
	}
	p.Value = value
	ms, ok := number(m.Timestamp)
	if !ok {
		return bad("invalid timestamp %s", m.Timestamp)
	}
	p.At = time.UnixMilli(int64(ms))
	if strict && (ms != math.Trunc(ms) || p.At.Before(now.Add(-14*24*time.Hour)) || p.At.After(now.Add(2*time.Minute))) {
		return bad("Timestamp %s is out of legal range", m.Timestamp)
	}
	if m.Meta != nil {
		if err := meta(*m.Meta); err != nil {
			return bad("%v", err)
		}
	}
	return p, nil
}

func length(s string) bool {
	n := utf8.RuneCountInString(s)
	return n >= 1 && n <= longest
}

// number reads a finite JSON number.
func number(raw json.RawMessage) (float64, bool) {
	var f *float64
	if raw == nil || json.Unmarshal(raw, &f) != nil || f == nil {
		return 0, false
	}
	return *f, true
}

func dimensions(raw json.RawMessage, p *Point) error {
	var all map[string]*string
	if err := json.Unmarshal(raw, &all); err != nil || all == nil {
		return errors.New("invalid dimensions")
	}
	p.Dimensions = make(map[string]string, len(all))
	for k, v := range all {
		if !length(k) || strings.HasPrefix(k, "_") || strings.ContainsAny(k, illegalKey) {
			return fmt.Errorf("invalid dimension key %q", k)
		}
		if v == nil || !length(*v) || strings.ContainsAny(*v, illegalValue) {
			return fmt.Errorf("invalid dimension value of %q", k)
		}
		p.Dimensions[k] = *v
	}
	return nil
}

func meta(all map[string]json.RawMessage) error {
	if len(all) > maxMeta {
		return errors.New("too many valueMeta entries")
	}
	text := "{"
	for k, v := range all {
		if !length(k) {
			return errors.New("valueMeta name must be 1 to 255 characters")
		}
		if len(text) > 1 {
			text += ", "
		}
		text += fmt.Sprintf("%q: %s", k, v)
	}
	if utf8.RuneCountInString(text)+1 > maxMetaText {
		return errors.New("valueMeta name value combinations must be <= 2048 characters")
	}
	return nil
}
