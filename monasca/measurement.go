package monasca

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits that Monasca has on a measurement; lengths are in characters.
const (
	maxLength   = 255
	illegalName = `<>={},"\;&() `
	illegalText = `<>={},"\;&`
	illegalKey  = illegalText + `()|` // the last three in its Java API alone
)

// Measurement is one value of one series at one time.
type Measurement struct {
	Name       string
	Dimensions map[string]string // values are made legal, empty ones left out
	At         time.Time         // sent in whole milliseconds
	Value      float64
}

// wire is a measurement as Monasca takes it.
type wire struct {
	Name       string            `json:"name"`
	Dimensions map[string]string `json:"dimensions,omitempty"`
	Timestamp  int64             `json:"timestamp"` // milliseconds since 1970
	Value      float64           `json:"value"`
}

// encode checks a measurement and returns it as Monasca takes it, on one line. A time after now is made now: Monasca's Java API
// refuses what lies in the future, and no measurement is made there.
func (m Measurement) encode(now time.Time) ([]byte, error) {
	if err := checkName(m.Name); err != nil {
		return nil, err
	}
	if math.IsNaN(m.Value) || math.IsInf(m.Value, 0) {
		return nil, fmt.Errorf("metric %s: its value is no finite number", m.Name)
	}
	at := m.At
	if at.After(now) {
		at = now
	}
	w := wire{Name: m.Name, Timestamp: at.UnixMilli(), Value: m.Value}
	for _, k := range slices.Sorted(maps.Keys(m.Dimensions)) {
		if err := checkKey(k); err != nil {
			return nil, fmt.Errorf("metric %s: %w", m.Name, err)
		}
		if v := legal(m.Dimensions[k]); v != "" {
			if w.Dimensions == nil {
				w.Dimensions = make(map[string]string, len(m.Dimensions))
			}
			w.Dimensions[k] = v
		}
	}
	return json.Marshal(w)
}

// checkName refuses names that Monasca does. Ours come from code: they are not made legal in silence.
func checkName(name string) error {
	if n := utf8.RuneCountInString(name); n < 1 || n > maxLength || !utf8.ValidString(name) || strings.ContainsAny(name, illegalName) {
		return fmt.Errorf("metric name %.40q: must be 1 to %d characters, none of %s", name, maxLength, illegalName)
	}
	return nil
}

// checkKey refuses keys of dimensions that Monasca does.
func checkKey(key string) error {
	n := utf8.RuneCountInString(key)
	if n < 1 || n > maxLength || !utf8.ValidString(key) || strings.HasPrefix(key, "_") || strings.ContainsAny(key, illegalKey) {
		return fmt.Errorf("dimension %.40q: must be 1 to %d characters, not begin with _, none of %s", key, maxLength, illegalKey)
	}
	return nil
}

// legal makes a text that others chose (a job's name) a value of a dimension that Monasca takes.
func legal(value string) string {
	value = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || unicode.IsControl(r) || strings.ContainsRune(illegalText, r) {
			return '_'
		}
		return r
	}, value)
	if utf8.RuneCountInString(value) > maxLength {
		value = string([]rune(value)[:maxLength])
	}
	return value
}
