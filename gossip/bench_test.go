package gossip_test

import (
	"flag"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// What is measured here is measured in virtual time, so ns/op says only how long the simulation takes; what it showed is in the further
// figures. Those named raw are memberlist's own, with the same timers, in the same run. They need no quiet machine.

var (
	heals  = flag.Int("heals", 10, "how many cuts are healed by BenchmarkHeal50 at most, of which each takes a minute or so")
	within = flag.Duration("within", 5*time.Minute, "after which BenchmarkHeal50 heals no other")
)

// bubble runs f in a bubble of virtual time. synctest wants a test, so a benchmark makes one.
func bubble(b *testing.B, f func(t *testing.T)) {
	b.Helper()
	ok := testing.RunTests(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{
		{Name: b.Name(), F: func(t *testing.T) { synctest.Test(t, f) }},
	})
	if !ok {
		b.FailNow()
	}
}

// figure reports the median and the worst of some times.
func figure(b *testing.B, name string, all []time.Duration) {
	b.ReportMetric(median(all).Seconds(), name+"-s")
	b.ReportMetric(slices.Max(all).Seconds(), name+"-worst-s")
}

func benchClaims(b *testing.B, n, claims int) {
	for b.Loop() {
		bubble(b, func(t *testing.T) { figure(b, "claim99", measureClaims(t, n, claims)) })
		bubble(b, func(t *testing.T) { figure(b, "raw99", rawClaims(t, n, claims)) })
	}
}

// A claim known by 99 % of the nodes: medians of ten.
func BenchmarkClaim50(b *testing.B)   { benchClaims(b, 50, 10) }
func BenchmarkClaim200(b *testing.B)  { benchClaims(b, 200, 10) }
func BenchmarkClaim1000(b *testing.B) { benchClaims(b, 1000, 10) }

// A death known by all: medians of ten, one after another.
func BenchmarkDeath200(b *testing.B) {
	for b.Loop() {
		bubble(b, func(t *testing.T) { figure(b, "death", measureDeath(t, 200, 10)) })
		bubble(b, func(t *testing.T) { figure(b, "raw", rawDeath(t, 200, 10)) })
	}
}

// Ten thousand jobs, changed on both sides of a cut of three minutes: medians of ten, or of as many as there was time for; raw memberlist, which ships its table of 4 MB,
// once and with somebody's help.
func BenchmarkHeal50(b *testing.B) {
	const n, jobs, cut = 50, 10_000, 3 * time.Minute
	for b.Loop() {
		var contact, tables []time.Duration
		var bytes int64
		for began := time.Now(); len(tables) < *heals && (len(tables) == 0 || time.Since(began) < *within); {
			bubble(b, func(t *testing.T) {
				h := measureHeal(t, n, jobs, cut)
				contact, tables, bytes = append(contact, h.contact), append(tables, h.tables), h.callBytes
			})
		}
		b.ReportMetric(float64(len(tables)), "heals")
		figure(b, "contact", contact)
		figure(b, "tables", tables)
		b.ReportMetric(float64(bytes)/1e6, "calls-MB")
		bubble(b, func(t *testing.T) {
			took, bytes := rawHeal(t, n, jobs, cut, 5*time.Minute)
			b.ReportMetric(took.Seconds(), "raw-tables-s")
			b.ReportMetric(float64(bytes)/1e6, "raw-streams-MB")
		})
	}
}

func benchRest(b *testing.B, n, jobs int) {
	for b.Loop() {
		bubble(b, func(t *testing.T) {
			r := measureRest(t, n, jobs, 10*time.Minute)
			b.ReportMetric(r.packets, "packets-B/s")
			b.ReportMetric(r.streams, "streams-B/s")
			b.ReportMetric(r.calls, "calls-B/s")
		})
		bubble(b, func(t *testing.T) {
			r := rawRest(t, n, 0, 10*time.Minute)
			b.ReportMetric(r.packets, "raw-packets-B/s")
			b.ReportMetric(r.streams, "raw-streams-B/s")
		})
	}
}

// What a node sends at rest: calls are anti-entropy's, packets memberlist's probes with the digests, streams its member lists. Raw is
// memberlist without any table.
func BenchmarkRest50Jobs100(b *testing.B)   { benchRest(b, 50, 100) }
func BenchmarkRest50Jobs10000(b *testing.B) { benchRest(b, 50, 10_000) }

// What accounts cost, for each running job, both replicas together.
func BenchmarkAccounts50(b *testing.B) {
	for b.Loop() {
		bubble(b, func(t *testing.T) { b.ReportMetric(measureAccounts(t, 50, 5, 10*time.Minute), "B/s/job") })
	}
}

// A hundred claims within a second, all of them everywhere: medians of ten.
func BenchmarkBurst200(b *testing.B) {
	for b.Loop() {
		var took, raw []time.Duration
		for range 10 {
			bubble(b, func(t *testing.T) { took = append(took, measureBurst(t, 200, 100)) })
			bubble(b, func(t *testing.T) { raw = append(raw, rawBurst(t, 200, 100, 3*time.Minute)) })
		}
		figure(b, "all", took)
		figure(b, "raw", raw)
	}
}
