package contracttest

import (
	"strings"
	"testing"
)

func TestEveryRowIsReadAndItsOwnExampleFits(t *testing.T) {
	t.Parallel()
	rows := Rows(t)
	count := map[Server]int{}
	for _, row := range rows {
		count[row.Server]++
		status, header, body := row.Example()
		if err := row.Match(status, header, body, Vars()); err != nil {
			t.Errorf("%s (line %d): its own example: %v", row.ID, row.Line, err)
		}
	}
	for _, s := range []Server{Marathon, Chronos, Agent, Master} {
		if count[s] == 0 {
			t.Errorf("no rows for %s", s)
		}
	}
	t.Logf("rows: %v", count)
}

func TestMatch(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, want, got string
		err             string // "" fits
	}{
		{"part of an object", `{"a":1}`, `{"a":1,"b":2}`, ""},
		{"another value", `{"a":1}`, `{"a":2}`, "$.a is 2, not 1"},
		{"a member that is missing", `{"a":{"b":1}}`, `{"a":{}}`, "$.a.b is not there"},
		{"absent", `{"a":"<absent>"}`, `{"b":1}`, ""},
		{"not absent", `{"a":"<absent>"}`, `{"a":1}`, "$.a is there"},
		{"wildcard", `{"a":"x*z"}`, `{"a":"xyz"}`, ""},
		{"wildcard that overlaps", `{"a":"xy*yz"}`, `{"a":"xyz"}`, "not"},
		{"empty array", `[]`, `[1]`, "1 elements, not none"},
		{"elements in another order", `["b*","a*"]`, `["aa","bb","cc"]`, ""},
		{"two wants for one element", `["a*","aa"]`, `["aa","ab"]`, ""},
		{"one element for two wants", `["a*","a*"]`, `["ab"]`, "no element fits"},
		{"count", `{"<count>":2}`, `[1,2]`, ""},
		{"wrong count", `{"<count>":2}`, `[1]`, "1 elements, not 2"},
		{"count with one that fits", `{"<count>":2,"<first>":{"a":1}}`, `[{"a":2},{"a":1}]`, ""},
		{"a number for a text", `{"a":"1"}`, `{"a":1}`, "not \"1\""},
		{"a time", `"<time>"`, `"2026-01-01T00:00:00.000Z"`, ""},
		{"no time", `"<time>"`, `"yesterday"`, "not"},
		{"no uuid", `"<uuid>"`, `"0F"`, "not"},
		{"not a pattern", `"<not {task}>"`, `"t2"`, ""},
		{"the pattern", `"<not {task}>"`, `"t1"`, "not"},
		{"no JSON", `{}`, `<html>`, "no JSON"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var row Row
			if err := row.parseAnswer("`" + tt.want + "`"); err != nil {
				t.Fatal(err)
			}
			err := row.MatchBody([]byte(tt.got), map[string]string{"task": "t1"})
			if tt.err == "" && err != nil {
				t.Fatal(err)
			}
			if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Fatalf("error %v, want one with %q", err, tt.err)
			}
		})
	}
}

func TestRowsThatCannotBeReadAreNamed(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, row, err string }{
		{"too few cells", "| a | - | `GET /` |", "3 cells"},
		{"unknown precondition", "| a | app a | `GET /` | 200 | any | s |", "vocabulary"},
		{"no method", "| a | - | `FETCH /` | 200 | any | s |", "no method"},
		{"no status", "| a | - | `GET /` | ok | any | s |", "not a status"},
		{"no JSON", "| a | - | `GET /` | 200 | `{` | s |", "answer"},
		{"no source", "| a | - | `GET /` | 200 | any | |", "no source"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := Parse("## Marathon\n" + tt.row); err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want one with %q", err, tt.err)
			}
		})
	}
	if _, err := Parse("## Chronos\n| a | - | `GET /` | 200 | any | s |\n| a | - | `GET /` | 200 | any | s |"); err == nil {
		t.Error("an id that is there twice is taken")
	}
}
