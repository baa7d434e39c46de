package thesis

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/qos"
)

var update = flag.Bool("update", false, "write the golden file")

// parse reads a body as its route does; the route is the first part of the file's name.
func parse(route string, data []byte) (any, error) {
	switch "/" + route {
	case InitTask:
		return ParseTask(data)
	case UpdateTask:
		return ParseUpdate(data)
	case InitMarathonApp:
		return ParseBegin(data)
	}
	return ParseEnd(data)
}

// Each body as the launcher, its jobs and the thesis itself have it is understood, and answered as the supervisor did.
func TestBodiesAreUnderstood(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) != 8 {
		t.Fatalf("%d bodies, %v", len(files), err)
	}
	var b strings.Builder
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		route, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(f), ".json"), "-")
		got, err := parse(route, data)
		if err != nil {
			t.Errorf("%s: %v", f, err)
		}
		fmt.Fprintf(&b, "%s\n  %+v\n  %s", filepath.Base(f), got, Answer(data))
	}
	const golden = "testdata/understood.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("want - got +:\n%s", diff)
	}
}

// A number and the same as a string are one, and so are the two ways to write a UUID.
func TestWaysOfWritingMeanTheSame(t *testing.T) {
	t.Parallel()
	want := Task{
		ID: "7986712f-445b-4902-b0d6-b857d4812440", Name: "j", Framework: qos.Chronos, Duration: 400, Deviation: 0.2, Iterations: 4,
		At: time.Unix(1497572412, 0).UTC(),
	}
	for _, text := range []string{
		`{"uuid":"7986712f445b4902b0d6b857d4812440","name":"j","framework":"chronos","job_duration":400,"deadline":1497572412,"desv_deadline":0.2,"iterations":4}`,
		`{"uuid":"7986712F-445B-4902-B0D6-B857D4812440","name":"j","framework":"chronos","job_duration":"400.0","deadline":"1497572412","desv_deadline":" 0.2 ","iterations":"4","more":{"x":[]}}`,
	} {
		got, err := ParseTask([]byte(text))
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", text, err, diff)
		}
	}
}

func TestBodiesAreRefused(t *testing.T) {
	t.Parallel()
	const good = `"uuid":"7986712f445b4902b0d6b857d4812440","name":"j","framework":"chronos","job_duration":400,"deadline":1800,"desv_deadline":0.2,"iterations":4`
	for name, tt := range map[string]struct{ route, body, want string }{
		"nothing":                {"initTask", ``, "not a JSON object"},
		"a list":                 {"initTask", `[]`, "not a JSON object"},
		"null":                   {"initTask", `null`, "uuid: is missing"},
		"no key at all":          {"initTask", `{}`, "deadline: is missing"},
		"something behind it":    {"initTask", `{` + good + `}{}`, "not a JSON object"},
		"another framework":      {"initTask", `{` + strings.Replace(good, "chronos", "aurora", 1) + `}`, `"aurora" is neither`},
		"no iterations":          {"initTask", `{` + strings.Replace(good, `,"iterations":4`, "", 1) + `}`, "iterations: is missing"},
		"half an iteration":      {"initTask", `{` + strings.Replace(good, `"iterations":4`, `"iterations":1.5`, 1) + `}`, "iterations: 1.5"},
		"a name with a blank":    {"initTask", `{` + strings.Replace(good, `"j"`, `"a b"`, 1) + `}`, "name:"},
		"not a UUID":             {"updateTask", `{"uuid":"../../etc","started_at":1,"finished_at":2}`, "32 hexadecimal"},
		"dashes elsewhere":       {"updateTask", `{"uuid":"7986712f4-45b-4902-b0d6-b857d4812440","started_at":1,"finished_at":2}`, "dashes"},
		"a UUID that is no text": {"updateTask", `{"uuid":7,"started_at":1,"finished_at":2}`, "uuid"},
		"not a number":           {"updateTask", `{"uuid":"7986712f445b4902b0d6b857d4812440","started_at":"soon","finished_at":2}`, `"soon" is not a number`},
		"no number at all":       {"updateTask", `{"uuid":"7986712f445b4902b0d6b857d4812440","started_at":true,"finished_at":2}`, "not a number"},
		"infinite":               {"updateTask", `{"uuid":"7986712f445b4902b0d6b857d4812440","started_at":"1e999","finished_at":2}`, "not a number"},
		"ended before it began":  {"updateTask", `{"uuid":"7986712f445b4902b0d6b857d4812440","started_at":3,"finished_at":2}`, "before started_at"},
		"before time began":      {"initMarathonApp", `{"uuid":"7986712f445b4902b0d6b857d4812440","started_at":-1}`, "no time"},
		"no start":               {"initMarathonApp", `{"uuid":"7986712f445b4902b0d6b857d4812440"}`, "started_at: is missing"},
		"no end":                 {"endMarathonApp", `{"uuid":"7986712f445b4902b0d6b857d4812440","started_at":1}`, "finished_at: is missing"},
		"too large":              {"endMarathonApp", `{"x":"` + strings.Repeat("x", MaxBody) + `"}`, "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := parse(tt.route, []byte(tt.body)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%+v, %v; want an error with %q", got, err, tt.want)
			}
		})
	}
}

// What the launcher submits has the UUID where we look for it; another job has not.
func TestLaunched(t *testing.T) {
	t.Parallel()
	const id, plain = "7986712f-445b-4902-b0d6-b857d4812440", "7986712f445b4902b0d6b857d4812440"
	curl := `startedAt=$(date +%s); /linpack 6000; /usr/bin/curl -X POST http://s:30000/updateTask -d '{"name": "j", "uuid": "` + plain + `"}'`
	for _, tt := range []struct {
		id, command string
		env         map[string]string
		want        bool
	}{
		{id, curl, nil, true},
		{id, "exec shell_trap $MY_UUID", map[string]string{"MY_UUID": plain}, true},
		{id, "exec shell_trap", map[string]string{"X": id}, true},
		{id, "sleep 5", map[string]string{"MY_UUID": strings.Repeat("0", 32)}, false},
		{id, "sleep 5", nil, false},
		{"", curl, nil, false},
	} {
		if got := Launched(tt.id, tt.command, tt.env); got != tt.want {
			t.Errorf("%q %v: %t", tt.command, tt.env, got)
		}
	}
	if Plain(id) != plain || Dashed(plain) != id {
		t.Error(Plain(id), Dashed(plain))
	}
}

// FuzzBodies: whatever is posted, there is no panic, and what is understood is within its bounds.
func FuzzBodies(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		answer := Answer(data)
		if len(answer) > len(data)+20 || !strings.HasPrefix(answer, "JSON Message: ") {
			t.Errorf("answer %q", answer)
		}
		uuid := func(id string) {
			if len(id) != 36 || Dashed(Plain(id)) != id {
				t.Errorf("id %q", id)
			}
		}
		if task, err := ParseTask(data); err == nil {
			uuid(task.ID)
			if task.Name == "" || len(task.Name) > maxName+1 || (task.Framework == qos.Chronos) != (task.Iterations > 0) || !json.Valid(data) {
				t.Errorf("%+v", task)
			}
			if !task.At.IsZero() && (task.At.Year() < 2001 || task.At.Year() > 9999) {
				t.Errorf("deadline %s", task.At)
			}
		}
		if u, err := ParseUpdate(data); err == nil {
			uuid(u.ID)
			if u.Finished.Before(u.Started) || len(u.Host) > maxName || u.Finished.Year() > 9999 {
				t.Errorf("%+v", u)
			}
		}
		for _, p := range []func([]byte) (Moment, error){ParseBegin, ParseEnd} {
			if m, err := p(data); err == nil {
				uuid(m.ID)
				if m.At.Year() < 1970 || m.At.Year() > 9999 {
					t.Errorf("%+v", m)
				}
			}
		}
	})
}
