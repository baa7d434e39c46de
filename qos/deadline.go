package qos

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Bounds of the times in a job file. A deadline farther away than ten years is a mistake of unit, not a plan.
const (
	MinTime = time.Millisecond
	MaxTime = 10 * 365 * 24 * time.Hour
)

const deadlineForms = `write seconds (1800), a duration ("30m") or a time ("2030-01-31T18:00:00Z")`

// decimal is the form of numbers in JSON and in the strings that stand for them: no hexadecimal, no NaN, no Inf.
var decimal = regexp.MustCompile(`^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$`)

// IsZero says whether no deadline was given.
func (d Deadline) IsZero() bool { return d.After == 0 && d.At.IsZero() }

// String returns the deadline as a person would write it: "30m0s" or "2030-01-31T18:00:00Z".
func (d Deadline) String() string {
	if !d.At.IsZero() {
		return d.At.UTC().Format(time.RFC3339Nano)
	}
	return d.After.String()
}

// MarshalJSON returns whole seconds as a number, other durations and times as a string; UnmarshalJSON reads back the same.
func (d Deadline) MarshalJSON() ([]byte, error) {
	if d.At.IsZero() && d.After%time.Second == 0 {
		return strconv.AppendInt(nil, int64(d.After/time.Second), 10), nil
	}
	return json.Marshal(d.String())
}

// UnmarshalJSON reads the forms of ParseDeadline, as a number or as a string. null and 0 mean no deadline.
func (d *Deadline) UnmarshalJSON(data []byte) error {
	text := string(bytes.TrimSpace(data))
	if text == "null" || text == "0" {
		*d = Deadline{}
		return nil
	}
	if strings.HasPrefix(text, `"`) {
		if err := json.Unmarshal(data, &text); err != nil {
			return fmt.Errorf("read deadline: %w", err)
		}
	}
	read, err := ParseDeadline(text)
	if err != nil {
		return fmt.Errorf("read deadline: %w", err)
	}
	*d = read
	return nil
}

// ParseDeadline reads a deadline: seconds ("1800", "0.5"), a Go duration ("30m") or an RFC 3339 time. Relative deadlines
// lie between MinTime and MaxTime; a time is returned in UTC, and whether it is past is for the caller to say.
func ParseDeadline(text string) (Deadline, error) {
	if text == "" {
		return Deadline{}, &fault{"is empty", deadlineForms}
	}
	if decimal.MatchString(text) {
		seconds, err := parseNumber(text)
		if err != nil {
			return Deadline{}, err
		}
		return relative(seconds)
	}
	if after, err := time.ParseDuration(text); err == nil {
		return relative(after.Seconds(), after)
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return Deadline{}, deadlineFault(text)
	}
	// Years beyond 9999 and before 0 are outside of RFC 3339 once they are taken to UTC, and could not be written again.
	if at = at.UTC(); at.Year() < 1970 || at.Year() > 9999 {
		return Deadline{}, &fault{"is a time outside of the years 1970 to 9999", deadlineForms}
	}
	return Deadline{At: at}, nil
}

// relative returns the deadline so many seconds from the start; exact, if given, is the same without rounding.
func relative(seconds float64, exact ...time.Duration) (Deadline, error) {
	if err := checkSeconds(seconds); err != nil {
		return Deadline{}, err
	}
	if len(exact) > 0 {
		return Deadline{After: exact[0]}, nil
	}
	return Deadline{After: time.Duration(math.Round(seconds * float64(time.Second)))}, nil
}

// checkSeconds says what is wrong with a span of time that must be positive and of a sane length.
func checkSeconds(seconds float64) error {
	switch {
	case seconds < 0:
		return &fault{"is negative", "write the seconds as a positive number"}
	case seconds == 0:
		return &fault{"is zero", "write how many seconds it takes, such as 400"}
	case seconds < MinTime.Seconds():
		return &fault{"is less than a millisecond", "write it in seconds"}
	case seconds > 1e9 && seconds < 5e9:
		return &fault{
			"looks like a time in epoch seconds, it is more than 30 years long",
			"write seconds from the start (1800), or a time as \"" + time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339) + `"`,
		}
	case seconds > MaxTime.Seconds():
		return &fault{"is more than ten years", "write it in seconds: a day has 86400"}
	}
	return nil
}

// deadlineFault names what a text that is no deadline was probably meant to be.
func deadlineFault(text string) error {
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02"} {
		if at, err := time.Parse(layout, text); err == nil {
			return &fault{"has no time zone, or not the form of RFC 3339", `write it as "` + at.Format(time.RFC3339) + `" or with an offset such as +01:00`}
		}
	}
	if strings.HasPrefix(text, "P") {
		return &fault{"is an ISO 8601 duration", `write it as a number of seconds (1800) or as "30m"`}
	}
	if notFinite(text) {
		return &fault{"is not a finite number", deadlineForms}
	}
	return &fault{"is no deadline", deadlineForms}
}

// parseNumber reads a decimal number, as JSON has it or as a string that stands for one.
func parseNumber(text string) (float64, error) {
	if !decimal.MatchString(text) {
		if notFinite(text) {
			return 0, &fault{"is not a finite number", "write a decimal number, such as 1.5"}
		}
		return 0, &fault{"is not a number", "write a decimal number, such as 1.5"}
	}
	value, err := strconv.ParseFloat(text, 64)
	if errors.Is(err, strconv.ErrRange) {
		return 0, &fault{"is too large for a number", "write a decimal number, such as 1.5"}
	}
	if err != nil {
		return 0, &fault{"is not a number", "write a decimal number, such as 1.5"}
	}
	return value, nil
}

// notFinite says whether a text is one of the names of the numbers that are none.
func notFinite(text string) bool {
	switch strings.ToLower(strings.TrimLeft(text, "+-")) {
	case "nan", "inf", "infinity":
		return true
	}
	return false
}
