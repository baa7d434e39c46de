package chronos

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sosodev/duration"
)

// stamp is how Joda prints a time in UTC.
const stamp = "2006-01-02T15:04:05.000Z"

// schedule is a parsed R<n>/<start>/<period>.
type schedule struct {
	repeat     int // -1: for ever
	start      time.Time
	period     time.Duration
	periodText string
}

var scheduleForm = regexp.MustCompile(`^(R[0-9]*)/(.*)/(P.*)$`)

// parseSchedule reads a schedule. An empty start is a second ago, at every parse. The zone, if there is one, replaces that of the
// start.
func parseSchedule(text, zone string, now time.Time) (s schedule, ok bool) {
	m := scheduleForm.FindStringSubmatch(text)
	if m == nil {
		return s, false
	}
	s.repeat = -1
	if m[1] != "R" {
		n, err := strconv.Atoi(m[1][1:])
		if err != nil {
			return s, false
		}
		s.repeat = n
	}
	if s.start, ok = parseStart(m[2], zone, now); !ok || s.start.Year() < 1800 || s.start.Year() > 9999 {
		return s, false // beyond what a time.Duration spans, and beyond four digits
	}
	s.periodText = m[3]
	if s.periodText == "P" {
		return s, true
	}
	d, err := duration.Parse(s.periodText)
	if err != nil || d.Negative || !strings.ContainsAny(s.periodText, "0123456789") {
		return s, false
	}
	s.period = d.ToTimeDuration()
	const century = 100 * 365 * 24 * time.Hour
	return s, s.period >= 0 && s.period <= century
}

func parseStart(text, zone string, now time.Time) (time.Time, bool) {
	if text == "" {
		return now.Add(-time.Second), true
	}
	var t time.Time
	var err error
	for _, form := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02"} {
		if t, err = time.Parse(form, text); err == nil {
			break
		}
	}
	if err != nil {
		return t, false
	}
	if zone != "" {
		loc, err := time.LoadLocation(zone)
		if err != nil {
			return t, false
		}
		t = time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), loc)
	}
	return t, true
}

func (s schedule) String() string {
	n := ""
	if s.repeat >= 0 {
		n = strconv.Itoa(s.repeat)
	}
	return fmt.Sprintf("R%s/%s/%s", n, s.start.UTC().Format(stamp), s.periodText)
}

// launched is the schedule after a launch: one repetition less, and the first start that lies in the future (JobUtils.skipForward).
// Nothing stops at none: 0 becomes -1, which is for ever.
func (s schedule) launched(now time.Time) (next schedule, changed bool) {
	next = s
	if s.repeat >= 0 {
		next.repeat--
		changed = true
	}
	if s.period > 0 && !s.start.After(now) {
		next.start = s.start.Add((now.Sub(s.start)/s.period + 1) * s.period)
		changed = true
	}
	return next, changed
}
