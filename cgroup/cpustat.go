package cgroup

import "time"

// parseCPUStat reads cpu.stat of v1 (throttling only, time in ns) and of v2 (usage too, times in µs). Keys that it doesn't know are
// skipped, keys that are missing stay as they are in s: v2 groups without the cpu controller have no throttling lines. It reports whether the usage was there.
func parseCPUStat(b []byte, s *Sample) (usage bool, err error) {
	for len(b) > 0 {
		key, value, rest, ok := cutPair(b)
		if !ok {
			return false, errMalformed
		}
		b = rest
		var count *uint64
		var span *time.Duration
		unit := int64(time.Microsecond)
		switch string(key) {
		case "usage_usec":
			span, usage = &s.Usage, true
		case "user_usec":
			span = &s.User
		case "system_usec":
			span = &s.System
		case "nr_periods":
			count = &s.Periods
		case "nr_throttled":
			count = &s.Throttled
		case "throttled_usec":
			span = &s.ThrottledTime
		case "throttled_time":
			span, unit = &s.ThrottledTime, 1
		default:
			continue
		}
		n, ok := parseUint(value)
		if !ok {
			return false, errMalformed
		}
		if count != nil {
			*count = n
			continue
		}
		d, ok := nanoseconds(n, unit)
		if !ok {
			return false, errMalformed
		}
		*span = time.Duration(d)
	}
	return usage, nil
}

// parseUsageUsec reads only the usage from cpu.stat of v2, where it is the first line.
func parseUsageUsec(b []byte) (time.Duration, error) {
	for len(b) > 0 {
		key, value, rest, ok := cutPair(b)
		if !ok {
			return 0, errMalformed
		}
		b = rest
		if string(key) != "usage_usec" {
			continue
		}
		n, ok := parseUint(value)
		if !ok {
			return 0, errMalformed
		}
		d, ok := nanoseconds(n, int64(time.Microsecond))
		if !ok {
			return 0, errMalformed
		}
		return time.Duration(d), nil
	}
	return 0, errMalformed
}
