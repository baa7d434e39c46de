package qos

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of a job file as a whole.
const (
	MaxFileSize = 1 << 20 // bytes
	MaxDepth    = 64      // objects and arrays within each other
)

// kind is what a JSON value is.
type kind string

const (
	kindObject kind = "an object"
	kindArray  kind = "an array"
	kindText   kind = "a string"
	kindNumber kind = "a number"
	kindBool   kind = "a boolean"
	kindNull   kind = "null"
)

// node is one value of a job file, with the place where it stands.
type node struct {
	parent  *node  // nil: the root
	key     string // in its parent, if that is an object
	index   int    // in its parent, if that is a list
	kind    kind
	text    string // of a string its content, of a number or boolean its literal
	members []member
	items   []*node
	start   int  // offset of its first byte
	end     int  // offset after its last byte
	bad     bool // a problem of it has been reported: nobody need look at it again
	private bool // it may hold a secret: it is never quoted
}

// member is one key of an object with its value.
type member struct {
	key   string
	start int // offset of the key
	value *node
}

// path returns the node's JSON path. It is not kept: in a hostile file all paths together are much longer than the file.
func (n *node) path() string {
	switch {
	case n.parent == nil:
		return "$"
	case n.parent.kind == kindArray:
		return n.parent.path() + "[" + strconv.Itoa(n.index) + "]"
	}
	return n.parent.path() + pathKey(n.key)
}

// get returns the member of that name, or nil: also if n is nil or no object, and if the value is null.
func (n *node) get(key string) *node {
	if n == nil {
		return nil
	}
	for _, m := range n.members {
		if m.key == key && m.value.kind != kindNull {
			return m.value
		}
	}
	return nil
}

// has says whether there is a member of that name, null or not.
func (n *node) has(key string) bool {
	return slices.ContainsFunc(n.members, func(m member) bool { return m.key == key })
}

// empty says whether a value asks for nothing: null, "", 0, false, or a list or object without content.
func (n *node) empty() bool {
	switch n.kind {
	case kindObject:
		return len(n.members) == 0
	case kindArray:
		return len(n.items) == 0
	case kindNull:
		return true
	}
	if n.text == "" || n.text == "false" {
		return true
	}
	value, err := parseNumber(n.text)
	return err == nil && value == 0
}

// readTree reads a whole job file. It refuses what is not one JSON object of bounded depth in UTF-8; then the tree is nil.
// Keys that stand twice in one object are reported, and the first one's value is kept.
func (f *file) readTree() *node {
	if !f.checkBytes() || !f.checkDepth() || !f.checkSyntax() {
		return nil
	}
	t := &treeReader{file: f, decoder: json.NewDecoder(bytes.NewReader(f.data))}
	t.decoder.UseNumber()
	root, err := t.value(&node{})
	if err != nil { // checkSyntax let it pass: cannot be, but must not be lost
		f.refuseAt(int(t.decoder.InputOffset()), "$", "is not JSON: "+err.Error(), "")
		return nil
	}
	switch root.kind {
	case kindObject:
		return root
	case kindArray:
		f.refuse(root, "is a list; a job file holds one job", "write each job into a file of its own")
	default:
		f.refuse(root, "is "+string(root.kind)+"; a job file is a JSON object", "see docs/jobs.md for an example")
	}
	return nil
}

// checkBytes refuses files that are empty, too big or not UTF-8.
func (f *file) checkBytes() bool {
	const save = "save the file as UTF-8 without a byte order mark"
	switch {
	case len(f.data) > MaxFileSize:
		f.refuseAt(-1, "$", fmt.Sprintf("is larger than %d KiB", MaxFileSize>>10), "give the job file, not the job's data")
	case len(bytes.TrimSpace(f.data)) == 0:
		f.refuseAt(-1, "$", "is empty", "see docs/jobs.md for an example")
	case bytes.HasPrefix(f.data, []byte("\xef\xbb\xbf")):
		f.refuseAt(0, "$", "begins with a byte order mark", save)
	case bytes.HasPrefix(f.data, []byte("\xff\xfe")), bytes.HasPrefix(f.data, []byte("\xfe\xff")):
		f.refuseAt(0, "$", "is UTF-16", save)
	case !utf8.Valid(f.data):
		at := 0
		for at < len(f.data) {
			r, size := utf8.DecodeRune(f.data[at:])
			if r == utf8.RuneError && size == 1 {
				break
			}
			at += size
		}
		f.refuseAt(at, "$", fmt.Sprintf("is not UTF-8: byte 0x%02x", f.data[at]), save)
	default:
		return true
	}
	return false
}

// checkDepth refuses files nested too deep, before anything recursive looks at them.
func (f *file) checkDepth() bool {
	depth, quoted := 0, false
	for i := 0; i < len(f.data); i++ {
		switch c := f.data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				f.refuseAt(i, "$", fmt.Sprintf("is nested more than %d deep", MaxDepth), "a job needs less than ten levels")
				return false
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return true
}

// checkSyntax refuses what is not exactly one JSON value.
func (f *file) checkSyntax() bool {
	var value json.RawMessage
	err := json.Unmarshal(f.data, &value)
	if err == nil {
		return true
	}
	at := len(f.data)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = max(0, min(int(syntax.Offset)-1, len(f.data)))
	}
	text, remedy := syntaxWords(f.data, at, err)
	f.refuseAt(at, "$", text, remedy)
	return false
}

// syntaxWords says what is wrong with a text that is not JSON at that offset. The text itself is not quoted but for one character.
func syntaxWords(data []byte, at int, err error) (text, remedy string) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	var first json.RawMessage
	if decoder.Decode(&first) == nil {
		return "is followed by something else", "one file holds one job: remove what stands after its closing brace"
	}
	if err.Error() == "unexpected end of JSON input" {
		return "is not JSON: the file ends before it is complete", "close every quote, bracket and brace"
	}
	before := bytes.TrimRight(data[:at], " \t\r\n")
	var c byte
	if at < len(data) {
		c = data[at]
	}
	switch {
	case (c == '}' || c == ']') && bytes.HasSuffix(before, []byte(",")):
		return "is not JSON: a comma stands before a closing bracket", "remove the last comma"
	case c < ' ' && strings.Contains(err.Error(), "string literal"):
		return "is not JSON: a text goes on over the end of its line", `close it with a double quote ", and write \n for a line break`
	case c == '/' || c == '#':
		return "is not JSON: it has no comments", "remove the comment"
	case c == '\'':
		return "is not JSON: a single quote", `use double quotes "`
	case c == '"' && len(before) > 0 && bytes.ContainsRune([]byte(`"}]0123456789el`), rune(before[len(before)-1])):
		return "is not JSON: a comma or colon is missing", "put a comma between two members, a colon after a key"
	case c == 'N' || c == 'I':
		return "is not JSON: NaN and Infinity are no JSON numbers", "write a decimal number, such as 1.5"
	case c == '<' && len(before) == 0:
		return "is not JSON: it looks like HTML", "give the job file itself"
	case len(before) == 0 || len(bytes.TrimSpace(data[:at])) == 0:
		return "is not JSON", "a job file is a JSON object: it begins with {"
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		return "is not JSON: a word without quotes", `put keys and texts between double quotes "`
	}
	return "is not JSON: " + err.Error(), "see docs/jobs.md for an example"
}

// treeReader builds the tree of a file that is known to be sound JSON.
type treeReader struct {
	file    *file
	decoder *json.Decoder
}

// next returns the next token and where it begins.
func (t *treeReader) next() (json.Token, int, error) {
	start := int(t.decoder.InputOffset())
	data := t.file.data
	for start < len(data) && bytes.IndexByte([]byte(" \t\r\n,:"), data[start]) >= 0 {
		start++
	}
	token, err := t.decoder.Token()
	return token, start, err
}

// value reads one value and all below it into a node that knows its place. Its depth is bounded by checkDepth.
func (t *treeReader) value(n *node) (*node, error) {
	token, start, err := t.next()
	if err != nil {
		return nil, err
	}
	n.start = start
	switch v := token.(type) {
	case json.Delim:
		if v == '{' {
			n.kind = kindObject
			err = t.object(n)
		} else {
			n.kind = kindArray
			err = t.array(n)
		}
	case string:
		n.kind, n.text = kindText, v
	case json.Number:
		n.kind, n.text = kindNumber, v.String()
	case bool:
		n.kind, n.text = kindBool, strconv.FormatBool(v)
	default:
		n.kind = kindNull
	}
	n.end = int(t.decoder.InputOffset())
	return n, err
}

func (t *treeReader) object(n *node) error {
	seen := map[string]bool{}
	for t.decoder.More() {
		token, start, err := t.next()
		if err != nil {
			return err
		}
		key, ok := token.(string)
		if !ok {
			return fmt.Errorf("key of %s is %v", n.path(), token)
		}
		value, err := t.value(&node{parent: n, key: key})
		if err != nil {
			return err
		}
		if seen[key] {
			t.file.refuseAt(start, value.path(), "stands twice", "remove one of the two; which of them counts differs from program to program")
			continue
		}
		seen[key] = true
		n.members = append(n.members, member{key, start, value})
	}
	_, _, err := t.next()
	return err
}

func (t *treeReader) array(n *node) error {
	for t.decoder.More() {
		value, err := t.value(&node{parent: n, index: len(n.items)})
		if err != nil {
			return err
		}
		n.items = append(n.items, value)
	}
	_, _, err := t.next()
	return err
}

var plainKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,63}$`)

// pathKey returns a key as a step of a JSON path: .key, or ["key"] if it is no plain word.
func pathKey(key string) string {
	if plainKey.MatchString(key) {
		return "." + key
	}
	return "[" + strconv.Quote(shorten(key)) + "]"
}

// shorten cuts a text that is too long to be quoted whole.
func shorten(text string) string {
	const most = 40
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most-1]) + "…"
}
