package cli

import "testing"

func TestOnlyPagesOfTheProgramAreGivenBack(t *testing.T) {
	t.Parallel()
	for line, ours := range map[string]bool{
		"00400000-00e2c000 r-xp 00000000 fe:00 10018897                           /usr/bin/qosctl":   true,
		"00e2c000-0183f000 r--p 00a2c000 fe:00 10018897                           /usr/bin/qosctl":   true,
		"0183f000-01900000 rw-p 0143f000 fe:00 10018897                           /usr/bin/qosctl":   false,
		"7f0000000000-7f0000100000 r--s 00000000 fe:00 77                         /var/lib/agent.db": false,
		"c000000000-c000400000 rw-p 00000000 00:00 0 ":                                               false,
		"no line of maps": false,
	} {
		from, to, got := programPages(line, "/usr/bin/qosctl")
		if got != ours || ours && from >= to {
			t.Errorf("%q: %x to %x, %t", line, from, to, got)
		}
	}
	if err := letGoOfStart(); err != nil { // and the program goes on
		t.Error(err)
	}
}
