package bundle

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Masked stands where a secret would.
const Masked = "<secret>"

// shortest is how long a value must be to be looked for everywhere: one of two letters would tear holes into every word. By their keys
// shorter ones are hidden too.
const shortest = 4

// maxSecretFile bounds a file with secrets, in bytes.
const maxSecretFile = 64 << 10

// Masker takes secrets out of text: values that it was given, in the forms in which they travel, and whatever stands behind a key whose name
// says that it is a secret.
type Masker struct {
	values []string // longest first
}

// NewMasker makes one that looks for values.
func NewMasker(values ...string) *Masker {
	m := &Masker{}
	for _, v := range values {
		m.add(v)
	}
	return m
}

// add takes a value in, as it is, escaped for JSON (as pages are and as we are), lines of a log, YAML and URLs, and in base64.
func (m *Masker) add(v string) {
	v = strings.TrimSpace(v)
	if len(v) < shortest {
		return
	}
	forms := []string{v, url.QueryEscape(v), url.PathEscape(v), base64.StdEncoding.EncodeToString([]byte(v)), base64.RawURLEncoding.EncodeToString([]byte(v))}
	var plain bytes.Buffer
	e := json.NewEncoder(&plain)
	e.SetEscapeHTML(false)
	quoted, err := json.Marshal(v)
	if err = errors.Join(err, e.Encode(v)); err == nil { // a text always can be written
		forms = append(forms, inner(string(quoted)), inner(strings.TrimSpace(plain.String())))
	}
	forms = append(forms, inner(strconv.Quote(v)), strings.ReplaceAll(v, "'", "''"))
	for _, f := range forms {
		if !slices.Contains(m.values, f) {
			m.values = append(m.values, f)
		}
	}
	slices.SortFunc(m.values, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
}

// inner is what stands between two quotation marks.
func inner(quoted string) string { return quoted[1 : len(quoted)-1] }

// AddFile takes in what a file of secrets holds: the whole of it, each line, and in JSON each text that is no address or name.
func (m *Masker) AddFile(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() > maxSecretFile {
		return fmt.Errorf("%s is no small file", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var v any
	if json.Unmarshal(data, &v) == nil {
		if _, structured := v.(map[string]any); structured {
			m.addJSON("", v)
			return nil
		}
	}
	m.add(string(data))
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "-----") {
			m.add(line)
		}
	}
	return nil
}

func (m *Masker) addJSON(key string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			m.addJSON(k, e)
		}
	case []any:
		for _, e := range v {
			m.addJSON(key, e)
		}
	case string:
		if secretKey(key) {
			m.add(v)
			if plain, err := base64.StdEncoding.DecodeString(v); err == nil && key == "auth" { // Docker's: user:password
				_, password, _ := strings.Cut(string(plain), ":")
				m.add(password)
			}
		}
	}
}

// secretWords are what keys of secrets have in their names.
const secretWords = `secret|passw|passphrase|token|credential|authorization|api[_-]?key|private[_-]?key|cluster[_-]?key|access[_-]?key`

var (
	saysSecret = regexp.MustCompile(`(?i)` + secretWords)
	// namesFile is the end of the name of a key whose value is no secret itself: a path, a number, a name.
	namesFile = regexp.MustCompile(`(?i)(_file|_dir|_url|tokens?_fetched|_total|_seconds|_bytes)$`)
	// wholeKeys are secret, and part of many names that are not.
	wholeKeys = []string{"auth", "hash", "identitytoken", "registrytoken"}
)

func secretKey(key string) bool {
	return slices.Contains(wholeKeys, strings.ToLower(key)) || saysSecret.MatchString(key) && !namesFile.MatchString(key)
}

var (
	// pairs are such a key and its value in JSON, quoted in a log line too, in YAML, the environment and log lines.
	pairs = regexp.MustCompile(`(?i)([\w.-]*(?:` + secretWords + `)[\w.-]*|\b(?:` + strings.Join(wholeKeys, "|") + `))(\\*["']?\s*[:=]\s*)("(?:[^"\\\n]|\\.)*"|\\+"[^"\\\n]*\\+"|'[^'\n]*'|[^\s"',;&}\])\\]+)`)
	// schemes stand before the credentials of a header.
	schemes = regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{4,}`)
	// userinfo finds the credentials of a URL, up to the last @: a password may have one.
	userinfo = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^/?#\s"']+@`)
	// pem finds private keys.
	pem = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----`)
)

// Text takes the secrets out of text.
func (m *Masker) Text(text []byte) []byte {
	for _, v := range m.values {
		text = bytes.ReplaceAll(text, []byte(v), []byte(Masked))
	}
	text = pem.ReplaceAll(text, []byte(Masked))
	text = userinfo.ReplaceAll(text, []byte("${1}"+Masked+"@"))
	text = schemes.ReplaceAll(text, []byte("${1} "+Masked))
	return pairs.ReplaceAllFunc(text, func(pair []byte) []byte {
		p := pairs.FindSubmatch(pair)
		if !secretKey(string(p[1])) {
			return pair
		}
		value := []byte(Masked)
		if quote := p[3][:1]; quote[0] == '"' || quote[0] == '\'' {
			value = bytes.Join([][]byte{quote, value, quote}, nil)
		}
		return bytes.Join([][]byte{p[1], p[2], value}, nil)
	})
}

// JSON takes the secrets out of JSON by its structure, and out of its text: values of an environment are hidden, its names kept. What is no
// JSON is text.
func (m *Masker) JSON(text []byte) []byte {
	var v any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return m.Text(text)
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if e.Encode(hide("", v)) != nil {
		return []byte(Masked)
	}
	return m.Text(out.Bytes())
}

// YAML is JSON for YAML.
func (m *Masker) YAML(text []byte) []byte {
	var v yaml.Node
	if yaml.Unmarshal(text, &v) != nil {
		return m.Text(text)
	}
	hideNode("", &v)
	out, err := yaml.Marshal(&v)
	if err != nil {
		return []byte(Masked)
	}
	return m.Text(out)
}

// environment are the keys of jobs' environments.
var environment = []string{"env", "environment", "environmentvariables"}

func hide(key string, v any) any {
	env := slices.Contains(environment, strings.ToLower(key))
	switch t := v.(type) {
	case map[string]any:
		for k, e := range t {
			if env {
				t[k] = Masked
				continue
			}
			t[k] = hide(k, e)
		}
	case []any:
		for i, e := range t {
			t[i] = hideItem(env, key, e)
		}
	case string:
		if t != "" && (env || secretKey(key)) {
			return Masked
		}
	}
	return v
}

// hideItem hides an item of a list: of an environment it is NAME=VALUE, or an object with name and value.
func hideItem(env bool, key string, v any) any {
	if !env {
		return hide(key, v)
	}
	switch t := v.(type) {
	case string:
		if name, _, ok := strings.Cut(t, "="); ok {
			return name + "=" + Masked
		}
		return Masked
	case map[string]any:
		if _, ok := t["value"]; ok {
			t["value"] = Masked
		}
	}
	return v
}

func hideNode(key string, n *yaml.Node) {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			hideNode(n.Content[i].Value, n.Content[i+1])
		}
		return
	}
	for _, c := range n.Content {
		hideNode(key, c)
	}
	if n.Kind == yaml.ScalarNode && n.Value != "" && secretKey(key) {
		n.SetString(Masked)
	}
}
