package monasca

import (
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

const (
	badToken  = `{"error":{"code":401,"title":"Unauthorized","message":"The request you have made requires authentication."}}`
	forbidden = `{"title":"Forbidden","description":"The request does not have access to this service"}`
)

func TestJudge(t *testing.T) {
	t.Parallel()
	type want struct {
		Verdict verdict
		Text    string
		After   time.Duration
		Lost    bool
	}
	tests := map[string]struct {
		status int
		body   string
		after  string
		want   want
	}{
		"taken":                {204, "", "", want{Verdict: taken}},
		"a token that expired": {401, badToken, "", want{expired, "Unauthorized: The request you have made requires authentication", 0, false}},
		// The policy's refusal has the same status: what helps is not a new token.
		"a role that is missing": {401, forbidden, "", want{denied, "Forbidden: The request does not have access to this service", 0, false}},
		"the Java API's refusal": {403, `{"forbidden":{"code":403,"message":"x"}}`, "", want{Verdict: denied}},
		"401 of nobody knows":    {401, "<html>no</html>", "", want{expired, "<html>no</html>", 0, false}},
		"not legal":              {422, `{"title":"Unprocessable Entity","description":"invalid characters in metric name: a b"}`, "", want{refused, "Unprocessable Entity: invalid characters in metric name: a b", 0, false}},
		"a bad request":          {400, `{"title":"Bad request","description":"x"}`, "", want{refused, "Bad request: x", 0, false}},
		"a conflict":             {409, "", "", want{Verdict: refused}},
		"too large":              {413, "<html>\n<h1>413</h1>\n</html>", "", want{tooLarge, "<html> <h1>413</h1> </html>", 0, false}},
		"slow down":              {429, "", "17", want{later, "", 17 * time.Second, false}},
		"a slow request":         {408, "", "", want{Verdict: later}},
		"Kafka is down":          {503, `{"title":"Service unavailable"}`, "60", want{later, "Service unavailable", time.Minute, false}},
		"Keystone is down":       {503, "The Keystone service is temporarily unavailable.", "", want{later, "The Keystone service is temporarily unavailable", 0, false}},
		"a crash":                {500, "<html>", "", want{later, "<html>", 0, true}},
		"a proxy's timeout":      {504, "", "", want{Verdict: later, Lost: true}},
		"a proxy's loss":         {502, "", "", want{Verdict: later, Lost: true}},
		"another server":         {404, "", "", want{Verdict: wrong}},
		"another method":         {405, "", "", want{Verdict: wrong}},
		"a page":                 {200, "<html>welcome</html>", "", want{wrong, "<html>welcome</html>", 0, false}},
		"a redirection":          {302, "", "", want{Verdict: wrong}},
		"for very long":          {503, "", "999999999", want{later, "", time.Hour, false}},
		"until a date":           {503, "", noon.Truncate(time.Second).Add(90 * time.Second).Format(http.TimeFormat), want{later, "", 90*time.Second - noon.Sub(noon.Truncate(time.Second)), false}},
		"until the past":         {503, "", noon.Add(-time.Hour).Format(http.TimeFormat), want{Verdict: later}},
		"a negative time":        {503, "", "-5", want{Verdict: later}},
		"nonsense":               {503, "", "soon", want{Verdict: later}},
		"other types":            {422, `{"title":5,"description":{"a":1}}`, "", want{Verdict: refused}},
		"a list":                 {422, `[1]`, "", want{refused, "[1]", 0, false}},
	}
	for name, tt := range tests {
		a := judge(tt.status, http.Header{"Retry-After": {tt.after}}, []byte(tt.body), noon)
		if diff := cmp.Diff(tt.want, want{a.verdict, a.text, a.after, a.lost}); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestJudgeLogin(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]verdict{401: badLogin, 403: badLogin, 400: wrong, 404: wrong, 300: wrong, 408: later, 429: later, 500: later, 503: later} {
		if got := judgeLogin(status, http.Header{}, []byte(badToken), noon).verdict; got != want {
			t.Errorf("%d: got %v, want %v", status, got, want)
		}
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	for _, s := range []State{Retrying, BadLogin, Permission, Address} {
		last := time.Duration(0)
		for n := 1; n <= 100; n++ {
			d := backoff(s, n, 0, 0.999)
			if d < last || d > paces[s].most {
				t.Fatalf("%s: try %d waits %s after %s", s, n, d, last)
			}
			if least := backoff(s, n, 0, 0); least < d/2-time.Second || least <= 0 {
				t.Fatalf("%s: try %d waits %s at least", s, n, least)
			}
			last = d
		}
		if last < paces[s].most-time.Minute {
			t.Errorf("%s: waits %s at last", s, last)
		}
	}
	if d := backoff(BadLogin, 1, 0, 0); d < 2*time.Minute {
		t.Errorf("after a wrong password it waits only %s", d)
	}
	if d := backoff(Retrying, 1, 40*time.Minute, 0.5); d != 40*time.Minute {
		t.Errorf("Retry-After is not honoured: %s", d)
	}
}

func FuzzJudge(f *testing.F) {
	f.Add(401, []byte(badToken), "60")
	f.Add(401, []byte(forbidden), "Sat, 28 Nov 2026 12:00:00 GMT")
	f.Add(503, []byte("<html>\x00\xff"), "-1")
	f.Fuzz(func(t *testing.T, status int, body []byte, after string) {
		for _, a := range []answer{judge(status, http.Header{"Retry-After": {after}}, body, noon), judgeLogin(status, http.Header{}, body, noon)} {
			if len(a.text) > 3*maxText || strings.ContainsAny(a.text, "\n\r\x00") || !utf8.ValidString(a.text) || a.after < 0 || a.after > maxRetryAfter {
				t.Fatalf("%+v", a)
			}
			if (a.verdict == taken) != (status == 204 && a.verdict == taken) {
				t.Fatalf("status %d counts as taken", status)
			}
		}
	})
}

func FuzzParseTimes(f *testing.F) {
	f.Add([]byte(`{"elements":[{"measurements":[["2026-11-28T12:00:00.123Z",1,{}]]}]}`))
	f.Fuzz(func(_ *testing.T, body []byte) { parseTimes(body) })
}

func TestParseTimes(t *testing.T) {
	t.Parallel()
	got := parseTimes([]byte(`{"links":[],"elements":[{"measurements":[["2026-11-28T12:00:00.123Z",1,{}],[],[5],["x"]]},{},{"measurements":[["2026-11-28T12:00:01Z",1]]}]}`))
	if diff := cmp.Diff([]int64{1795867200123, 1795867201000}, got); diff != "" {
		t.Error(diff)
	}
}
