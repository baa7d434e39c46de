package qos

import (
	"fmt"
	"strings"
)

// walker goes over a job file along the table of fields: what is refused becomes a problem, what is ignored or not known a
// warning, and what is of the wrong type a problem.
type walker struct {
	*file
	framework Framework
	inPlace   bool
	fields    map[string]Field
	children  map[string][]string // names of the fields below a field; "" is the root
}

// walk checks every field of a job file against the table.
func (f *file) walk(root *node, framework Framework, inPlace bool) {
	w := walker{file: f, framework: framework, inPlace: inPlace, fields: map[string]Field{}, children: map[string][]string{}}
	for _, field := range Fields(framework) {
		w.fields[field.Name] = field
		parent, name := "", field.Name
		if i := strings.LastIndexByte(name, '.'); i >= 0 {
			parent, name = name[:i], name[i+1:]
		}
		w.children[parent] = append(w.children[parent], name)
	}
	w.object(root, "")
}

// object checks the members of an object; prefix is its name in the table.
func (w *walker) object(n *node, prefix string) {
	for _, m := range n.members {
		name := m.key
		if prefix != "" {
			name = prefix + "." + m.key
		}
		field, known := w.fields[name]
		if !known || strings.Contains(m.key, ".") {
			w.unknown(m, prefix)
			continue
		}
		w.field(m.value, field)
	}
}

// unknown warns of a key that the framework does not know. Its value is not quoted: nobody knows whether it is secret.
func (w *walker) unknown(m member, prefix string) {
	remedy := "remove it"
	if guess := w.suggest(m.key, w.children[prefix]); guess != "" {
		remedy = fmt.Sprintf("did you mean %s?", guess)
	}
	m.value.private = true
	w.warn(m.value, fmt.Sprintf("is an unknown field: %s would drop it without a word", title(w.framework)), remedy)
}

// field checks one value against its row of the table, and what stands below it.
func (w *walker) field(n *node, field Field) {
	if field.Secret {
		markPrivate(n)
	}
	if n.kind == kindNull {
		if w.framework == Chronos {
			w.refuse(n, `is null, which Chronos reads as the text "null", or as 0`, "remove the key")
		}
		return
	}
	if field.Name == "qos" {
		return // readQoS has its own table
	}
	verdict := field.verdict(w.inPlace)
	switch {
	case (verdict == Refused || verdict == Ignored) && n.empty():
		return
	case field.Name == "executor" && n.text == "//cmd": // the command executor by its name
		return
	case verdict == Refused:
		w.refuse(n, "is refused: "+field.Reason, field.Remedy)
		return
	case verdict == Ignored:
		w.warn(n, "is ignored: "+field.Reason, "remove it")
		return
	}
	if !w.check(n, field) {
		return
	}
	switch field.Type {
	case ObjectField:
		w.object(n, field.Name)
	case ObjectsField:
		for _, item := range n.items {
			w.object(item, field.Name)
		}
	}
}

// check says whether a value is of its field's type and within its bounds, and reports it if not.
func (w *walker) check(n *node, field Field) bool {
	switch field.Type {
	case TextField:
		return w.checkText(n)
	case NumberField, IntegerField:
		return w.checkNumber(n, field)
	case BoolField:
		if n.kind != kindBool && (n.kind != kindText || (n.text != "true" && n.text != "false")) {
			w.refuse(n, "is neither true nor false", "write true or false")
		}
	case ObjectField, MapField:
		if n.kind != kindObject {
			w.refuse(n, "is "+string(n.kind)+" where an object is expected", "write {…}")
		}
	case ListField, TextsField, ObjectsField:
		return w.checkList(n, field)
	}
	return !n.bad
}

func (w *walker) checkText(n *node) bool {
	switch {
	case n.kind != kindText:
		w.refuse(n, "is "+string(n.kind)+" where a text is expected", "put it between double quotes")
	case strings.ContainsRune(n.text, 0):
		w.refuse(n, "holds a NUL character", "remove it")
	}
	return !n.bad
}

func (w *walker) checkList(n *node, field Field) bool {
	if n.kind != kindArray {
		w.refuse(n, "is "+string(n.kind)+" where a list is expected", "write […]")
		return false
	}
	for _, item := range n.items {
		switch {
		case field.Type == TextsField && !w.checkText(item):
			n.bad = true
		case field.Type == ObjectsField && item.kind != kindObject:
			w.refuse(item, "is "+string(item.kind)+" where an object is expected", "write {…}")
			n.bad = true
		}
	}
	return !n.bad
}

func (w *walker) checkNumber(n *node, field Field) bool {
	if n.kind != kindNumber && n.kind != kindText {
		w.refuse(n, "is "+string(n.kind)+" where a number is expected", "write a decimal number, such as 1.5")
		return false
	}
	value, err := parseNumber(n.text)
	most := field.Most
	if most == 0 {
		most = 1e12
	}
	switch {
	case err != nil:
		w.refuseFault(n, err)
	case value < 0:
		w.refuse(n, "is negative", fmt.Sprintf("write at least %g", field.Least))
	case value < field.Least:
		w.refuse(n, fmt.Sprintf("is less than %g", field.Least), fmt.Sprintf("write at least %g", field.Least))
	case value > most:
		w.refuse(n, fmt.Sprintf("is more than %.12g", most), fmt.Sprintf("write at most %.12g", most))
	case field.Type == IntegerField && !isInteger(value):
		w.refuse(n, "is not a whole number of at most 31 bits", "write a whole number")
	}
	return !n.bad
}

// markPrivate makes sure that a value and all below it are never quoted.
func markPrivate(n *node) {
	n.private = true
	for _, m := range n.members {
		markPrivate(m.value)
	}
	for _, item := range n.items {
		markPrivate(item)
	}
}

// title returns a framework's name as it is written in a sentence.
func title(framework Framework) string {
	if framework == Chronos {
		return "Chronos"
	}
	return "Marathon"
}
