package agent

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"qosctl/agent/doctor"
)

// secretKeys are the ends of the keys of files with secrets.
var secretKeys = []string{"password_file", "token_file", "credentials_file", "key_file", "docker_config"}

// SecretFiles are the files with secrets that the configuration names, each with its key.
func (c Config) SecretFiles() []doctor.File {
	var list []doctor.File
	collectSecrets(&list, "", reflect.ValueOf(c))
	return list
}

func collectSecrets(list *[]doctor.File, key string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			collectSecrets(list, strings.TrimPrefix(key+"."+v.Type().Field(i).Tag.Get("mapstructure"), "."), v.Field(i))
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(x, y reflect.Value) int { return strings.Compare(fmt.Sprint(x), fmt.Sprint(y)) })
		for _, k := range keys {
			collectSecrets(list, key+"."+fmt.Sprint(k), v.MapIndex(k))
		}
	case reflect.String:
		if v.String() != "" && slices.ContainsFunc(secretKeys, func(end string) bool { return strings.HasSuffix(key, end) }) {
			*list = append(*list, doctor.File{Key: key, Path: v.String()})
		}
	}
}
