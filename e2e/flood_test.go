package e2e

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"qosctl/agent/pki"
)

// What a flood is, and what an agent must bear of it.
const (
	floodClients = 10_000
	floodCalm    = 9 * time.Second // without it, for comparison
	floodTime    = 13 * time.Second
	floodPeriod  = 0.05 // by which the controller's period may be another one
	floodMemory  = 256  // MiB that the agent may take
	floodToken   = "flood" + "-token-of-an-operator"
)

// TestFlood has ten thousand clients do what an agent must bear, from one address and from many, at its network address and at the stand-ins'
// socket: say nothing, say it slowly, say it without an end, send a gigabyte, half close, read nothing. Meanwhile the controller's period is
// what it was before, memory is bounded, and Prometheus is answered.
func TestFlood(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) { newFlood(t, scheme).run() })
	}
}

type flood struct {
	*cluster
	scheme, address string
	client          *http.Client // as Prometheus
	job             string
}

func newFlood(t *testing.T, scheme string) *flood {
	t.Helper()
	if !wanted() {
		t.Skip("end-to-end tests run as root with QOSCTL_E2E=1: make e2e")
	}
	files := t.TempDir()
	token := filepath.Join(files, "token")
	if err := os.WriteFile(token, []byte(floodToken), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &flood{scheme: scheme, address: freeAddr(t), client: &http.Client{Timeout: 10 * time.Second}}
	args := []string{"--listen", f.address, "--set", "token_file=" + token}
	if scheme == "https" {
		d, err := pki.Init(files, "flood", time.Hour, time.Now(), false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Issue(pki.Request{Role: pki.Server, Name: "agent", IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, Life: time.Hour}, "", time.Now(), false); err != nil {
			t.Fatal(err)
		}
		roots, err := pki.ReadPool(filepath.Join(files, pki.CAFile))
		if err != nil {
			t.Fatal(err)
		}
		f.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
		args = append(args, "--set", "tls.cert_file="+filepath.Join(files, "agent.crt"), "--set", "tls.key_file="+filepath.Join(files, "agent.key"))
	}
	f.cluster = start(t, args...)
	t.Cleanup(f.client.CloseIdleConnections)
	file := marathonJob("/flooded")
	file["cmd"], file["cpus"] = "while :; do :; done", 0.1
	file["qos"] = map[string]any{"duration": 600, "deadline": 3600, "desv_deadline": 0.1}
	f.job = f.submit(write(t, file))
	f.until("the job runs", 30*time.Second, func() bool { return f.cluster.job(f.job).Progress > 0 })
	return f
}

func (f *flood) run() {
	busy := load() > 2*float64(runtime.NumCPU())
	calm, before := f.watch(floodCalm)
	stop := f.clients()
	storm, during := f.watch(floodTime)
	f.t.Logf("load %.1f; %s: %s", load(), f.scheme, stop())
	f.t.Logf("without: %s, at most %d MiB; %s", calm, before.memory, before.scrapes())
	f.t.Logf("with:    %s, at most %d MiB; %s", storm, during.memory, during.scrapes())
	switch moved := math.Abs(storm.mean/calm.mean - 1); {
	case moved > floodPeriod && busy:
		f.t.Logf("the controller's period has moved by %.1f %%, on a machine with too much else to do to count", 100*moved)
	case moved > floodPeriod:
		f.t.Errorf("the controller's period has moved by %.1f %%", 100*moved)
	}
	if during.memory > floodMemory {
		f.t.Errorf("the agent took %d MiB", during.memory)
	}
	if during.scraped == 0 || !busy && during.scraped < during.asked*4/5 {
		f.t.Errorf("of %d scrapes %d were answered: %v", during.asked, during.scraped, during.fault)
	}
	f.until("afterwards it answers", 20*time.Second, func() bool { return f.scrape() == nil })
}

// load is how many want to run, a minute's average.
func load() (n float64) {
	b, err := os.ReadFile("/proc/loadavg")
	if err == nil {
		_, err = fmt.Sscan(string(b), &n)
	}
	if err != nil {
		return math.Inf(1)
	}
	return n
}

// periods are the times between two looks of the controller, in seconds.
type periods struct {
	n                 int
	mean, least, most float64
}

func (p periods) String() string {
	return fmt.Sprintf("%d periods of %.4f s (%.4f to %.4f)", p.n, p.mean, p.least, p.most)
}

// health is what was seen of the agent meanwhile.
type health struct {
	memory         int64   // MiB, the most
	cpu            float64 // seconds
	asked, scraped int
	slowest        time.Duration // scrape
	fault          error         // of the last scrape that failed
}

func (h health) scrapes() string {
	return fmt.Sprintf("%.1f s of CPU; %d of %d scrapes, the slowest took %s", h.cpu, h.scraped, h.asked, h.slowest.Round(time.Millisecond))
}

// watch looks at the agent for a while. The controller's looks are those that it explains.
func (f *flood) watch(d time.Duration) (p periods, h health) {
	f.t.Helper()
	begin, pid := time.Now(), f.agentPID()
	looks := map[time.Time]bool{}
	spent := cpuTime(f.t, pid)
	defer func() { h.cpu = cpuTime(f.t, pid) - spent }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for time.Since(begin) < d {
		<-tick.C
		h.asked++
		asked := time.Now()
		if err := f.scrape(); err == nil {
			h.scraped++
		} else {
			h.fault = err
		}
		h.slowest = max(h.slowest, time.Since(asked))
		h.memory = max(h.memory, memory(f.t, pid))
		x, err := f.api.Explain(f.t.Context(), f.job)
		if err != nil {
			f.t.Errorf("the admin socket: %v", err)
			continue
		}
		for _, one := range x.Decisions {
			if one.At.After(begin) {
				looks[one.At] = true
			}
		}
	}
	var at []time.Time
	for t := range looks {
		at = append(at, t)
	}
	slices.SortFunc(at, time.Time.Compare)
	if len(at) < 4 {
		f.t.Fatalf("the controller looked %d times in %s", len(at), d)
	}
	p = periods{n: len(at) - 1, least: math.Inf(1), mean: at[len(at)-1].Sub(at[0]).Seconds() / float64(len(at)-1)}
	for i := range p.n {
		one := at[i+1].Sub(at[i]).Seconds()
		p.least, p.most = min(p.least, one), max(p.most, one)
	}
	return p, h
}

func (f *flood) scrape() error {
	r, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, f.scheme+"://"+f.address+"/metrics", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := f.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", resp.Status)
	}
	return nil
}

// cpuTime is what a process has spent, in seconds.
func cpuTime(t *testing.T, pid int) float64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, err := strconv.ParseFloat(fields[11], 64)
	if err != nil {
		t.Fatal(err)
	}
	system, err := strconv.ParseFloat(fields[12], 64)
	if err != nil {
		t.Fatal(err)
	}
	return (user + system) / 100 // USER_HZ
}

// memory is what a process has in memory, in MiB.
func memory(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}

// clients starts the flood, in a process of its own, so that who watches is not kept waiting by it. stop ends it, and says what it did.
func (f *flood) clients() (stop func() string) {
	f.t.Helper()
	self, err := os.Executable()
	if err != nil {
		f.t.Fatal(err)
	}
	c := exec.CommandContext(f.t.Context(), self)
	c.Env = append(os.Environ(), floodVar+"="+f.scheme+" "+f.address+" "+filepath.Join(f.dir, "run", "standin.sock"))
	c.Stderr = os.Stderr
	var did strings.Builder
	c.Stdout = &did
	in, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return func() string {
		if err := errors.Join(in.Close(), c.Wait()); err != nil {
			f.t.Errorf("the clients: %v", err)
		}
		return did.String()
	}
}
