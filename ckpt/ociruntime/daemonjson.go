package ociruntime

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// register adds the runtime to a configuration. All else stays as it was written, to the byte.
func register(old []byte, path string) (text []byte, changed bool, err error) {
	top, runtimes, err := parseBoth(old)
	if err != nil {
		return nil, false, err
	}
	var has struct {
		Path string `json:"path"`
	}
	if json.Unmarshal(runtimes.get(registered), &has) == nil && has.Path == path {
		return old, false, nil
	}
	unit := top.indent()
	if unit == "" && len(top.members) == 0 {
		unit = "    "
	}
	deep := func(depth int) string { return strings.Repeat(unit, depth) }
	ours, err := json.Marshal(map[string]string{"path": path})
	if err == nil && unit != "" {
		ours, err = json.MarshalIndent(map[string]string{"path": path}, deep(2), unit)
	}
	if err != nil {
		return nil, false, fmt.Errorf("encode: %w", err)
	}
	newline := func(depth int) string {
		if unit == "" {
			return ""
		}
		return "\n" + deep(depth)
	}
	runtimes.set(registered, ours, newline(2), newline(1))
	top.set("runtimes", runtimes.text, newline(1), newline(0))
	if len(old) == 0 {
		top.text = append(top.text, '\n')
	}
	return top.text, true, nil
}

// unregister takes the runtime out.
func unregister(old []byte) (text []byte, changed bool, err error) {
	top, runtimes, err := parseBoth(old)
	if err != nil {
		return nil, false, err
	}
	if runtimes.get(registered) == nil {
		return old, false, nil
	}
	var standard string
	if err := json.Unmarshal(top.get("default-runtime"), &standard); err == nil && standard == registered {
		return nil, false, errors.New("it is the default-runtime: Docker would not start without it; name another one first")
	}
	runtimes.remove(registered)
	if left, err := parseObject(runtimes.text); err == nil && len(left.members) == 0 {
		top.remove("runtimes")
	} else {
		top.set("runtimes", runtimes.text, "", "")
	}
	return top.text, true, nil
}

// parseBoth reads a configuration, and the runtimes in it.
func parseBoth(text []byte) (top, runtimes *object, err error) {
	if top, err = parseObject(text); err != nil {
		return nil, nil, err
	}
	if runtimes, err = parseObject(top.get("runtimes")); err != nil {
		return nil, nil, fmt.Errorf("runtimes: %w", err)
	}
	return top, runtimes, nil
}

// object is the text of a JSON object that is edited in place. After an edit the members are no longer where they say.
type object struct {
	text        []byte
	open, close int // of its braces
	members     []member
}

// member is a pair: the name begins at from, the value stands at start to end.
type member struct {
	name             string
	from, start, end int
}

// parseObject reads an object; nothing at all is an empty one.
func parseObject(b []byte) (*object, error) {
	if len(bytes.TrimSpace(b)) == 0 {
		b = []byte("{}")
	}
	o := &object{text: slices.Clone(b)}
	d := json.NewDecoder(bytes.NewReader(b))
	err := o.read(d)
	if err == nil {
		return o, nil
	}
	at := d.InputOffset() + 1 // up to and with the byte that is minded
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = max(at, syntax.Offset)
	}
	before := b[:min(int(at), len(b))]
	line, column := 1+bytes.Count(before, []byte("\n")), len(before)-bytes.LastIndexByte(before, '\n')-1
	return nil, fmt.Errorf("line %d, column %d: %w; mend it first, nothing was changed", line, max(1, column), err)
}

func (o *object) read(d *json.Decoder) error {
	t, err := d.Token()
	if err == nil && t != json.Delim('{') {
		err = errors.New("it is no JSON object")
	}
	if err != nil {
		return err
	}
	o.open = int(d.InputOffset()) - 1
	for last := o.open + 1; d.More(); last = int(d.InputOffset()) {
		key, err := d.Token()
		if err != nil {
			return err
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return err
		}
		m := member{name: fmt.Sprint(key), from: last + bytes.IndexByte(o.text[last:], '"'), end: int(d.InputOffset())}
		m.start = m.end - len(v)
		if m.start < m.from || !bytes.Equal(o.text[m.start:m.end], v) {
			return fmt.Errorf("the value of %q can't be found again", m.name)
		}
		o.members = append(o.members, m)
	}
	if _, err := d.Token(); err != nil {
		return err
	}
	o.close = int(d.InputOffset()) - 1
	if _, more := d.Token(); !errors.Is(more, io.EOF) {
		return errors.New("something follows the object")
	}
	return nil
}

// find is where a name is; of several the last, as Docker sees it.
func (o *object) find(name string) int {
	for i, m := range slices.Backward(o.members) {
		if m.name == name {
			return i
		}
	}
	return -1
}

func (o *object) get(name string) json.RawMessage {
	if i := o.find(name); i >= 0 {
		return o.text[o.members[i].start:o.members[i].end]
	}
	return nil
}

// indent is the white space before the last member, if it has a line of its own.
func (o *object) indent() string {
	_, indent, _ := strings.Cut(o.space(), "\n")
	return indent
}

// space is the white space before the last member.
func (o *object) space() string {
	if len(o.members) == 0 {
		return ""
	}
	before := string(o.text[:o.members[len(o.members)-1].from])
	return before[len(strings.TrimRight(before, " \t\r\n")):]
}

// set puts a value in; before and after are the white space of a first member.
func (o *object) set(name string, v []byte, before, after string) {
	if i := o.find(name); i >= 0 {
		o.splice(o.members[i].start, o.members[i].end, string(v))
		return
	}
	colon := ":"
	if strings.Contains(before, "\n") {
		colon = ": "
	}
	pair := fmt.Sprintf("%q%s%s", name, colon, v)
	if n := len(o.members); n > 0 {
		at := o.members[n-1].end
		o.splice(at, at, ","+o.space()+pair)
		return
	}
	o.splice(o.open+1, o.close, before+pair+after)
}

func (o *object) remove(name string) {
	i := o.find(name)
	switch {
	case i < 0:
	case i > 0:
		o.splice(o.members[i-1].end, o.members[i].end, "")
	case len(o.members) > 1:
		o.splice(o.members[0].from, o.members[1].from, "")
	default:
		o.splice(o.open+1, o.close, "")
	}
}

func (o *object) splice(from, to int, text string) {
	o.text = slices.Replace(o.text, from, to, []byte(text)...)
}
