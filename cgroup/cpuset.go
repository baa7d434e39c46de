package cgroup

import (
	"os"
	"path/filepath"
	"runtime"
)

// maxCPU bounds what a list of CPUs may name: the kernel's NR_CPUS is at most 8192.
const maxCPU = 1 << 16

// parseCPUList counts the CPUs of a list as "0-3,7".
func parseCPUList(b []byte) (int, error) {
	b = trimLine(b)
	count, next := 0, uint64(0) // the kernel lists them in order, none twice
	for len(b) > 0 {
		n := 0
		for n < len(b) && b[n] != ',' {
			n++
		}
		item := b[:n]
		if b = b[n:]; len(b) > 0 {
			if b = b[1:]; len(b) == 0 {
				return 0, errMalformed
			}
		}
		first, last := item, item
		for i, c := range item {
			if c == '-' {
				first, last = item[:i], item[i+1:]
				break
			}
		}
		lo, ok := parseUint(first)
		hi, ok2 := parseUint(last)
		if !ok || !ok2 || lo > hi || lo < next || hi >= maxCPU {
			return 0, errMalformed
		}
		count, next = count+int(hi-lo)+1, hi+1
	}
	return count, nil
}

// CPUs is how many CPUs of this host jobs can use: those online that the root of the cpuset hierarchy has, else those this process may run on.
func (f *FS) CPUs() float64 {
	if f.cpuset != nil {
		for _, name := range []string{"cpuset.cpus.effective", "cpuset.effective_cpus"} {
			b, err := os.ReadFile(filepath.Join(f.cpuset.dir, name))
			if err != nil {
				continue
			}
			if n, err := parseCPUList(b); err == nil && n > 0 {
				return float64(n)
			}
		}
	}
	return float64(runtime.NumCPU())
}
