package agent

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
)

// Masked stands where a secret would.
const Masked = "<secret>"

// YAML is the configuration as a file that Load reads, every key in it, secrets masked.
func (c Config) YAML() ([]byte, error) {
	node, err := yamlNode(reflect.ValueOf(c))
	if err != nil {
		return nil, err
	}
	var data bytes.Buffer
	encoder := yaml.NewEncoder(&data)
	encoder.SetIndent(2)
	if err := errors.Join(encoder.Encode(node), encoder.Close()); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	return data.Bytes(), nil
}

// yamlNode keeps the order of the struct's fields and writes durations with their unit.
func yamlNode(v reflect.Value) (*yaml.Node, error) {
	if v.Kind() == reflect.Struct {
		node := &yaml.Node{Kind: yaml.MappingNode}
		for i := range v.NumField() {
			if err := appendPair(node, v.Type().Field(i).Tag.Get("mapstructure"), v.Field(i)); err != nil {
				return nil, err
			}
		}
		return node, nil
	}
	node := &yaml.Node{}
	value := v.Interface()
	switch t := value.(type) {
	case time.Duration:
		value = t.String()
	case string:
		value = maskURL(t)
	case []string:
		masked := make([]string, len(t))
		for i, s := range t {
			masked[i] = maskURL(s)
		}
		value = masked
	case map[string]string:
		if t == nil {
			value = map[string]string{}
		}
	case map[string]FrameworkConfig:
		return namedNode(t)
	case map[string]TokenConfig:
		return namedNode(t)
	}
	if err := node.Encode(value); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	return node, nil
}

// namedNode is a block whose keys are names of the user's own.
func namedNode[T any](blocks map[string]T) (*yaml.Node, error) {
	node := &yaml.Node{Kind: yaml.MappingNode}
	if len(blocks) == 0 {
		node.Style = yaml.FlowStyle
	}
	for _, name := range slices.Sorted(maps.Keys(blocks)) {
		if err := appendPair(node, name, reflect.ValueOf(blocks[name])); err != nil {
			return nil, err
		}
	}
	return node, nil
}

func appendPair(mapping *yaml.Node, key string, v reflect.Value) error {
	value, err := yamlNode(v)
	if err != nil {
		return err
	}
	name := &yaml.Node{}
	name.SetString(key)
	mapping.Content = append(mapping.Content, name, value)
	return nil
}

// userinfo finds the credentials of a URL, be the rest of it as broken as it may.
var userinfo = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@`)

// maskURL hides the credentials of a text that is a URL with some.
func maskURL(text string) string {
	if u, err := url.Parse(text); err == nil && u.User == nil {
		return text
	}
	return userinfo.ReplaceAllString(text, "${1}"+Masked+"@")
}
