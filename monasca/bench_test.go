package monasca

import (
	"testing"
	"time"
)

// A round of a thousand jobs: measured, encoded, and written to the spool.
func BenchmarkRound(b *testing.B) {
	s, err := openSpool(b.TempDir(), 1<<30, silent)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.close() }()
	jobs := manyJobs(time.Now(), 1)
	b.ReportAllocs()
	for b.Loop() {
		now := time.Now()
		list := Measure(Node{Name: "n"}, jobs, now)
		for len(list) > 0 {
			var lines [][]byte
			for _, m := range list[:DefaultBatch] {
				line, err := m.encode(now)
				if err != nil {
					b.Fatal(err)
				}
				lines = append(lines, line)
			}
			if err := s.append(lines, now.UnixMilli(), now.UnixMilli()); err != nil {
				b.Fatal(err)
			}
			list = list[DefaultBatch:]
		}
	}
}

func BenchmarkOpenSpool(b *testing.B) {
	dir := b.TempDir()
	b.ReportAllocs()
	for b.Loop() {
		s, err := openSpool(dir, 1<<30, silent)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.close(); err != nil {
			b.Fatal(err)
		}
	}
}
