package marathon

import (
	"net/http"
	"slices"
	"strings"
)

// parseSelector reads a label selector: key, key==value, key!=value, key in (a,b), key notin (a,b), joined by commas.
func parseSelector(text string) (func(map[string]string) bool, error) {
	var tests []func(map[string]string) bool
	for rest := strings.TrimSpace(text); rest != ""; {
		end := strings.IndexByte(rest, ',')
		if open := strings.IndexByte(rest, '('); open >= 0 && end > open {
			closing := strings.IndexByte(rest, ')')
			if closing < open {
				return nil, failure(http.StatusUnprocessableEntity, "Parse error: %s", text)
			}
			end = closing + strings.IndexByte(rest[closing:]+",", ',')
		}
		part := rest
		if end >= 0 && end < len(rest) {
			part, rest = rest[:end], rest[end+1:]
		} else {
			rest = ""
		}
		t, ok := selectOne(strings.TrimSpace(part))
		if !ok {
			return nil, failure(http.StatusUnprocessableEntity, "Parse error: %s", text)
		}
		tests = append(tests, t)
	}
	return func(labels map[string]string) bool {
		return !slices.ContainsFunc(tests, func(t func(map[string]string) bool) bool { return !t(labels) })
	}, nil
}

func selectOne(part string) (func(map[string]string) bool, bool) {
	set := func(s string) []string {
		vs := strings.Split(strings.Trim(strings.TrimSpace(s), "()"), ",")
		for i := range vs {
			vs[i] = strings.TrimSpace(vs[i])
		}
		return vs
	}
	for _, op := range []string{"==", "!=", " notin ", " in "} {
		k, v, ok := strings.Cut(part, op)
		if !ok {
			continue
		}
		k = strings.TrimSpace(k)
		if v = strings.TrimSpace(v); strings.HasSuffix(op, " ") && (!strings.HasPrefix(v, "(") || !strings.HasSuffix(v, ")")) {
			return nil, false
		}
		values, negate := set(v), op == "!=" || op == " notin "
		return func(l map[string]string) bool {
			got, has := l[k]
			return has && slices.Contains(values, got) != negate
		}, k != ""
	}
	return func(l map[string]string) bool { _, ok := l[part]; return ok }, part != "" && !strings.ContainsAny(part, " ()=!")
}
