package ckpt

import (
	"slices"
	"strings"
	"testing"
)

// FuzzFdinfo reads what the kernel says of an open file: the mount is a number that stands there, or none.
func FuzzFdinfo(f *testing.F) {
	for _, s := range []string{"pos:\t0\nflags:\t0100001\nmnt_id:\t23\n", "flags:\t02\n", "flags:\t9\nmnt_id:\tx", "", "mnt_id", "flags:\t0\nflags:\t01"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		writable, mount := parseFdinfo(b)
		if writable && !strings.Contains(string(b), "flags") || mount != -1 && !strings.Contains(string(b), "mnt_id") {
			t.Errorf("writable %v, mount %d of %q", writable, mount, b)
		}
	})
}

// FuzzConnected reads a table of TCP sockets: what is found is one of those that were asked for, and stands there.
func FuzzConnected(f *testing.F) {
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	for _, s := range []string{
		"", head, head + "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1 0 100 0 0 10 0\n",
		head + "   0: 0100007F:1F90 0100007F:A000 01 00000000:00000000 00:00000000 00000000     0        0 7 1 0 100 0 0 10 0\n", "0: a b 01 d e f g h 7\n",
	} {
		f.Add([]byte(s))
	}
	sockets := []string{"7", "12345"}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got := connected(b, sockets); got != "" && (!slices.Contains(sockets, got) || !strings.Contains(string(b), got)) {
			t.Errorf("%q of %q", got, b)
		}
	})
}
