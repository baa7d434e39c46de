package thesis

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

var hex32 = regexp.MustCompile(`^[0-9a-f]{32}$`)

// id is a UUID as we write it. The launcher writes it without dashes.
func id(uuid *string) (string, error) {
	if uuid == nil || *uuid == "" {
		return "", errors.New("uuid: is missing")
	}
	plain := strings.ToLower(*uuid)
	if len(plain) == 36 {
		plain = strings.ReplaceAll(plain, "-", "")
	}
	if !hex32.MatchString(plain) {
		return "", fmt.Errorf("uuid: %.40q is not 32 hexadecimal digits", *uuid)
	}
	dashed := Dashed(plain)
	if len(*uuid) == 36 && dashed != strings.ToLower(*uuid) {
		return "", fmt.Errorf("uuid: %.40q has its dashes elsewhere", *uuid)
	}
	return dashed, nil
}

// Dashed is a UUID of 32 digits with dashes.
func Dashed(plain string) string {
	return strings.Join([]string{plain[:8], plain[8:12], plain[12:16], plain[16:20], plain[20:]}, "-")
}

// Plain is a UUID without dashes, as the launcher writes it, and as the job's container is named.
func Plain(id string) string { return strings.ReplaceAll(id, "-", "") }

// Launched says whether what a framework shows is the job of a UUID as the launcher submits it: a Chronos job has the UUID in its command
// (the body of its /updateTask), a Marathon app in its environment. Who can't read the job there does not know the UUID.
func Launched(id, command string, env map[string]string) bool {
	if len(id) != 36 {
		return false
	}
	plain := Plain(id)
	if strings.Contains(command, plain) || strings.Contains(command, id) {
		return true
	}
	for _, v := range env {
		if v == plain || v == id {
			return true
		}
	}
	return false
}
