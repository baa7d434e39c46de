package thesis

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"qosctl/qos"
)

// The routes, all POST.
const (
	InitTask        = "/initTask"
	UpdateTask      = "/updateTask"
	InitMarathonApp = "/initMarathonApp"
	EndMarathonApp  = "/endMarathonApp"
)

// MaxBody bounds a body, in bytes. The launcher's are about 200.
const MaxBody = 16 << 10

const (
	maxName       = 255       // bytes
	maxIterations = 1_000_000 // as of a job file
	epochFrom     = 1e9       // seconds: a deadline above it is a point in time (2001 and later), one below a span
	latest        = 253402300799
)

// Task is what the launcher says of a job.
type Task struct {
	ID         string // UUID in lower case with dashes, however it was written
	Name       string // a Marathon id with its leading slash, which the launcher leaves out
	Framework  qos.Framework
	Duration   float64   // CPU seconds of one run
	Deviation  float64   // a fraction
	Iterations int       // Chronos
	After      float64   // seconds: deadline of a Marathon execution, from its start, or of a Chronos series, from now; 0: At
	At         time.Time // deadline of a Chronos series
}

// Update is what a Chronos job says when an iteration has ended.
type Update struct {
	ID                string
	Name, Host        string
	Started, Finished time.Time // whole seconds, by the clock of that host
}

// Moment is what shell_trap says when an execution begins or ends.
type Moment struct {
	ID string
	At time.Time // whole seconds, by the clock of its host
}

// body is all that the four bodies have. What else is in one is passed over, as the supervisor did.
type body struct {
	UUID       *string `json:"uuid"`
	Name       *string `json:"name"`
	Framework  *string `json:"framework"`
	Duration   *number `json:"job_duration"`
	Deadline   *number `json:"deadline"`
	Deviation  *number `json:"desv_deadline"`
	Iterations *number `json:"iterations"`
	Started    *number `json:"started_at"`
	Finished   *number `json:"finished_at"`
	Host       *string `json:"hostname"`
}

// number is one that may be written as a string.
type number float64

// UnmarshalJSON takes 5, 5.5, "5" and " 5 ".
func (n *number) UnmarshalJSON(data []byte) error {
	text := string(data)
	if len(data) > 0 && data[0] == '"' {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
		text = strings.TrimSpace(text)
	}
	var f float64
	if err := json.Unmarshal([]byte(text), &f); err != nil || text == "null" {
		return fmt.Errorf("%.40q is not a number", text)
	}
	*n = number(f)
	return nil
}

func read(data []byte) (b body, err error) {
	if len(data) > MaxBody {
		return b, fmt.Errorf("the body is larger than %d bytes", MaxBody)
	}
	if err := json.Unmarshal(data, &b); err != nil {
		return b, fmt.Errorf("the body is not a JSON object as the launcher sends it: %w", err)
	}
	return b, nil
}

// ParseTask reads the body of InitTask.
func ParseTask(data []byte) (t Task, err error) {
	b, err := read(data)
	if err != nil {
		return t, err
	}
	var errs []error
	check := func(err error) { errs = append(errs, err) }
	t.ID, err = id(b.UUID)
	check(err)
	t.Name, err = text("name", b.Name, maxName)
	check(err)
	switch framework := orEmpty(b.Framework); framework {
	case string(qos.Marathon), string(qos.Chronos):
		t.Framework = qos.Framework(framework)
	default:
		check(fmt.Errorf("framework: %.40q is neither chronos nor marathon", framework))
	}
	t.Duration, err = required("job_duration", b.Duration)
	check(err)
	t.Deviation, err = required("desv_deadline", b.Deviation)
	check(err)
	deadline, err := required("deadline", b.Deadline)
	check(err)
	check(t.deadline(deadline))
	switch n := b.Iterations; {
	case t.Framework != qos.Chronos:
		t.Name = "/" + strings.TrimPrefix(t.Name, "/")
	case n == nil:
		check(errors.New("iterations: is missing"))
	case !(*n >= 1 && *n <= maxIterations) || *n != number(math.Trunc(float64(*n))):
		check(fmt.Errorf("iterations: %g is not a whole number from 1 to %d", float64(*n), maxIterations))
	default:
		t.Iterations = int(*n)
	}
	if err := errors.Join(errs...); err != nil {
		return Task{}, err
	}
	return t, nil
}

// deadline takes a series' as a point in time, as the launcher sends it, or as a span, as the thesis prints it.
func (t *Task) deadline(seconds float64) (err error) {
	if t.Framework == qos.Chronos && seconds > epochFrom {
		t.At, err = moment("deadline", seconds)
		return err
	}
	t.After = seconds
	return nil
}

// ParseUpdate reads the body of UpdateTask. Name and host are not needed.
func ParseUpdate(data []byte) (u Update, err error) {
	b, err := read(data)
	if err != nil {
		return u, err
	}
	var errs [3]error
	u.ID, errs[0] = id(b.UUID)
	u.Started, errs[1] = when("started_at", b.Started)
	u.Finished, errs[2] = when("finished_at", b.Finished)
	if err := errors.Join(errs[:]...); err != nil {
		return Update{}, err
	}
	if u.Finished.Before(u.Started) {
		return Update{}, errors.New("finished_at: is before started_at")
	}
	u.Name, u.Host = printable(orEmpty(b.Name)), printable(orEmpty(b.Host))
	return u, nil
}

// ParseBegin reads the body of InitMarathonApp.
func ParseBegin(data []byte) (Moment, error) {
	b, err := read(data)
	if err != nil {
		return Moment{}, err
	}
	return b.moment("started_at", b.Started)
}

// ParseEnd reads the body of EndMarathonApp.
func ParseEnd(data []byte) (Moment, error) {
	b, err := read(data)
	if err != nil {
		return Moment{}, err
	}
	return b.moment("finished_at", b.Finished)
}

func (b body) moment(key string, n *number) (m Moment, err error) {
	var errs [2]error
	m.ID, errs[0] = id(b.UUID)
	m.At, errs[1] = when(key, n)
	if err := errors.Join(errs[:]...); err != nil {
		return Moment{}, err
	}
	return m, nil
}

// Answer is what the supervisor answers to a body that it has understood: the same again. Nobody reads it but who looks at a job's output.
func Answer(data []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, data) != nil {
		return "JSON Message: {}\n"
	}
	return "JSON Message: " + b.String() + "\n"
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func required(key string, n *number) (float64, error) {
	if n == nil {
		return 0, fmt.Errorf("%s: is missing", key)
	}
	return float64(*n), nil
}

func when(key string, n *number) (time.Time, error) {
	seconds, err := required(key, n)
	if err != nil {
		return time.Time{}, err
	}
	return moment(key, seconds)
}

// moment is epoch seconds as a time.
func moment(key string, seconds float64) (time.Time, error) {
	if !(seconds > 0 && seconds <= latest) {
		return time.Time{}, fmt.Errorf("%s: %g is no time in epoch seconds", key, seconds)
	}
	return time.UnixMilli(int64(math.Round(seconds * 1e3))).UTC(), nil
}

func text(key string, s *string, most int) (string, error) {
	switch {
	case s == nil || *s == "":
		return "", fmt.Errorf("%s: is missing", key)
	case len(*s) > most:
		return "", fmt.Errorf("%s: is longer than %d bytes", key, most)
	case printable(*s) != *s || strings.ContainsAny(*s, " \t?#%"):
		return "", fmt.Errorf("%s: %.40q has characters that no name has", key, *s)
	}
	return *s, nil
}

// printable cuts what is not to be printed, or too long.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	for len(s) > maxName {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}
