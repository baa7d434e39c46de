package qos

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sosodev/duration"
)

// MaxIterations bounds the R of a schedule.
const MaxIterations = 1_000_000

const scheduleForm = `write it as "R4//P": 4 iterations, from now on`

// Schedule is the ISO 8601 schedule of a Chronos job, Rn/start/period.
type Schedule struct {
	Iterations int           // n, from 1 to MaxIterations
	Start      time.Time     // zero: at submission; else UTC
	Zoned      bool          // the start names its zone or offset; if not it is read as UTC
	Period     time.Duration // months and years taken as their mean length
}

// ParseSchedule reads a schedule such as "R4//PT5M" or "R4/2030-01-31T18:00:00Z/PT5M". One without a number of repetitions
// runs for ever, has no deadline and is refused.
func ParseSchedule(text string) (Schedule, error) {
	parts := strings.Split(text, "/")
	if len(parts) != 3 {
		return Schedule{}, &fault{fmt.Sprintf("has %d parts between slashes where a schedule has 3: R, start and period", len(parts)), scheduleForm}
	}
	var (
		s   Schedule
		err error
	)
	if s.Iterations, err = parseRepeat(parts[0]); err != nil {
		return Schedule{}, err
	}
	if s.Start, s.Zoned, err = parseStart(parts[1]); err != nil {
		return Schedule{}, err
	}
	if s.Period, err = parsePeriod(parts[2]); err != nil {
		return Schedule{}, err
	}
	return s, nil
}

// parseRepeat reads the first part of a schedule, R and the number of iterations.
func parseRepeat(text string) (int, error) {
	digits, found := strings.CutPrefix(text, "R")
	if !found {
		return 0, &fault{"does not begin with R and the number of iterations", scheduleForm}
	}
	if digits == "" {
		return 0, &fault{"repeats for ever: R has no number, and a deadline needs one", `write how many iterations must be done by the deadline, as in "R4//P"`}
	}
	if strings.Trim(digits, "0123456789") != "" {
		return 0, &fault{"has something other than digits after R", scheduleForm}
	}
	n, err := strconv.Atoi(digits)
	switch {
	case err != nil || n > MaxIterations:
		return 0, &fault{fmt.Sprintf("repeats more than %d times", MaxIterations), "write fewer iterations"}
	case n == 0:
		return 0, &fault{"has no iterations: R0", "write how many iterations are to be run, from 1"}
	}
	return n, nil
}

// startLayouts are the forms of ISO 8601 that Chronos takes for a start; those without a zone come last.
var startLayouts = []string{
	time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04Z07:00", "2006-01-02T15:04Z0700",
	"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02",
}

// parseStart reads the second part of a schedule, a time or nothing, and says whether it names its zone.
func parseStart(text string) (start time.Time, zoned bool, err error) {
	if text == "" {
		return time.Time{}, false, nil
	}
	for _, layout := range startLayouts {
		if start, err = time.Parse(layout, text); err == nil {
			zoned = strings.Contains(layout, "Z07")
			break
		}
	}
	if err != nil {
		return time.Time{}, false, &fault{"has a start that is no ISO 8601 time", `write it as "2030-01-31T18:00:00Z", or leave it empty to begin at once`}
	}
	start = start.UTC()
	if start.Year() < 1970 || start.Year() > 2200 {
		return time.Time{}, false, &fault{"has a start outside of the years 1970 to 2200, which Chronos cannot keep", "leave it empty to begin at once"}
	}
	return start, zoned, nil
}

// parsePeriod reads the third part of a schedule. "P" is a period of zero.
func parsePeriod(text string) (time.Duration, error) {
	if text == "" {
		return 0, &fault{"has no period", "write P: it is not used, but Chronos wants one"}
	}
	period, err := duration.Parse(text)
	if err != nil || period.Negative {
		return 0, &fault{"has a period that is no ISO 8601 duration", "write P: it is not used, but Chronos wants one"}
	}
	seconds := period.Years*365*86400 + period.Months*365*7200 + period.Weeks*7*86400 + period.Days*86400 +
		period.Hours*3600 + period.Minutes*60 + period.Seconds
	if seconds > MaxTime.Seconds() {
		return 0, &fault{"has a period of more than ten years", "write P: it is not used"}
	}
	return period.ToTimeDuration(), nil
}
