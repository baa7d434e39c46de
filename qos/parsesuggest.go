package qos

import "strings"

// aliases are words that people write for a field of another name: of the other framework, or of other systems.
var aliases = map[string][]string{
	"command": {"cmd"}, "cmd": {"command"}, "name": {"id"}, "id": {"name"}, "cpu": {"cpus"}, "cores": {"cpus"},
	"memory": {"mem"}, "ram": {"mem"}, "environment": {"env", "environmentVariables"}, "env": {"environmentVariables"},
	"environmentVariables": {"env"}, "arguments": {"args"}, "args": {"arguments"}, "runAsUser": {"user"}, "user": {"runAsUser"},
	"tolerance": {"desv_deadline"}, "deviation": {"desv_deadline"}, "dev_deadline": {"desv_deadline"}, "timeout": {"deadline"},
	"time": {"duration"}, "cputime": {"duration"}, "cpu_time": {"duration"}, "iterations": {"executions"}, "retries": {"max_failures"},
	"priority": {"weight"},
}

// nearest returns the candidate that a misspelt key was probably meant to be, or "".
func nearest(key string, candidates []string) string {
	for _, alias := range aliases[key] {
		for _, candidate := range candidates {
			if alias == candidate {
				return candidate
			}
		}
	}
	if len(key) > 64 {
		return ""
	}
	best, least := "", 1+max(1, len(key)/3)
	for _, candidate := range candidates {
		if d := distance(strings.ToLower(key), strings.ToLower(candidate)); d < least {
			best, least = candidate, d
		}
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap with their neighbour to make a into b.
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
