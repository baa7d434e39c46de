package monasca

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"qosctl/monasca/monascatest"
)

var noon = time.Date(2026, 11, 28, 12, 0, 0, 123_456_789, time.UTC)

func TestAMeasurementAsMonascaTakesIt(t *testing.T) {
	t.Parallel()
	m := Measurement{Name: "current_cpu", Dimensions: map[string]string{"uuid": "u", "image": ""}, At: noon, Value: 0.25}
	got, err := m.encode(noon)
	if err != nil {
		t.Fatal(err)
	}
	// Seconds by mistake would be taken too, and stored in 1970.
	if want := `{"name":"current_cpu","dimensions":{"uuid":"u"},"timestamp":1795867200123,"value":0.25}`; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestMeasurementsThatAreRefusedHere(t *testing.T) {
	t.Parallel()
	ok := Measurement{Name: "a.b-c_d:e/f", At: noon, Value: 1}
	for name, change := range map[string]func(*Measurement){
		"no name":                    func(m *Measurement) { m.Name = "" },
		"a long name":                func(m *Measurement) { m.Name = strings.Repeat("ñ", 256) },
		"a blank in the name":        func(m *Measurement) { m.Name = "a b" },
		"a parenthesis in the name":  func(m *Measurement) { m.Name = "a(b" },
		"a broken name":              func(m *Measurement) { m.Name = "a\xff" },
		"no number":                  func(m *Measurement) { m.Value = math.NaN() },
		"infinity":                   func(m *Measurement) { m.Value = math.Inf(-1) },
		"a dimension without a name": func(m *Measurement) { m.Dimensions = map[string]string{"": "v"} },
		"a dimension with a long name": func(m *Measurement) {
			m.Dimensions = map[string]string{strings.Repeat("k", 256): "v"}
		},
		"a dimension of Monasca's own":   func(m *Measurement) { m.Dimensions = map[string]string{"_k": "v"} },
		"an equals sign in a dimension":  func(m *Measurement) { m.Dimensions = map[string]string{"k=": "v"} },
		"a parenthesis in a dimension":   func(m *Measurement) { m.Dimensions = map[string]string{"k(": "v"} },
		"a vertical bar in a dimension":  func(m *Measurement) { m.Dimensions = map[string]string{"k|l": "v"} },
		"a dimension of a broken string": func(m *Measurement) { m.Dimensions = map[string]string{"k\xff": "v"} },
	} {
		m := ok
		change(&m)
		if line, err := m.encode(noon); err == nil {
			t.Errorf("%s is taken: %s", name, line)
		}
	}
	for name, change := range map[string]func(*Measurement){
		"nothing":                   func(*Measurement) {},
		"a name of 255 characters":  func(m *Measurement) { m.Name = strings.Repeat("ñ", 255) },
		"the greatest number":       func(m *Measurement) { m.Value = math.MaxFloat64 },
		"a key of 255 characters":   func(m *Measurement) { m.Dimensions = map[string]string{strings.Repeat("ñ", 255): "v"} },
		"a value of 300 characters": func(m *Measurement) { m.Dimensions = map[string]string{"k": strings.Repeat("ñ", 300)} },
		"an empty value":            func(m *Measurement) { m.Dimensions = map[string]string{"k": ""} },
	} {
		m := ok
		change(&m)
		line, err := m.encode(noon)
		if err != nil {
			t.Errorf("%s is refused: %v", name, err)
		} else if _, err := monascatest.Parse(line, true, noon); err != nil {
			t.Errorf("%s is refused by Monasca: %v: %s", name, err, line)
		}
	}
}

func TestValuesOfDimensionsAreMadeLegal(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"/a/b-c_d.e:f":    "/a/b-c_d.e:f",
		"a=b;c&d,e":       "a_b_c_d_e",
		`<{"\}>`:          "______",
		"tab\tline\n":     "tab_line_",
		"broken\xff\xfe":  "broken__",
		"ñandú (1) | 2 %": "ñandú (1) | 2 %",
		"":                "",
	} {
		if got := legal(in); got != want {
			t.Errorf("%q is made %q, want %q", in, got, want)
		}
	}
	if got := legal(strings.Repeat("ñ", 300)); got != strings.Repeat("ñ", 255) {
		t.Errorf("a long value is cut to %d bytes", len(got))
	}
}

func TestATimeInTheFutureIsNow(t *testing.T) {
	t.Parallel()
	line, err := Measurement{Name: "a", At: noon.Add(time.Hour), Value: 1}.encode(noon)
	if err != nil {
		t.Fatal(err)
	}
	points, err := monascatest.Parse(line, true, noon)
	if err != nil || !points[0].At.Equal(noon.Truncate(time.Millisecond)) {
		t.Errorf("got %v, %v", points, err)
	}
}

// Whatever is measured is either refused here, or taken by both of Monasca's APIs.
func TestMonascaTakesWhatPassesOurCheck(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z_.<>={},"\\;&() |/-]{0,12}`), rapid.Just(strings.Repeat("ñ", 256)))
		m := Measurement{
			Name:       text.Draw(t, "name"),
			Dimensions: rapid.MapOfN(text, text, 0, 4).Draw(t, "dimensions"),
			Value:      rapid.Float64().Draw(t, "value"),
			At:         noon.Add(time.Duration(rapid.Int64Range(-1e15, 1e15).Draw(t, "at"))),
		}
		line, err := m.encode(noon)
		if err != nil {
			return
		}
		points, err := monascatest.Parse(line, true, noon)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if p := points[0]; p.Name != m.Name || p.Value != m.Value {
			t.Fatalf("sent %+v, got %+v", m, p)
		}
	})
}

func FuzzEncode(f *testing.F) {
	f.Add("current_cpu", "jobname", "/a/b", 1.5)
	f.Add("a b", "_k", "x=y\n", math.Inf(1))
	f.Fuzz(func(t *testing.T, name, key, value string, v float64) {
		line, err := Measurement{Name: name, Dimensions: map[string]string{key: value}, At: noon, Value: v}.encode(noon)
		if err != nil {
			return
		}
		if strings.ContainsAny(string(line), "\n\r") || !json.Valid(line) {
			t.Fatalf("not one line of JSON: %q", line)
		}
		if _, err := monascatest.Parse(line, true, noon); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	})
}

// The fake is as strict as Monasca was seen to be.
func TestTheFakeRefusesWhatMonascaDoes(t *testing.T) {
	t.Parallel()
	with := func(fields string) string { return `{"name":"a","timestamp":1795867200123,"value":1` + fields + `}` }
	long := strings.Repeat("k", 256)
	type row struct {
		body   string
		taken  bool
		strict bool // the Java API's verdict on what the other one takes
	}
	tests := map[string]row{
		"an object":               {with(""), true, true},
		"an array":                {"[" + with("") + "," + with("") + "]", true, true},
		"an empty array":          {"[]", true, true},
		"unknown fields":          {with(`,"x":1`), true, true},
		"one bad of two":          {"[" + with("") + `,{"name":"a"}]`, false, false},
		"a number as text":        {`{"name":"a","timestamp":1795867200123,"value":"1"}`, false, false},
		"no value":                {`{"name":"a","timestamp":1795867200123}`, false, false},
		"null for a value":        {`{"name":"a","timestamp":1795867200123,"value":null}`, false, false},
		"a value out of range":    {`{"name":"a","timestamp":1795867200123,"value":1e400}`, false, false},
		"true for a value":        {`{"name":"a","timestamp":1795867200123,"value":true}`, true, true},
		"no time":                 {`{"name":"a","value":1}`, false, false},
		"a time as text":          {`{"name":"a","timestamp":"1","value":1}`, false, false},
		"seconds":                 {`{"name":"a","timestamp":1795867200,"value":1}`, true, false},
		"a fraction of a ms":      {`{"name":"a","timestamp":1795867200123.5,"value":1}`, true, false},
		"15 days ago":             {`{"name":"a","timestamp":1794571200000,"value":1}`, true, false},
		"3 minutes ahead":         {`{"name":"a","timestamp":1795867380124,"value":1}`, true, false},
		"a name with a blank":     {`{"name":"a b","timestamp":1795867200123,"value":1}`, false, false},
		"null for a name":         {`{"name":null,"timestamp":1795867200123,"value":1}`, false, false},
		"null for dimensions":     {with(`,"dimensions":null`), false, false},
		"a list of dimensions":    {with(`,"dimensions":[]`), false, false},
		"a number in dimensions":  {with(`,"dimensions":{"k":1}`), false, false},
		"null in dimensions":      {with(`,"dimensions":{"k":null}`), false, false},
		"an empty value":          {with(`,"dimensions":{"k":""}`), false, false},
		"an empty key":            {with(`,"dimensions":{"":"v"}`), false, false},
		"a long key":              {with(`,"dimensions":{"` + long + `":"v"}`), false, false},
		"a long value":            {with(`,"dimensions":{"k":"` + long + `"}`), false, false},
		"a key of its own":        {with(`,"dimensions":{"_k":"v"}`), false, false},
		"a semicolon in a value":  {with(`,"dimensions":{"k":"a;b"}`), false, false},
		"null for value_meta":     {with(`,"value_meta":null`), true, true},
		"value_meta":              {with(`,"value_meta":{"k":"` + strings.Repeat("v", 2039) + `"}`), true, true},
		"long value_meta":         {with(`,"value_meta":{"k":"` + strings.Repeat("v", 2040) + `"}`), false, false},
		"an empty key there":      {with(`,"value_meta":{"":"v"}`), false, false},
		"no JSON":                 {"{", false, false},
		"a parenthesis in a name": {`{"name":"a(b","timestamp":1795867200123,"value":1}`, false, false},
	}
	for name, tt := range tests {
		_, err := monascatest.Parse([]byte(tt.body), false, noon)
		_, strict := monascatest.Parse([]byte(tt.body), true, noon)
		if diff := cmp.Diff([]bool{tt.taken, tt.strict}, []bool{err == nil, strict == nil}); diff != "" {
			t.Errorf("%s: %v, strictly %v", name, err, strict)
		}
	}
}
