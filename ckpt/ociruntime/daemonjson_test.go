package ociruntime

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestRegister(t *testing.T) {
	t.Parallel()
	const indented = "{\n  // 0\n}" // not JSON: Docker takes no comments either
	for name, c := range map[string]struct {
		old, want string
	}{
		"no file":    {"", "{\n    \"runtimes\": {\n        \"qosctl\": {\n            \"path\": \"/p\"\n        }\n    }\n}\n"},
		"empty":      {"{}\n", "{\n    \"runtimes\": {\n        \"qosctl\": {\n            \"path\": \"/p\"\n        }\n    }\n}\n"},
		"one line":   {`{"z": 1, "a": [1,2]}`, `{"z": 1, "a": [1,2], "runtimes":{"qosctl":{"path":"/p"}}}`},
		"two blanks": {"{\n  \"a\": [1,  2]\n}\n", "{\n  \"a\": [1,  2],\n  \"runtimes\": {\n    \"qosctl\": {\n      \"path\": \"/p\"\n    }\n  }\n}\n"},
		"others stay": {
			"{\n\t\"runtimes\": {\n\t\t\"kata\": { \"path\": \"/k\" }\n\t},\n\t\"z\": 1.50\n}",
			"{\n\t\"runtimes\": {\n\t\t\"kata\": { \"path\": \"/k\" },\n\t\t\"qosctl\": {\n\t\t\t\"path\": \"/p\"\n\t\t}\n\t},\n\t\"z\": 1.50\n}",
		},
	} {
		got, changed, err := register([]byte(c.old), "/p")
		if err != nil || !changed || string(got) != c.want {
			t.Errorf("%s: %s, %v, %v", name, got, changed, err)
		}
		if again, changed, err := register(got, "/p"); err != nil || changed || string(again) != string(got) {
			t.Errorf("%s, again: %s, %v, %v", name, again, changed, err)
		}
		back, changed, err := unregister(got)
		if was := strings.TrimSpace(c.old); err != nil || !changed || was != "" && strings.TrimSpace(string(back)) != was {
			t.Errorf("%s, taken out: %q, want %q (%v, %v)", name, back, c.old, changed, err)
		}
	}
	got, changed, err := register([]byte(`{"runtimes":{"qosctl":{"path":"/old","runtimeArgs":[]}}}`), "/p")
	if err != nil || !changed || string(got) != `{"runtimes":{"qosctl":{"path":"/p"}}}` {
		t.Errorf("another path: %s, %v, %v", got, changed, err)
	}
	for text, want := range map[string]string{
		"{\n\"a\": 1,\n}": "line 3, column 1", "[]": "no JSON object", `{"runtimes": 3}`: "runtimes", "{} {}": "something follows", indented: "line 2, column 3",
		`{"a":`: "line 1",
	} {
		if got, _, err := register([]byte(text), "/p"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		`{"runtimes":{"qosctl":{"path":"/p"}},"debug":true}`:            `{"debug":true}`,
		`{"runtimes":{"qosctl":{"path":"/p"}, "k":{}},"debug":true}`:    `{"runtimes":{"k":{}},"debug":true}`,
		`{"default-runtime":"qosctl","runtimes":{"qosctl":{"path":1}}}`: "",
	} {
		if got, _, err := unregister([]byte(text)); string(got) != want || (err != nil) != (want == "") {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
}

// FuzzRegister edits what may be a configuration: what comes out is one, has the runtime, and goes back to what it was.
func FuzzRegister(f *testing.F) {
	for _, s := range []string{"", "{}", `{"a":1}`, "{\n \"runtimes\" : {\"x\":{}} , \"b\":\"\\u00e9\"}", `{"a":1,"a":{"b":[]}}`, `{"\"": "{", "n": -1.5e3 }`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, old []byte) {
		got, changed, err := register(old, "/p")
		if err != nil {
			return
		}
		var conf struct {
			Runtimes map[string]struct{ Path string } `json:"runtimes"`
		}
		if !json.Valid(got) {
			t.Fatalf("%q becomes %q", old, got)
		}
		if err := json.Unmarshal(got, &conf); err == nil && conf.Runtimes["qosctl"].Path != "/p" {
			t.Errorf("%q becomes %q", old, got)
		}
		had, err := parseBothHas(old)
		back, _, uerr := unregister(got)
		if changed && err == nil && !had && uerr == nil && len(strings.TrimSpace(string(old))) > 0 && !json.Valid(back) {
			t.Errorf("%q goes back to %q", old, back)
		}
	})
}

func parseBothHas(text []byte) (bool, error) {
	_, runtimes, err := parseBoth(text)
	return err == nil && runtimes.get(registered) != nil, err
}
