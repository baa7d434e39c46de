package agent

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/agent/api"
	"qosctl/gossip"
	"qosctl/qos"
)

func TestAStepIsRefusedWhileANodeHasNotTakenTheOneBefore(t *testing.T) {
	t.Parallel()
	const old, fresh = "aaaa00000001", "bbbb00000002"
	ring := func(node string, prints ...string) api.NodeKeys {
		n := api.NodeKeys{Node: node}
		for i, p := range prints {
			n.Keys = append(n.Keys, api.KeyInfo{Fingerprint: p, Primary: i == 0})
		}
		return n
	}
	away := api.NodeKeys{Node: "n2", Error: "it does not answer"}
	for _, tt := range []struct {
		name  string
		step  api.KeyChange
		nodes []api.NodeKeys
		want  string // beginning of the refusal; "": it is taken
	}{
		{"a new key is added anywhere", api.KeyChange{Do: "add"}, []api.NodeKeys{ring("n0", old), away}, ""},
		{"one that all have is used", api.KeyChange{Do: "use", Fingerprint: "bbbb"}, []api.NodeKeys{ring("n0", old, fresh), ring("n1", fresh, old)}, ""},
		{"one that a node lacks is not", api.KeyChange{Do: "use", Fingerprint: "bbbb"}, []api.NodeKeys{ring("n0", old, fresh), ring("n1", old)}, "not every node has key bbbb00000002 yet: n1"},
		{"nor is it by force", api.KeyChange{Do: "use", Fingerprint: "bbbb", Force: true}, []api.NodeKeys{ring("n0", old, fresh), ring("n1", old)}, "not every node has key"},
		{"nobody is locked out", api.KeyChange{Do: "use", Fingerprint: "bbbb"}, []api.NodeKeys{ring("n0", old, fresh), away}, "what these nodes have is not known, and they would be locked out: n2"},
		{"but by force", api.KeyChange{Do: "use", Fingerprint: "bbbb", Force: true}, []api.NodeKeys{ring("n0", old, fresh), away}, ""},
		{"one in use is not removed", api.KeyChange{Do: "remove", Fingerprint: "aaaa"}, []api.NodeKeys{ring("n0", fresh, old), ring("n1", old, fresh)}, "key aaaa00000001 is in use yet: n1"},
		{"one that none uses is", api.KeyChange{Do: "remove", Fingerprint: "AAAA"}, []api.NodeKeys{ring("n0", fresh, old), ring("n1", fresh)}, ""},
		{"nobody is left with it", api.KeyChange{Do: "remove", Fingerprint: "aaaa"}, []api.NodeKeys{ring("n0", fresh, old), away}, "what these nodes have is not known"},
		{"an unknown key", api.KeyChange{Do: "use", Fingerprint: "cccc"}, []api.NodeKeys{ring("n0", old)}, `no node has a key "cccc"`},
		{"too little of it", api.KeyChange{Do: "use", Fingerprint: "aaa"}, []api.NodeKeys{ring("n0", old)}, `fingerprint: "aaa" is shorter than 4`},
		{"two that begin so", api.KeyChange{Do: "use", Fingerprint: "aaaa"}, []api.NodeKeys{ring("n0", old, "aaaa00000009")}, `"aaaa" means several keys`},
		{"no fingerprint", api.KeyChange{Do: "remove"}, []api.NodeKeys{ring("n0", old)}, "fingerprint: remove wants that of a key"},
		{"a key where none belongs", api.KeyChange{Do: "use", Fingerprint: "aaaa", Key: "x"}, []api.NodeKeys{ring("n0", old)}, "key: only a step add takes a key"},
		{"no step", api.KeyChange{Do: "rotate"}, nil, "do: want add, use or remove"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := planStep(tt.step, tt.nodes)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.want == "" && tt.step.Fingerprint != "" && len(got.Fingerprint) != 12:
				t.Errorf("the fingerprint is %q", got.Fingerprint)
			case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)):
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// ringed is a cluster whose nodes have a key file each.
func ringed(t *testing.T, n int) *trio {
	t.Helper()
	return startCluster(t, n, func(_ int, n *node) {
		key, err := os.ReadFile(n.cfg.Cluster.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		n.cfg.Cluster.KeyFile = filepath.Join(t.TempDir(), "cluster.key")
		if err := os.WriteFile(n.cfg.Cluster.KeyFile, key, 0o600); err != nil {
			t.Fatal(err)
		}
	})
}

// rings are the fingerprints that each node has, the primary first.
func rings(k api.Keyring) map[string][]string {
	m := map[string][]string{}
	for _, n := range k.Nodes {
		m[n.Node] = []string{}
		for _, key := range n.Keys {
			m[n.Node] = append(m[n.Node], key.Fingerprint)
		}
	}
	return m
}

func same(nodes []string, prints ...string) map[string][]string {
	m := map[string][]string{}
	for _, n := range nodes {
		m[n] = prints
	}
	return m
}

func TestTheKeyOfAClusterIsExchangedWhileItRuns(t *testing.T) {
	t.Parallel()
	c := ringed(t, 3)
	a, b, nodes := c.nodes[0], c.nodes[1], []string{"n0", "n1", "n2"}
	client := b.client()
	a.submit(idA, sleeper)
	c.until("all know the job", func() bool {
		return !slices.ContainsFunc(c.nodes, func(n *node) bool { _, ok := n.shared(idA); return !ok })
	})
	before, err := client.Keyring(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	old := before.Nodes[0].Keys[0].Fingerprint
	step := func(k api.KeyChange) api.Keyring {
		t.Helper()
		got, err := client.ChangeKeyring(t.Context(), k)
		if err != nil {
			t.Fatalf("%+v: %v", k, err)
		}
		return got
	}
	added := step(api.KeyChange{Do: api.KeyAdd})
	fresh := added.Fingerprint
	if diff := cmp.Diff(same(nodes, old, fresh), rings(added)); diff != "" {
		t.Fatalf("added (-want +got):\n%s", diff)
	}
	if _, err := client.ChangeKeyring(t.Context(), api.KeyChange{Do: api.KeyRemove, Fingerprint: old}); !api.IsStatus(err, 409) {
		t.Errorf("the key in use is removed: %v", err)
	}
	if diff := cmp.Diff(same(nodes, fresh, old), rings(step(api.KeyChange{Do: api.KeyUse, Fingerprint: fresh[:6]}))); diff != "" {
		t.Fatalf("used (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(same(nodes, fresh), rings(step(api.KeyChange{Do: api.KeyRemove, Fingerprint: old}))); diff != "" {
		t.Fatalf("removed (-want +got):\n%s", diff)
	}
	for _, n := range c.nodes { // peers trust each other by the new key: what is asked of n2 is answered by n0
		if v, err := n.client().Job(t.Context(), idA); err != nil || v.Owner != "n0" || v.Away != "" {
			t.Errorf("%s: %+v, %v", n.cfg.Node, v, err)
		}
		text, err := os.ReadFile(n.cfg.Cluster.KeyFile)
		if err != nil || strings.Contains(string(text), old) {
			t.Errorf("the key file of %s: %v", n.cfg.Node, err)
		}
		ring, err := gossip.LoadKeyring(n.cfg.Cluster.KeyFile)
		if err != nil || len(ring.List()) != 1 || ring.List()[0].Fingerprint != fresh {
			t.Errorf("the key file of %s: %v", n.cfg.Node, err)
		}
	}
	a.end() // and after a restart
	a.begin()
	c.until("the node that was restarted is one of them", func() bool {
		l := c.nodes[2].agent.nodes(time.Now())
		k, err := c.nodes[2].client().Keyring(t.Context())
		return err == nil && l.Nodes[0].State == "alive" && cmp.Equal(same(nodes, fresh), rings(k))
	})
	if _, err := c.nodes[2].client().Cancel(t.Context(), idA); err != nil {
		t.Fatal(err)
	}
	a.await(idA, "cancelled", inPhase(qos.PhaseCancelled))
}

func TestANodeThatIsAwayIsNotLockedOutUnasked(t *testing.T) {
	t.Parallel()
	c := ringed(t, 2)
	a, b := c.nodes[0], c.nodes[1]
	b.end()
	c.until("it does not answer", func() bool { return a.agent.stateOf("n1", time.Now()) != nodeAlive })
	added, err := a.client().ChangeKeyring(t.Context(), api.KeyChange{Do: api.KeyAdd})
	if err != nil || len(added.Nodes) != 2 || added.Nodes[0].Error != "" || added.Nodes[1].Error == "" {
		t.Fatalf("add: %+v, %v", added, err)
	}
	use := api.KeyChange{Do: api.KeyUse, Fingerprint: added.Fingerprint}
	if _, err := a.client().ChangeKeyring(t.Context(), use); !api.IsStatus(err, 409) || !strings.Contains(err.Error(), "n1") {
		t.Errorf("use: %v", err)
	}
	b.begin()
	c.until("it is back, and gets the key", func() bool {
		k, err := a.client().ChangeKeyring(context.Background(), api.KeyChange{Do: api.KeyAdd, Fingerprint: added.Fingerprint})
		return err == nil && len(k.Nodes) == 2 && k.Nodes[1].Error == "" && len(k.Nodes[1].Keys) == 2
	})
	if k, err := a.client().ChangeKeyring(t.Context(), use); err != nil || k.Nodes[1].Keys[0].Fingerprint != added.Fingerprint {
		t.Errorf("use: %+v, %v", k, err)
	}
}

func TestAKeyFileChangedByHandIsTakenWhenAsked(t *testing.T) {
	t.Parallel()
	c := ringed(t, 2)
	a, b := c.nodes[0], c.nodes[1]
	fresh := gossip.NewKey()
	write := func(n *node, keys string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(n.cfg.Cluster.KeyFile, []byte(keys), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(n.cfg.Cluster.KeyFile, mode); err != nil {
			t.Fatal(err)
		}
	}
	old := a.agent.cluster.keys.Find(a.agent.ownKeys().Keys[0].Fingerprint)
	for _, keys := range []string{old + "\n" + fresh, fresh + "\n" + old, fresh} { // the three steps, by hand
		for _, n := range c.nodes {
			write(n, keys+"\n", 0o600)
			if err := n.agent.ReloadKeys(); err != nil {
				t.Fatal(err)
			}
		}
		k, err := a.client().Keyring(t.Context())
		if err != nil || k.Nodes[1].Error != "" || len(k.Nodes[1].Keys) != 1+strings.Count(keys, "\n") {
			t.Errorf("after %d keys: %+v, %v", 1+strings.Count(keys, "\n"), k, err)
		}
	}
	want := b.agent.ownKeys()
	write(b, "nonsense\n", 0o600)
	if err := b.agent.ReloadKeys(); err == nil || strings.Contains(err.Error(), "nonsense") {
		t.Errorf("nonsense: %v", err)
	}
	write(b, old+"\n", 0o644)
	if err := b.agent.ReloadKeys(); err == nil {
		t.Error("a file that others may read was taken")
	}
	if diff := cmp.Diff(want, b.agent.ownKeys()); diff != "" {
		t.Errorf("the ring has changed (-want +got):\n%s", diff)
	}
}

func TestAKeyIsNotTakenOverTheNetwork(t *testing.T) {
	t.Parallel()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("a token that is long enough\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	c := startCluster(t, 1, func(_ int, n *node) { n.cfg.Listen, n.cfg.TokenFile = address, token })
	over, err := api.New(api.Options{Address: "http://" + address, Token: "a token that is long enough"})
	if err != nil {
		t.Fatal(err)
	}
	defer over.Close()
	key := gossip.NewKey()
	if _, err := over.ChangeKeyring(t.Context(), api.KeyChange{Do: api.KeyAdd, Key: key}); !api.IsStatus(err, 403) || strings.Contains(err.Error(), key) {
		t.Errorf("over the network: %v", err)
	}
	if k, err := c.nodes[0].client().ChangeKeyring(t.Context(), api.KeyChange{Do: api.KeyAdd, Key: key}); err != nil || len(k.Nodes[0].Keys) != 2 {
		t.Errorf("over the socket: %+v, %v", k, err)
	}
	if _, err := c.nodes[0].client().ChangeKeyring(t.Context(), api.KeyChange{Do: api.KeyAdd, Key: "c2hvcnQ="}); !api.IsStatus(err, 422) || strings.Contains(err.Error(), "c2hvcnQ") {
		t.Errorf("a key that is none: %v", err)
	}
}
