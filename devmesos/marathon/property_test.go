package marathon

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"qosctl/devmesos/node"
)

// TestOneInstanceNeverOverlaps runs apps of one instance with strategy 0/0 through random changes, ends and kills: there are never
// two live tasks of it, and in the end it runs. Deployments are forced only while no task is being killed: a forced one does not
// wait for the task that its predecessor was killing, with Marathon as with us.
func TestOneInstanceNeverOverlaps(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		b := newBench(t, false)
		b.create(app("/a", polite))
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			b.randomStep(rt)
			if len(b.f.live) > 1 {
				rt.Fatalf("live together: %v", slices.Collect(maps.Keys(b.f.live)))
			}
		}
		for n := range 40 {
			if n == 20 {
				if _, _, err := b.Update(b.now, "/a", []byte("{"+polite+"}"), true, false, true); err != nil {
					rt.Fatal(err) // it also makes the app anew, if reverting its creation has deleted it
				}
			}
			for id := range maps.Clone(b.f.live) {
				if slices.Contains(b.f.kills, id) {
					b.say(id, node.Killed)
				} else {
					b.say(id, node.Running)
				}
			}
			b.pass(400 * time.Second)
		}
		if len(b.f.live) != 1 || len(b.deployments) != 0 {
			rt.Fatalf("in the end %d tasks, %d deployments", len(b.f.live), len(b.deployments))
		}
	})
}

func (b *bench) randomStep(rt *rapid.T) {
	id, killing := "", false
	for k := range b.f.live {
		id = k
		killing = slices.Contains(b.f.kills, k)
	}
	force := !killing && rapid.Bool().Draw(rt, "force")
	switch rapid.IntRange(0, 7).Draw(rt, "act") {
	case 0:
		_, _ = b.patch("/a", fmt.Sprintf(`{"cpus":%d}`, rapid.SampledFrom([]int{1, 2, 99}).Draw(rt, "cpus")), force)
	case 1:
		_, _ = b.patch("/a", fmt.Sprintf(`{"instances":%d}`, rapid.IntRange(0, 1).Draw(rt, "n")), force)
	case 2:
		_, _, _ = b.KillTasks(b.now, "/a", killRequest{})
	case 3:
		if len(b.deployments) > 0 && !killing {
			_, _ = b.EndDeployment(b.now, b.deployments[0].ID, force)
		}
	case 4:
		b.pass(time.Duration(rapid.IntRange(1, 100).Draw(rt, "s")) * time.Second)
	case 5:
		_, _ = b.Restart(b.now, "/a", force)
	default:
		if id != "" {
			b.say(id, rapid.SampledFrom([]node.State{node.Starting, node.Running, node.Finished, node.Failed, node.Killed}).Draw(rt, "state"))
		}
	}
	b.Tick(b.now)
}

func FuzzBodies(f *testing.F) {
	f.Add([]byte(app("/a", polite)), []byte(`{"cpus":2}`))
	f.Add([]byte(`{"id":"/a","args":["x"],"container":{"docker":{"image":"i","network":"BRIDGE","portMappings":[{"containerPort":1}]}}}`), []byte(`{"networks":[]}`))
	f.Add([]byte(`{"id":"a/b","cmd":"xx","unreachableStrategy":"disabled","constraints":[["a","LIKE","["]],"env":{"a":1}}`), []byte(`{"version":"x"}`))
	f.Add([]byte(`{"id":"/a","cmd":"xx","ports":[1],"fetch":[{}],"upgradeStrategy":null}`), []byte(`{"container":{"docker":{"network":"HOST"}},"uris":["a"]}`))
	f.Add([]byte(`{"id":"/a","cmd":"xx","cpus":0.001,"mem":0,"ports":[],"instances":999999999}`), []byte(`{"cpus":2,"instances":0}`))
	f.Fuzz(func(t *testing.T, body, update []byte) {
		for _, legacy := range []bool{false, true} {
			b := newBench(t, legacy)
			b.f.cpus = 1e6
			info, _, err := b.Create(b.now, body, false)
			b.Tick(b.now)
			if err != nil {
				continue
			}
			id := info["id"].(string)
			_, _, _ = b.Update(b.now, id, update, true, true, true)
			_, _ = b.UpdateAll(b.now, update, true, false, true)
			b.pass(time.Minute)
			if _, err := json.Marshal(b.appJSON(b.apps[id], embed{counts: true, tasks: true, failure: true})); err != nil {
				t.Fatal(err)
			}
		}
	})
}
