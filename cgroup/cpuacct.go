package cgroup

import "time"

// parseUsage reads cpuacct.usage: nanoseconds of CPU time.
func parseUsage(b []byte) (time.Duration, error) {
	n, ok := parseUint(trimLine(b))
	if !ok {
		return 0, errMalformed
	}
	d, ok := nanoseconds(n, 1)
	if !ok {
		return 0, errMalformed
	}
	return time.Duration(d), nil
}

// parseAcctStat reads cpuacct.stat: user and system time, in ticks of so many nanoseconds.
func parseAcctStat(b []byte, tick int64, s *Sample) error {
	var user, system int64
	var seen int
	for len(b) > 0 {
		key, value, rest, ok := cutPair(b)
		if !ok {
			return errMalformed
		}
		b = rest
		var to *int64
		switch string(key) {
		case "user":
			to = &user
		case "system":
			to = &system
		default:
			continue
		}
		n, ok := parseUint(value)
		if !ok {
			return errMalformed
		}
		if *to, ok = nanoseconds(n, tick); !ok {
			return errMalformed
		}
		seen++
	}
	if seen != 2 {
		return errMalformed
	}
	s.User, s.System = time.Duration(user), time.Duration(system)
	return nil
}
