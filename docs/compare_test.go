package docs_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func itoa(n int) string { return strconv.Itoa(n) }

// Figures of an output, in the order in which they are made the same.
var figures = []struct {
	of *regexp.Regexp
	as string
}{
	{regexp.MustCompile(`\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`), "ID"},
	{regexp.MustCompile(`\b([0-9a-f]{8}|[0-9a-f]{12})\b`), "ID"},
	{regexp.MustCompile(`([0-9]+(\.[0-9]+)?(h|ms|m|s))+\b`), "0s"},
	{regexp.MustCompile(`[0-9]+([.:-][0-9]+)*`), "0"},
	{regexp.MustCompile(`[ \t]+`), " "},
}

// words are a line without its figures.
func words(line string) string {
	for _, f := range figures {
		line = f.of.ReplaceAllString(line, f.as)
	}
	return strings.TrimSpace(line)
}

// same says whether an output is the one that a page shows. Of a page's lines "..." stands for any lines, and … for anything within one.
func same(want []string, out string) bool {
	var pattern, text strings.Builder
	pattern.WriteString("^")
	for _, l := range want {
		if strings.TrimSpace(l) == "..." {
			pattern.WriteString(`(.*\n)*?`)
			continue
		}
		pattern.WriteString(strings.ReplaceAll(regexp.QuoteMeta(words(l)), "…", ".*") + `\n`)
	}
	pattern.WriteString("$")
	for l := range strings.Lines(strings.TrimRight(out, " \n") + "\n") {
		text.WriteString(words(l) + "\n")
	}
	return regexp.MustCompile(pattern.String()).MatchString(text.String())
}

func TestSame(t *testing.T) {
	t.Parallel()
	const out = "submitted as 1b6d0e13-bf21-4453-9f79-77e3828cc9f1\n22:03:27  Running   5%  1.00 CPU\nmet, 1m21s early, at 22:03:35\n"
	tests := map[string]bool{
		"submitted as 1b6d0e13-bf21-4453-9f79-000000000000\n ...\nmet, 3s early, at 01:00:00":                    true,
		"submitted as 1b6d0e13-bf21-4453-9f79-000000000000\n1:00:00 Running 50% 0.1 CPU\nmet, 3s early, at 1:00": true,
		"...\nmet, …": true,
		"...":         true,
		"submitted as 1b6d0e13-bf21-4453-9f79-000000000000\nmet, 3s early, at 01:00:00": false,
		"...\nmissed, …": false,
		"submitted as …": false,
	}
	for want, ok := range tests {
		if same(strings.Split(want, "\n"), out) != ok {
			t.Errorf("%q: %v", want, !ok)
		}
	}
}
