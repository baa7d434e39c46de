package agent

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mostScrape is the CPU time that a scrape of 100 jobs may take, compressed as Prometheus asks for it.
const mostScrape = 10 * time.Millisecond

// processCPU is the CPU time of this process, all threads together.
func processCPU(tb testing.TB) time.Duration {
	tb.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// busyness is the load of the machine over the last minute.
func busyness() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return -1
	}
	var one float64
	_, _ = fmt.Sscan(strings.Fields(string(text))[0], &one) // else 0
	return one
}

// BenchmarkScrape is one scrape of all that an agent has: CPU time of the whole process, garbage collection included.
func BenchmarkScrape(b *testing.B) {
	for _, jobs := range []int{100, 1000} {
		for _, encoding := range []string{"gzip", "identity"} {
			b.Run(fmt.Sprintf("jobs=%d/%s", jobs, encoding), func(b *testing.B) { benchScrape(b, jobs, encoding) })
		}
	}
}

func benchScrape(b *testing.B, jobs int, encoding string) {
	a := fullAgent(b)
	crowd(a, jobs, 0)
	page := a.metricsPage()
	var cost []time.Duration
	size := 0
	for b.Loop() {
		r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/metrics", nil)
		r.Header.Set("Accept-Encoding", encoding)
		w := httptest.NewRecorder()
		begin := processCPU(b)
		page.ServeHTTP(w, r)
		cost = append(cost, processCPU(b)-begin)
		size = w.Body.Len()
	}
	slices.Sort(cost)
	median := cost[len(cost)/2]
	b.ReportMetric(float64(median.Microseconds())/1000, "cpu-ms/scrape")
	b.ReportMetric(float64(size)/1000, "kB/page")
	b.ReportMetric(busyness(), "load1")
	if jobs == 100 && len(cost) >= 20 && median > mostScrape {
		b.Errorf("%s of CPU time, more than %s", median, mostScrape)
	}
}
