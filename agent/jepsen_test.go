package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"qosctl/agent/api"
)

// seedsVar says how many seeds TestJepsen runs, seedVar from which on: QOSCTL_SEED=17 QOSCTL_SEEDS=1 replays one.
const (
	seedsVar = "QOSCTL_SEEDS"
	seedVar  = "QOSCTL_SEED"
)

func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestJepsen does to five agents what Jepsen does to databases, and checks that of each job one container runs afterwards, that none was
// lost, and that its account is the kernel's.
func TestJepsen(t *testing.T) {
	first := number(t, seedVar, 1)
	for i := range number(t, seedsVar, 4) {
		seed := first + i
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			simulate(t, seed, 5, nil, func(w *world) { chaos(w, rand.New(rand.NewPCG(seed, 11))) })
		})
	}
}

// simulate runs a scenario in a bubble, and fails with what happened if an invariant did not hold.
func simulate(t *testing.T, seed uint64, nodes int, cfg func(*Config), scenario func(*world)) {
	t.Helper()
	dir := ""
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // out of the bubble: what a killed agent had begun may write until its last goroutine has ended
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed, nodes, cfg)
		dir = w.dir
		stop := w.run()
		scenario(w)
		w.mu.Lock()
		failures, events := w.failures, w.events
		w.mu.Unlock()
		stop()
		if len(failures) == 0 {
			return
		}
		if !testing.Verbose() && len(events) > 400 {
			events = events[len(events)-400:]
		}
		t.Errorf("%s\n\nwhat happened:\n%s\n\nreplay: %s=%d %s=1 go test ./agent -run 'TestJepsen' -v", strings.Join(failures, "\n"), strings.Join(events, "\n"), seedVar, seed, seedsVar)
	})
}

// chaos is a run: jobs, faults one upon another, healing, and what must be true then.
func chaos(w *world, rng *rand.Rand) {
	if !w.together(time.Minute) {
		return
	}
	// The faults of a seed come at the same times, however long it took until all were together, and not while tickers tick.
	at := 15*time.Second + 613*time.Microsecond
	w.at(at)
	for i := range 2 + rng.IntN(3) {
		command := "burn 100000s"
		if rng.IntN(3) == 0 {
			command = fmt.Sprintf("burn %ds", 60+rng.IntN(300))
		}
		w.submit(w.nodes[rng.IntN(len(w.nodes))], simID(i), fmt.Sprint("/j", i), command, 0.25+float64(rng.IntN(4))/4)
	}
	at += time.Duration(rng.IntN(60)) * time.Second
	for range 4 + rng.IntN(8) {
		w.at(at)
		mischief(w, rng)
		at += time.Duration(rng.IntN(45_000)) * time.Millisecond
	}
	w.at(at)
	w.settle()
}

// at waits until the world is so old, if it is not yet.
func (w *world) at(age time.Duration) { pause(context.Background(), age-time.Since(w.began)) }

func simID(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", i) }

// healTime is how long after healing nothing may be left of the faults.
const healTime = 4 * time.Minute

// settle heals the world, gives it its time, and judges it.
func (w *world) settle() {
	w.heal()
	w.letGo()
	w.mu.Lock()
	w.calm = time.Now().Add(healTime - time.Minute)
	w.mu.Unlock()
	w.together(healTime)
	pause(context.Background(), healTime)
	w.judge()
}

// letGo ends a hold that somebody has put.
func (w *world) letGo() {
	w.until(time.Minute, "the hold ends", func() bool {
		code, _ := w.nodes[0].admin(context.Background(), http.MethodPost, "/v1/hold", api.Hold{All: true})
		return code == http.StatusOK
	})
}

// mischief begins or ends a fault, or does what a user might do meanwhile.
func mischief(w *world, rng *rand.Rand) {
	n := w.nodes[rng.IntN(len(w.nodes))]
	switch rng.IntN(16) {
	case 0, 1, 2:
		w.cut(split(w, rng)...)
	case 3:
		w.cut()
	case 4:
		n.kill()
	case 5:
		n.kill()
		pause(context.Background(), time.Duration(rng.IntN(20))*time.Second)
		n.boot()
	case 6:
		n.down()
	case 7:
		n.reboot()
	case 8:
		n.pause()
	case 9:
		n.resume()
	case 10:
		w.mu.Lock()
		n.skew = time.Duration(rng.IntN(600)-300) * time.Second
		w.say("%s: clock set by %v", n.name, n.skew)
		w.mu.Unlock()
	case 11:
		w.net.Loss(rng.Float64() / 3)
		w.mu.Lock()
		w.trouble = rng.Float64() / 10
		w.mu.Unlock()
	case 12:
		w.migrateAny(n, rng)
	case 13:
		w.cancelAny(n, rng)
	case 14:
		w.holdAny(n, rng.IntN(2) == 0)
	case 15:
		if rng.IntN(2) == 0 {
			n.kill()
			n.wipe()
		}
		n.boot()
	}
}

// split parts nodes and master in two.
func split(w *world, rng *rand.Rand) [][]string {
	var one []string
	for _, n := range w.nodes {
		if rng.IntN(2) == 0 {
			one = append(one, n.name)
		}
	}
	if rng.IntN(2) == 0 {
		one = append(one, masterName)
	}
	return [][]string{one}
}

// patience is how long a person waits for an answer.
const patience = 20 * time.Second

func (w *world) migrateAny(n *simNode, rng *rand.Rand) {
	w.mu.Lock()
	jobs := w.jobs
	w.mu.Unlock()
	if len(jobs) == 0 {
		return
	}
	j := jobs[rng.IntN(len(jobs))]
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	code, body := n.admin(ctx, http.MethodPost, "/v1/jobs/"+j.id+"/migrate", struct{}{})
	w.note("%s: migrate %s: %d %s", n.name, j.name, code, clipped(body))
}

func (w *world) cancelAny(n *simNode, rng *rand.Rand) {
	w.mu.Lock()
	jobs := w.jobs
	w.mu.Unlock()
	if len(jobs) < 2 {
		return
	}
	j := jobs[rng.IntN(len(jobs))]
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w.mu.Lock()
	j.cancelled = true // it may be carried out without an answer
	w.mu.Unlock()
	code, body := n.admin(ctx, http.MethodDelete, "/v1/jobs/"+j.id, nil)
	w.note("%s: cancel %s: %d %s", n.name, j.name, code, clipped(body))
}

// holdAny puts the cluster on hold, or lets it go on.
func (w *world) holdAny(n *simNode, on bool) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	code, body := n.admin(ctx, http.MethodPost, "/v1/hold", api.Hold{All: true, On: on, Reason: "exam"})
	w.note("%s: hold %t: %d %s", n.name, on, code, clipped(body))
}

// wipe loses the store of an agent that was killed.
func (n *simNode) wipe() {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.disk = ""
	n.w.say("%s: its store is lost", n.name)
}

func clipped(s string) string { return s[:min(len(s), 200)] }
