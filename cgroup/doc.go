// Package cgroup finds a process' cgroup, reads its CPU counters without allocation, and writes its CPU limits, on cgroup v1, v2 and hybrid
// hosts. It makes cgroups of our own too, and empties and removes them for certain.
//
// FS is a host. FS.Of finds the Group of a process; FS.Create makes one. A Reader samples a Group and Limits resizes it, both on files that stay open:
//
//	f, err := cgroup.New(cgroup.Options{})
//	g, err := f.Of(pid)
//	r, err := f.OpenReader(g)
//	l, err := f.OpenLimits(g)
//	err = r.Read(&sample)            // 0 allocations; ErrGone once the cgroup was removed
//	changed, err := l.SetCPUs(1.5)   // writes only what is not in force
//
// What holds always:
//
//   - Reading a counter costs about its bare pread, and nothing of the garbage collector (BenchmarkSample prints the ratio).
//   - A kept-open file never shows another cgroup that took the name of a removed one.
//   - A value in force is never written again, because each write of a quota refills it.
//   - No path leads out of a hierarchy, wherever it comes from; the root of one is never made, emptied, removed, or its memory limited.
//   - Only the total of CPU time is exact, and refreshed with the kernel's tick. User and system time are a statistic.
//
// One file here is one file of the kernel, or one verb. Parsers take bytes, allocate nothing where they run every second, and are fuzzed.
package cgroup
