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
func meets(a *App, o node.Offer, others []place) bool {
	for _, c := range a.Constraints {
		if !meetsOne(c, place{o.Hostname, o.Attributes}, others, orElse(a.Instances, 1)) {
			return false
		}
	}
	return true
}

// meetsOne checks a constraint of an app that is to have so many instances.
func meetsOne(c []string, offered place, others []place, instances int) bool {
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
		if len(others) == 0 {
			return true
		}
		first, _ := others[0].value(c[0]) // its place is that of all
		return first == got
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
		return evenly(groups, got, n, instances)
	}
	return false
}

// evenly says whether a group may have one more. Of a number of groups each gets its share of the instances, and what is left over goes to the
// first; without a number the smallest of those that are there, or a new one, gets the next.
func evenly(groups map[string]int, got string, n, instances int) bool {
	if n < 1 {
		least := -1
		for _, k := range groups {
			if least < 0 || k < least {
				least = k
			}
		}
		return groups[got] <= max(least, 0)
	}
	share, over := instances/n, instances%n
	for _, k := range groups {
		over -= max(0, k-share)
	}
	count, known := groups[got]
	if !known {
		return len(groups) < n
	}
	return count < share || count == share && over > 0
}

// whole matches as Java's String.matches: the whole string.
func whole(pattern, s string) bool {
	re, err := regexp.Compile(`^(?:` + pattern + `)$`)
	return err == nil && re.MatchString(s)
}
