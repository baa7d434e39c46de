package contracttest

import (
	"encoding/json"
	"net/http"
	"strings"
)

// Vars are the values that Example puts for {task}, {deployment}, {agent}, {host} and {ip}.
func Vars() map[string]string {
	return map[string]string{
		"task":       "a.instance-9c1d5c4e-0000-11f0-8de9-0242ac120002._app.1",
		"deployment": "97c136bf-5a28-4821-9d94-480d9fbb01c8",
		"agent":      "2e9f2f5a-0d3a-4a57-9e5c-5d1c8f1f0a11-S0",
		"host":       "node1.example",
		"ip":         "192.0.2.7",
	}
}

// Example is an answer that fits the row, for a test server: the first status, the headers and a body.
func (r Row) Example() (status int, header http.Header, body []byte) {
	vars := Vars()
	header = http.Header{}
	for _, h := range r.Headers {
		header.Set(h.Name, expand(strings.ReplaceAll(h.Pattern, "*", "x"), vars))
	}
	switch r.Answer.Kind {
	case Text:
		body = []byte(expand(strings.ReplaceAll(r.Answer.Pattern, "*", ""), vars))
	case JSON:
		value := example(r.Answer.Value, vars)
		data, err := json.Marshal(value)
		if err != nil {
			panic(err) // it came from JSON
		}
		body = data
		header.Set("Content-Type", "application/json")
	}
	return r.Statuses[0], header, body
}

func example(want any, vars map[string]string) any {
	switch w := want.(type) {
	case map[string]any:
		if n, ok := w["<count>"].(float64); ok {
			return exampleArray(int(n), w["<first>"], vars)
		}
		out := map[string]any{}
		for name, value := range w {
			if value != "<absent>" {
				out[name] = example(value, vars)
			}
		}
		return out
	case []any:
		out := make([]any, 0, len(w))
		for _, v := range w {
			out = append(out, example(v, vars))
		}
		return out
	case string:
		return exampleText(expand(w, vars))
	}
	return want
}

func exampleArray(n int, first any, vars map[string]string) []any {
	out := make([]any, 0, n)
	for range n {
		if first == nil {
			out = append(out, map[string]any{})
			continue
		}
		out = append(out, example(first, vars))
	}
	return out
}

func exampleText(w string) any {
	switch w {
	case "<any>":
		return nil
	case "<number>":
		return 1.5
	case "<time>":
		return "2026-01-02T03:04:05.678Z"
	case "<uuid>":
		return "0f1e2d3c-4b5a-4678-9abc-def012345678"
	}
	if strings.HasPrefix(w, "<not ") {
		return "other"
	}
	return strings.ReplaceAll(w, "*", "x")
}
