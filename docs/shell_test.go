package docs_test

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// command is one simple command of a line.
type command []string

var assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

// bare is a command without sudo and without what is put into its environment.
func (c command) bare() command {
	for len(c) > 0 && (c[0] == "sudo" || assignment.MatchString(c[0])) {
		c = c[1:]
	}
	return c
}

// split takes a line of a shell apart: simple commands, joined by | && || ; and words, quoted or not. Variables are words of one letter
// or more. What would need a whole shell is an error.
func split(line string) ([]command, error) {
	var list []command
	var now command
	var word strings.Builder
	in, quote := false, rune(0)
	end := func() {
		if in {
			now = append(now, word.String())
		}
		word.Reset()
		in = false
	}
	cut := func() {
		end()
		if len(now) > 0 {
			list = append(list, now)
		}
		now = nil
	}
	runes := []rune(line)
	for i := 0; i < len(runes); i++ {
		r := runes[i]
		next := rune(0)
		if i+1 < len(runes) {
			next = runes[i+1]
		}
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == '\'' || quote == '"' && r != '$' && r != '\\' && r != '`':
			word.WriteRune(r)
		case r == '`' || r == '$' && (next == '(' || next == '{') || (r == '<' || r == '>') && next == '(' || r == '<' && next == '<':
			return nil, fmt.Errorf("%q needs a whole shell", string(r)+string(next))
		case r == '\\':
			if next == 0 {
				return nil, errors.New("a backslash at the end")
			}
			word.WriteRune(next)
			in = true
			i++
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, in = r, true
		case r == '#' && !in:
			cut()
			return list, nil
		case r == '>' || r == '<': // neither its number nor the file of a redirection is an argument
			if strings.Trim(word.String(), "0123456789") == "" {
				word.Reset()
				in = false
			}
			end()
			for i++; i < len(runes) && (runes[i] == '>' || runes[i] == '&' || runes[i] == ' '); i++ {
			}
			for ; i < len(runes) && runes[i] != ' '; i++ {
			}
		case r == '|' || r == ';' || r == '&':
			cut()
		case r == ' ':
			end()
		default:
			word.WriteRune(r)
			in = true
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote without its end")
	}
	cut()
	return list, nil
}

func TestSplit(t *testing.T) {
	t.Parallel()
	tests := map[string][]command{
		`qosctl jobs`:                            {{"qosctl", "jobs"}},
		`sudo A=1 qosctl drain n --reason "a b"`: {{"sudo", "A=1", "qosctl", "drain", "n", "--reason", "a b"}},
		`a 'x | y' | b -c && d; e # f`:           {{"a", "x | y"}, {"b", "-c"}, {"d"}, {"e"}},
		`a >file 2>&1 b`:                         {{"a", "b"}},
		`a "" b\ c`:                              {{"a", "", "b c"}},
		`echo $?`:                                {{"echo", "$?"}},
		`# nothing`:                              nil,
	}
	for line, want := range tests {
		got, err := split(line)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", line, err, diff)
		}
	}
	for _, line := range []string{`a $(b)`, "a `b`", `a <(b)`, `a "b`, `cat <<EOF`, `a \`} {
		if got, err := split(line); err == nil {
			t.Errorf("%s: %q", line, got)
		}
	}
}
