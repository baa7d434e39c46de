package qos

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestParseDeadline(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 31, 18, 0, 0, 0, time.UTC)
	for text, want := range map[string]Deadline{
		"1800":                      {After: 30 * time.Minute},
		"0.5":                       {After: 500 * time.Millisecond},
		"1.8e3":                     {After: 30 * time.Minute},
		"+60":                       {After: time.Minute},
		"30m":                       {After: 30 * time.Minute},
		"1h30m":                     {After: 90 * time.Minute},
		"1h0m0.000000001s":          {After: time.Hour + 1},
		"2030-01-31T18:00:00Z":      {At: at},
		"2030-01-31T19:00:00+01:00": {At: at},
		"87600h":                    {After: MaxTime},
		"1ms":                       {After: MinTime},
	} {
		got, err := ParseDeadline(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	for text, words := range map[string]string{
		"": "empty", "0": "zero", "-1": "negative", "-5m": "negative", "1e400": "too large", "1us": "millisecond", "1e30": "ten years",
		"87601h": "ten years", "0x10": "no deadline", "1_000": "no deadline", "NaN": "finite", "-Inf": "finite", "2030-01-31": "time zone",
		"2030-13-31T18:00:00Z": "no deadline", "0001-01-01T00:00:00Z": "years", "soon": "no deadline", "PT30M": "ISO 8601", "٣": "no deadline",
		"1600000000": "epoch",
	} {
		if got, err := ParseDeadline(text); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: want an error with %q, got %v, %v", text, words, got, err)
		}
	}
}

func TestDeadlineJSON(t *testing.T) {
	t.Parallel()
	for deadline, want := range map[Deadline]string{
		{}:                               `0`,
		{After: 30 * time.Minute}:        `1800`,
		{After: 1500 * time.Millisecond}: `"1.5s"`,
		{At: time.Date(2030, 1, 31, 18, 0, 0, 5, time.UTC)}: `"2030-01-31T18:00:00.000000005Z"`,
	} {
		got, err := json.Marshal(deadline)
		if err != nil || string(got) != want {
			t.Errorf("%v: got %s, %v, want %s", deadline, got, err, want)
		}
	}
	for text, want := range map[string]Deadline{"null": {}, "0": {}, "1.5": {After: 1500 * time.Millisecond}, `"90s"`: {After: 90 * time.Second}} {
		got := Deadline{After: 1}
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{`-1`, `""`, `"soon"`, `true`, `[1]`, `{}`} {
		var d Deadline
		if err := json.Unmarshal([]byte(text), &d); err == nil {
			t.Errorf("%s is read as %v", text, d)
		}
	}
}

func TestDeadlineRoundTrips(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := Deadline{After: time.Duration(rapid.Int64Range(int64(MinTime), int64(MaxTime)).Draw(t, "after"))}
		if rapid.Bool().Draw(t, "absolute") {
			want = Deadline{At: time.Unix(rapid.Int64Range(0, 253402300799).Draw(t, "at"), rapid.Int64Range(0, 999999999).Draw(t, "ns")).UTC()}
		}
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Deadline
		if err := json.Unmarshal(data, &got); err != nil || got != want {
			t.Fatalf("%v became %s became %v, %v", want, data, got, err)
		}
	})
}

func FuzzDeadline(f *testing.F) {
	for _, seed := range []string{"1800", "0.5", "30m", "2030-01-31T18:00:00+01:00", "-1", "NaN", "1e999", "PT30M", "", "9999-12-31T23:59:59-23:59"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDeadline(text)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error without words")
			}
			return
		}
		if d.IsZero() || (d.At.IsZero() && (d.After < MinTime || d.After > MaxTime)) {
			t.Fatalf("%q is read as %v, out of bounds", text, d)
		}
		data, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var again Deadline
		if err := json.Unmarshal(data, &again); err != nil || again != d {
			t.Fatalf("%q is %v, written as %s and read back as %v, %v", text, d, data, again, err)
		}
	})
}
