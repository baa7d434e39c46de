package marathon

import (
	"regexp"
	"strconv"

	"qosctl/devmesos/node"
)

// place is where an instance runs, as far as constraints ask.
type place struct {
	hostname   string
	attributes map[string]string
}

func (p place) value(field string) (string, bool) {
	if field == "hostname" || field == "@hostname" {
		return p.hostname, true
	}
	v, ok := p.attributes[field]
	return v, ok
}

// meets says whether an offer meets all of an app's constraints, given where its other instances run.
func meets(constraints [][]string, o node.Offer, others []place) bool {
	for _, c := range constraints {
		if !meetsOne(c, place{o.Hostname, o.Attributes}, others) {
			return false
		}
	}
	return true
}

func meetsOne(c []string, offered place, others []place) bool {
	value := ""
	if len(c) > 2 {
		value = c[2]
	}
	got, ok := offered.value(c[0])
	if !ok {
		return c[1] == "UNLIKE" // the only operator that a missing attribute meets
	}
	groups := map[string]int{}
	for _, p := range others {
		if v, ok := p.value(c[0]); ok {
			groups[v]++
		}
	}
	switch c[1] {
	case "UNIQUE":
		return groups[got] == 0
	case "CLUSTER":
		if value != "" {
			return got == value
		}
		return len(groups) == 0 || groups[got] > 0
	case "IS":
		return got == value
	case "LIKE":
		return whole(value, got)
	case "UNLIKE":
		return !whole(value, got)
	case "MAX_PER":
		n, _ := strconv.Atoi(value) // validated
		return groups[got] < n
	case "GROUP_BY":
		n, _ := strconv.Atoi(value)
		least := 0
		if len(groups) > 0 && len(groups) >= n {
			least = -1
			for _, k := range groups {
				if least < 0 || k < least {
					least = k
				}
			}
		}
		return groups[got] <= least
	}
	return false
}

// whole matches as Java's String.matches: the whole string.
func whole(pattern, s string) bool {
	re, err := regexp.Compile(`^(?:` + pattern + `)$`)
	return err == nil && re.MatchString(s)
}
