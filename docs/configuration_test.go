package docs_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"

	"qosctl/agent"
)

// key is one of the configuration's.
type key struct {
	path, kind, value, unit, when, meaning string
}

// chapter is a block of the configuration: its keys and what is said of it as a whole.
type chapter struct {
	name, text string
	keys       []key
}

const (
	configurationBegin = "<!-- written by go test ./docs -run TestConfiguration -update, of qosctl.yaml and the agent's own structures -->"
	configurationEnd   = "<!-- end -->"
)

// docs/configuration.md has every key of the agent's structures and no other, with its default, and what docs/qosctl.yaml says of it: a key without
// words of its own there is an error.
func TestConfiguration(t *testing.T) {
	t.Parallel()
	if c, err := agent.Load("qosctl.yaml", nil); err != nil {
		t.Fatal(err)
	} else if diff := cmp.Diff(agent.Default(), c, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("qosctl.yaml is not the default:\n%s", diff)
	}
	text, err := os.ReadFile("qosctl.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	chapters, err := describe(doc.Content[0])
	if err != nil {
		t.Fatal(err)
	}
	const file = "configuration.md"
	was, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(was), configurationBegin+"\n")
	_, after, ends := strings.Cut(rest, configurationEnd)
	if !ok || !ends {
		t.Fatalf("%s has no part between %s and %s", file, configurationBegin, configurationEnd)
	}
	is := before + configurationBegin + "\n" + render(chapters) + configurationEnd + after
	if *update {
		if err := os.WriteFile(file, []byte(is), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(strings.Split(string(was), "\n"), strings.Split(is, "\n")); diff != "" {
		t.Errorf("%s is not what qosctl.yaml and the agent say (go test ./docs -run TestConfiguration -update): page - code +\n%s", file, diff)
	}
}

// describe walks the documented configuration and the structure together.
func describe(doc *yaml.Node) ([]chapter, error) {
	all := []chapter{{name: "The top level"}}
	var errs []error
	for f := range reflect.TypeFor[agent.Config]().Fields() {
		name := f.Tag.Get("mapstructure")
		k, v := find(doc, name)
		switch {
		case k == nil:
			errs = append(errs, fmt.Errorf("qosctl.yaml has no key %s", name))
		case f.Type.Kind() == reflect.Struct:
			c := chapter{name: name, text: prose(k.HeadComment)}
			errs = append(errs, c.add(name+".", f.Type, v))
			all = append(all, c)
		case f.Type.Kind() == reflect.Map:
			c := chapter{name: name, text: prose(k.HeadComment)}
			errs = append(errs, c.named(name, f.Type.Elem(), k.HeadComment))
			all = append(all, c)
		default:
			one, err := keyOf(name, f.Type, k, v)
			all[0].keys, errs = append(all[0].keys, one), append(errs, err)
		}
	}
	return all, errors.Join(errs...)
}

// add takes a block's keys.
func (c *chapter) add(prefix string, t reflect.Type, block *yaml.Node) error {
	var errs []error
	for f := range t.Fields() {
		name := f.Tag.Get("mapstructure")
		k, v := find(block, name)
		if k == nil {
			errs = append(errs, fmt.Errorf("qosctl.yaml has no key %s%s", prefix, name))
			continue
		}
		one, err := keyOf(prefix+name, f.Type, k, v)
		c.keys = append(c.keys, one)
		errs = append(errs, err)
		if f.Type.Kind() == reflect.Map && f.Type.Elem().Kind() == reflect.Struct {
			errs = append(errs, c.named(prefix+name, f.Type.Elem(), k.HeadComment))
		}
	}
	return errors.Join(errs...)
}

// named takes the keys of blocks whose names are the user's own: the example in the comment has each of them, with a comment of its own.
func (c *chapter) named(path string, t reflect.Type, comment string) error {
	var example yaml.Node
	if err := yaml.Unmarshal([]byte(indented(comment)), &example); err != nil || len(example.Content) == 0 {
		return fmt.Errorf("the example of %s in qosctl.yaml: %w", path, err)
	}
	blocks := example.Content[0].Content[1]
	defaults := map[string]string{}
	if t == reflect.TypeFor[agent.FrameworkConfig]() {
		d := reflect.ValueOf(agent.DefaultFramework())
		for i := range d.NumField() {
			if v, ok := reflect.TypeAssert[time.Duration](d.Field(i)); ok {
				defaults[t.Field(i).Tag.Get("mapstructure")] = v.String()
			}
		}
	}
	var errs []error
	for f := range t.Fields() {
		name := f.Tag.Get("mapstructure")
		one := key{path: path + ".NAME." + name, value: defaults[name]}
		one.kind, one.unit = kindOf(name, f.Type)
		for i := 1; i < len(blocks.Content); i += 2 {
			if k, v := find(blocks.Content[i], name); k != nil && k.LineComment+v.LineComment != "" {
				one.meaning, one.when = meaningOf(k.LineComment + v.LineComment)
			}
		}
		if one.meaning == "" {
			errs = append(errs, fmt.Errorf("qosctl.yaml says nothing of %s", one.path))
		}
		c.keys = append(c.keys, one)
	}
	return errors.Join(errs...)
}

func keyOf(path string, t reflect.Type, k, v *yaml.Node) (key, error) {
	one := key{path: path, value: literal(v)}
	one.kind, one.unit = kindOf(path, t)
	one.meaning, one.when = meaningOf(k.HeadComment)
	if one.meaning == "" {
		return one, fmt.Errorf("qosctl.yaml says nothing of %s: a comment above it, for it alone", path)
	}
	return one, nil
}

// kindOf is a key's type and unit.
func kindOf(path string, t reflect.Type) (kind, unit string) {
	name := path[strings.LastIndex(path, ".")+1:]
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "time span", "ms, s, m, h"
	case name == "rate_mb":
		return "integer", "MB/s"
	case strings.HasSuffix(name, "_mb"):
		return "integer", "MiB"
	case t.Kind() == reflect.Int:
		return "integer", ""
	case t.Kind() == reflect.Float64:
		return "number", "CPUs"
	case t.Kind() == reflect.Bool:
		return "boolean", ""
	case t.Kind() == reflect.Slice:
		return "list of texts", ""
	case t.Kind() == reflect.Map:
		return "block", ""
	}
	return "text", ""
}

var (
	againText = regexp.MustCompile(`(?i)the file is read again ([^.;]*)`)
	listItem  = regexp.MustCompile(`^ {2,}`)
)

// meaningOf is what a comment says, and when a change of the key comes into force.
func meaningOf(comment string) (meaning, when string) {
	meaning, when = prose(comment), "restart"
	if m := againText.FindStringSubmatch(meaning); m != nil {
		when = "restart; the file: " + m[1]
	}
	return meaning, when
}

// prose is a comment without its example.
func prose(comment string) string {
	var said []string
	for l := range strings.Lines(comment) {
		l = strings.TrimPrefix(strings.TrimRight(l, "\n"), "#")
		if !listItem.MatchString(l) {
			said = append(said, strings.TrimSpace(l))
		}
	}
	return strings.TrimSpace(strings.Join(said, " "))
}

// indented is a comment's example.
func indented(comment string) string {
	var b strings.Builder
	for l := range strings.Lines(comment) {
		if l = strings.TrimPrefix(l, "#"); listItem.MatchString(l) {
			b.WriteString(l)
		}
	}
	return b.String()
}

func find(mapping *yaml.Node, name string) (k, v *yaml.Node) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return mapping.Content[i], mapping.Content[i+1]
		}
	}
	return nil, nil
}

// literal is a value as the file writes it.
func literal(v *yaml.Node) string {
	switch {
	case v.Kind == yaml.ScalarNode && v.Value == "":
		return `""`
	case v.Kind == yaml.ScalarNode:
		return v.Value
	case v.Kind == yaml.SequenceNode:
		return "[]"
	}
	return "{}"
}

func render(chapters []chapter) string {
	var b bytes.Buffer
	cell := func(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
	for _, c := range chapters {
		fmt.Fprintf(&b, "\n## %s\n\n", c.name)
		if c.text != "" {
			fmt.Fprintf(&b, "%s\n\n", c.text)
		}
		fmt.Fprint(&b, "| key | type | default | unit | in force after | meaning |\n|---|---|---|---|---|---|\n")
		for _, k := range c.keys {
			value := ""
			if k.value != "" {
				value = "`" + k.value + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", k.path, k.kind, value, k.unit, cell(k.when), cell(k.meaning))
		}
	}
	b.WriteString("\n")
	return b.String()
}

// Each key that a page names in `quotes`, as control.period, is there.
func TestKeysThatPagesName(t *testing.T) {
	t.Parallel()
	keys := agent.Keys()
	var blocks []string
	for k := range keys {
		if block, _, ok := strings.Cut(k, "."); ok && !slices.Contains(blocks, block) {
			blocks = append(blocks, block)
		}
	}
	slices.Sort(blocks)
	named := regexp.MustCompile(`^((?:` + strings.Join(blocks, "|") + `)\.[a-z_]+)(?:[:= ].*)?$`)
	others := []string{"access.tokens", "engine.images", "checkpoint.every"} // blocks of the file alone; a key of the simulator's scenarios
	seen := 0
	for _, p := range pages(t) {
		if slices.Contains([]string{"docs/configuration.md", "docs/doctor.md", "CHANGELOG.md"}, p.name) { // checked by itself; names of findings; of former keys
			continue
		}
		p.spans(t, func(line int, text string) {
			m := named.FindStringSubmatch(text)
			if m == nil || strings.HasSuffix(m[1], ".go") || strings.HasSuffix(m[1], ".db") || strings.HasSuffix(m[1], ".md") {
				return
			}
			if seen++; keys[m[1]] == nil && !slices.Contains(others, m[1]) {
				t.Errorf("%s:%d: %s is no key", p.name, line, m[1])
			}
		})
	}
	if seen < 30 {
		t.Errorf("only %d keys found", seen)
	}
}
