package monasca

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"qosctl/monasca/monascatest"
	"qosctl/qos"
)

// manyJobs are a thousand jobs at one moment.
func manyJobs(at time.Time, round int) []Job {
	list := make([]Job, 1000)
	for i := range list {
		list[i] = Job{
			ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), Name: fmt.Sprintf("/team/linpack%d", i), Framework: qos.Marathon, Image: "serlophug/linpack",
			Deadline: at.Add(time.Hour), Running: true, Prediction: at.Add(50 * time.Minute), Allocation: 1.4,
			Progress: float64(round * i), Desired: float64(round*i + 1), Ratio: 0.99, User: time.Duration(round+1) * time.Second, System: time.Second,
		}
	}
	return list
}

// heap is what is in use after a collection, in bytes.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Monasca is down for an hour, with a thousand jobs. All points arrive once, in the order of their times, and memory stays flat.
func TestAnHourWithoutMonasca(t *testing.T) {
	const rounds, perRound = 60, 10_000 // once a minute: ten metrics of each job
	virtual(t, func(r *rig) {
		last, count, wrong := map[string]int64{}, 0, 0
		r.monasca.OnPoint = func(p monascatest.Point) {
			key := p.Name + p.Dimensions["uuid"] + p.Dimensions["name"]
			if ms := p.At.UnixMilli(); ms <= last[key] {
				wrong++
			} else {
				last[key] = ms
			}
			count++
		}
		r.monasca.Break(always(monascatest.Fault{Status: 503, Body: `{"title":"Service unavailable"}`, Header: map[string]string{"Retry-After": "60"}}))
		var first, most uint64
		for i := range rounds {
			r.sender.Offer(Measure(Node{Name: "n"}, manyJobs(time.Now(), i), time.Now()))
			time.Sleep(time.Minute)
			if i%10 == 5 {
				h := heap()
				if most = max(most, h); i == 5 {
					first = h
				}
			}
		}
		v := r.sender.Stats()
		t.Logf("after the hour: %d measurements in %d bytes of spool, %d requests; heap %d at 5 minutes, at most %d", v.Spooled, v.SpoolBytes, v.Requests, first, most)
		if v.Spooled != rounds*perRound || count != 0 || v.Requests > 70 || len(v.Dropped) != 0 {
			t.Fatalf("%+v", v)
		}
		if most > first+4<<20 {
			t.Errorf("the heap grew from %d to %d bytes", first, most)
		}
		r.monasca.Break(nil)
		time.Sleep(3 * time.Minute)
		v = r.sender.Stats()
		if count != rounds*perRound || wrong != 0 || v.Sent != count || v.Spooled != 0 || v.Resent != 0 || v.State != Sending {
			t.Errorf("%d of %d arrived, %d of them not in order or twice: %+v", count, rounds*perRound, wrong, v)
		}
	})
}

func TestAnOutageLongerThanWhatIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.options.MaxAge = time.Hour
		r.start()
		r.monasca.Break(always(monascatest.Fault{Status: 503}))
		for i := range 120 {
			r.offer(i, 1)
			time.Sleep(time.Minute)
		}
		r.monasca.Break(nil)
		time.Sleep(90 * time.Second)
		got := r.arrived()
		if len(got) < 58 || len(got) > 61 || !slices.Equal(got, numbers(120-len(got), 120)) {
			t.Errorf("arrived are %v", short(got))
		}
		if v := r.sender.Stats(); v.Dropped[Expired] != 120-len(got) {
			t.Errorf("%+v", v)
		}
		r.stop()
	})
}

func TestADiskThatIsFullForAWhile(t *testing.T) {
	virtual(t, func(r *rig) {
		r.monasca.Break(always(monascatest.Fault{Status: 503}))
		r.offer(0, 10)
		sp := r.sender.spool
		sp.mu.Lock()
		blocker := segmentPath(sp.dir, sp.next)
		if err := os.Mkdir(blocker, 0o700); err != nil {
			t.Fatal(err)
		}
		sp.part = 1 // each record wants a file of its own now
		sp.mu.Unlock()
		r.offer(10, 10)
		if v := r.sender.Stats(); v.DiskFault == "" || v.Spooled != 20 {
			t.Fatalf("%+v", v)
		}
		r.monasca.Break(nil)
		time.Sleep(time.Minute)
		r.wantArrived(0, 20) // from memory
		if err := os.Remove(blocker); err != nil {
			t.Fatal(err)
		}
		r.offer(20, 10)
		time.Sleep(10 * time.Second)
		r.wantArrived(0, 30)
		if v := r.sender.Stats(); v.DiskFault != "" || v.Spooled != 0 {
			t.Errorf("%+v", v)
		}
	})
}

// spoolChild makes this test's program a process that spools and settles until it is killed: variable → the directory.
const spoolChild = "QOSCTL_TEST_SPOOL"

func TestMain(m *testing.M) {
	if dir := os.Getenv(spoolChild); dir != "" {
		spoolForEver(dir)
		os.Exit(3) // it can't be reached but by a fault
	}
	os.Exit(m.Run())
}

// spoolForEver appends numbered batches of three and settles two measurements for each, and says on its output what it has settled.
func spoolForEver(dir string) {
	s, err := openSpool(dir, 1<<30, silent)
	if err != nil {
		return
	}
	s.part = 2000
	next, err := strconv.Atoi(os.Getenv(spoolChild + "_FIRST"))
	if err != nil {
		return
	}
	for ; ; next += 3 {
		var lines [][]byte
		for i := range 3 {
			lines = append(lines, fmt.Appendf(nil, "%d %s", next+i, noise(next+i, 20)))
		}
		if s.append(lines, 1, 1) != nil {
			return
		}
		fmt.Fprintln(os.Stdout, "put", next+3)
		b, err := s.oldestBatch(-1)
		if err != nil || b == nil {
			return
		}
		n := min(2, len(b.lines))
		var first int
		if _, err := fmt.Sscan(string(b.lines[0]), &first); err != nil || s.settle(b, n) != nil {
			return
		}
		fmt.Fprintln(os.Stdout, "settled", first+n)
	}
}

// A real process under kill -9, again and again, in the same spool: nothing that it has said is lost, nothing comes twice but what it
// was settling right then, and the order stays.
func TestSpoolUnderKill(t *testing.T) {
	dir := t.TempDir()
	settled, put, from := 0, 0, 0
	for round := range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), spoolChild+"="+dir, fmt.Sprintf("%s_FIRST=%d", spoolChild, put))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := sync.OnceFunc(func() { _ = cmd.Process.Kill() })
		for line := 0; ; line++ {
			var verb string
			var n int
			if _, err := fmt.Fscan(out, &verb, &n); err != nil {
				break
			}
			if verb == "settled" {
				settled = n
			}
			if line > 10+37*round {
				kill() // what it writes meanwhile is read still
			}
		}
		kill()
		_ = cmd.Wait() // it was killed
		s, err := openSpool(dir, 1<<30, silent)
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.oldestBatch(-1)
		if err != nil || b == nil {
			t.Fatalf("round %d: %v, %v", round, b, err)
		}
		if _, err := fmt.Sscan(string(b.lines[0]), &from); err != nil {
			t.Fatal(err)
		}
		if from < settled || from > settled+2 {
			t.Fatalf("round %d: settled up to %d, it goes on from %d", round, settled, from)
		}
		put = from + s.left
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
	if diff := slices.Compare(numbers(from, put), take(t, testSpool(t, dir, 1<<30), put)); diff != 0 {
		t.Errorf("from %d to %d there are gaps", from, put)
	}
	if put < 100 {
		t.Errorf("only %d were put", put)
	}
}
