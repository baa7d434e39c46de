package contracttest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

func (r *Row) parseAnswer(cell string) error {
	header := regexp.MustCompile("^header `([A-Za-z-]+): ([^`]*)`\\s*")
	for {
		m := header.FindStringSubmatch(cell)
		if m == nil {
			break
		}
		r.Headers = append(r.Headers, Header{Name: m[1], Pattern: m[2]})
		cell = cell[len(m[0]):]
	}
	switch {
	case cell == "" && len(r.Headers) > 0, cell == "any":
		r.Answer.Kind = Any
		return nil
	case cell == "empty":
		r.Answer.Kind = Empty
		return nil
	}
	rest, isText := strings.CutPrefix(cell, "text ")
	inner, opened := strings.CutPrefix(rest, "`")
	inner, closed := strings.CutSuffix(inner, "`")
	if !opened || !closed || strings.Contains(inner, "`") {
		return fmt.Errorf("answer %q can't be read", cell)
	}
	if isText {
		r.Answer = Answer{Kind: Text, Pattern: inner}
		return nil
	}
	r.Answer.Kind = JSON
	if err := json.Unmarshal([]byte(inner), &r.Answer.Value); err != nil {
		return fmt.Errorf("answer %q: %w", cell, err)
	}
	return nil
}

// Match says what of an answer doesn't fit the row; nil if it fits. vars are the values of {task} and the like.
func (r Row) Match(status int, header http.Header, body []byte, vars map[string]string) error {
	if !slices.Contains(r.Statuses, status) {
		return fmt.Errorf("status %d, not %v (body %.300q)", status, r.Statuses, body)
	}
	for _, h := range r.Headers {
		if got := header.Get(h.Name); !fits(expand(h.Pattern, vars), got) {
			return fmt.Errorf("header %s is %q, not %q", h.Name, got, h.Pattern)
		}
	}
	return r.MatchBody(body, vars)
}

// MatchBody compares a body, or the data of an event, alone.
func (r Row) MatchBody(body []byte, vars map[string]string) error {
	switch r.Answer.Kind {
	case Any:
		return nil
	case Empty:
		if len(bytes.TrimSpace(body)) != 0 {
			return fmt.Errorf("body is %.300q, not empty", body)
		}
		return nil
	case Text:
		if !fits(expand(r.Answer.Pattern, vars), string(body)) {
			return fmt.Errorf("body is %.300q, not %q", body, r.Answer.Pattern)
		}
		return nil
	}
	var got any
	if err := json.Unmarshal(body, &got); err != nil {
		return fmt.Errorf("body is no JSON (%w): %.300q", err, body)
	}
	return match("$", r.Answer.Value, got, vars)
}

// fits compares with a pattern in which * stands for any characters.
func fits(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	rest, ok := strings.CutPrefix(s, parts[0])
	if !ok {
		return false
	}
	for _, p := range parts[1 : len(parts)-1] {
		_, after, found := strings.Cut(rest, p)
		if !found {
			return false
		}
		rest = after
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}

func match(path string, want, got any, vars map[string]string) error {
	switch w := want.(type) {
	case string:
		return matchText(path, expand(w, vars), got)
	case map[string]any:
		if _, ok := w["<count>"]; ok {
			return matchCount(path, w, got, vars)
		}
		g, ok := got.(map[string]any)
		if !ok {
			return fmt.Errorf("%s is %s, not an object", path, brief(got))
		}
		for name, value := range w {
			have, there := g[name]
			switch {
			case value == "<absent>" && !there:
				continue
			case value == "<absent>":
				return fmt.Errorf("%s.%s is there: %s", path, name, brief(have))
			case !there:
				return fmt.Errorf("%s.%s is not there", path, name)
			}
			if err := match(path+"."+name, value, have, vars); err != nil {
				return err
			}
		}
		return nil
	case []any:
		g, ok := got.([]any)
		if !ok {
			return fmt.Errorf("%s is %s, not an array", path, brief(got))
		}
		return matchArray(path, w, g, vars)
	}
	if want != got {
		return fmt.Errorf("%s is %s, not %s", path, brief(got), brief(want))
	}
	return nil
}

func matchText(path, want string, got any) error {
	g, isText := got.(string)
	ok := false
	switch want {
	case "<any>":
		return nil
	case "<number>":
		_, ok = got.(float64)
	case "<time>":
		_, err := time.Parse(time.RFC3339Nano, g)
		ok = isText && err == nil
	case "<uuid>":
		ok = isText && regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(g)
	default:
		if not, is := strings.CutPrefix(want, "<not "); is {
			ok = isText && !fits(strings.TrimSuffix(not, ">"), g)
		} else {
			_, isNumber := got.(float64)
			ok = isText && fits(want, g) || want == "*" && isNumber
		}
	}
	if !ok {
		return fmt.Errorf("%s is %s, not %q", path, brief(got), want)
	}
	return nil
}

func matchCount(path string, want map[string]any, got any, vars map[string]string) error {
	g, ok := got.([]any)
	if !ok {
		return fmt.Errorf("%s is %s, not an array", path, brief(got))
	}
	if n := want["<count>"]; n != float64(len(g)) {
		return fmt.Errorf("%s has %d elements, not %v", path, len(g), n)
	}
	first, ok := want["<first>"]
	if !ok {
		return nil
	}
	return matchArray(path, []any{first}, g, vars)
}

// matchArray finds for each wanted element one of its own, trying all ways.
func matchArray(path string, want, got []any, vars map[string]string) error {
	if len(want) == 0 {
		if len(got) != 0 {
			return fmt.Errorf("%s has %d elements, not none", path, len(got))
		}
		return nil
	}
	owner := make([]int, len(got)) // of each element, the wanted one it is given to, from 1
	var give func(w int, tried []bool) bool
	give = func(w int, tried []bool) bool {
		for i := range got {
			if tried[i] || match(path, want[w], got[i], vars) != nil {
				continue
			}
			tried[i] = true
			if owner[i] == 0 || give(owner[i]-1, tried) {
				owner[i] = w + 1
				return true
			}
		}
		return false
	}
	for w := range want {
		if give(w, make([]bool, len(got))) {
			continue
		}
		if len(got) == 1 && len(want) == 1 {
			return match(path+"[0]", want[0], got[0], vars) // says what differs
		}
		return fmt.Errorf("%s: no element fits %s in %s", path, brief(want[w]), brief(got))
	}
	return nil
}

func brief(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	if len(b) > 400 {
		return string(b[:400]) + "…"
	}
	return string(b)
}
