package ckpt

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkWire says how many bytes go to another node for each byte of a checkpoint, by what a job's memory holds: noise, as of what is packed
// already; numbers of eight digits in half of the pages, the others never written; zeros. It is the same on every machine; docs/sizing.md has it.
func BenchmarkWire(b *testing.B) {
	const size = 32 << 20
	for name, fill := range map[string]func([]byte){
		"zeros": func([]byte) {},
		"noise": func(p []byte) { _, _ = rand.NewChaCha8([32]byte{1}).Read(p) },
		"numbers": func(p []byte) {
			src := rand.New(rand.NewPCG(1, 2))
			for i := 0; i+8 <= len(p); i += 8 {
				if i/4096%2 == 0 {
					copy(p[i:], fmt.Appendf(nil, "%08d", src.IntN(1000)))
				}
			}
		},
	} {
		b.Run(name, func(b *testing.B) {
			k := shelf(b)
			r, err := k.store.next(testJob, 0)
			if err != nil {
				b.Fatal(err)
			}
			pages := make([]byte, size)
			fill(pages)
			writeStock(b, k, r, map[string][]byte{imagesName + "/pages-1.img": pages})
			m, _, err := k.Seal(b.Context(), r)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				b.ReportMetric(float64(len(wire(b, k, r)))/float64(m.Bytes), "sent/byte")
			}
		})
	}
}
