package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"qosctl/agent/api"
	"qosctl/agent/peer"
	"qosctl/gossip"
)

// The cluster's key is exchanged in three steps, each on all nodes before the next: the new one is added, used, and the old one removed.
// Any agent takes a step to all others; what was derived from the keys, the peers' TLS identity, follows the ring at once.

// keyringPath is where an agent tells its peers of its key ring, and takes a step.
const keyringPath = "/peer/v1/keyring"

// GenerateKeyFile makes a file with a new cluster key that nobody but its owner may read, and returns the key's fingerprint. It never
// replaces a file: all nodes of a cluster would be strangers to one another.
func GenerateKeyFile(path string) (string, error) {
	key := gossip.NewKey()
	mark, err := gossip.Fingerprint(key)
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("make a key file: %w", err)
	}
	_, err = f.WriteString("# The cluster's key: give every node this file, mode 0600. Keep it secret.\n" + key + "\n")
	if err = errors.Join(err, f.Chmod(0o600), f.Sync(), f.Close()); err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("make a key file: %w", err), os.Remove(path))
	}
	return mark, nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ReloadKeys reads the key ring's file again, which somebody may have changed by hand. What can't be read changes nothing.
func (a *Agent) ReloadKeys() error {
	if a.cluster == nil || a.cluster.keys == nil {
		return nil
	}
	a.keysMu.Lock()
	defer a.keysMu.Unlock()
	return a.reloadKeys()
}

// reloadKeys is ReloadKeys. The caller holds a.keysMu.
func (a *Agent) reloadKeys() error {
	changed, err := a.cluster.keys.Reload()
	if err != nil {
		return err
	}
	if !changed {
		return nil
	}
	a.log.Info("the cluster's key ring was changed in its file", "keys", len(a.cluster.keys.List()))
	return a.trustKeys()
}

// trustKeys has the peers' TLS identity follow the key ring. The caller holds a.keysMu.
func (a *Agent) trustKeys() error {
	if a.cfg.Cluster.CAFile != "" { // peers are known by the site's own authority
		return nil
	}
	if err := a.cluster.identity.SetKeys(a.cluster.keys.Keys()); err != nil {
		return fmt.Errorf("derive the peers' identity from the key ring: %w", err)
	}
	return nil
}

// changeKeys takes a step on this node.
func (a *Agent) changeKeys(c api.KeyChange) (api.NodeKeys, error) {
	a.keysMu.Lock()
	defer a.keysMu.Unlock()
	if err := a.reloadKeys(); err != nil { // what was written by hand is not lost
		return api.NodeKeys{}, err
	}
	ring := a.cluster.keys
	var err error
	switch c.Do {
	case api.KeyAdd:
		_, err = ring.Add(c.Key)
	case api.KeyUse:
		err = ring.Use(c.Fingerprint)
	case api.KeyRemove:
		err = ring.Remove(c.Fingerprint)
	default:
		err = refuse(codeInvalid, "do: want add, use or remove (got %.20q)", c.Do)
	}
	if err = errors.Join(err, a.trustKeys()); err != nil {
		return api.NodeKeys{}, err
	}
	a.log.Info("key ring", "step", c.Do, "key", c.Fingerprint)
	return a.ownKeys(), nil
}

func (a *Agent) ownKeys() api.NodeKeys {
	n := api.NodeKeys{Node: a.node, Keys: []api.KeyInfo{}}
	for _, k := range a.cluster.keys.List() {
		n.Keys = append(n.Keys, api.KeyInfo(k))
	}
	return n
}

// keyringRoutes is what peers ask of this node's key ring.
func (a *Agent) keyringRoutes(m *http.ServeMux) {
	m.HandleFunc("GET "+keyringPath, func(w http.ResponseWriter, _ *http.Request) { peer.Answer(w, http.StatusOK, a.ownKeys()) })
	m.HandleFunc("POST "+keyringPath, func(w http.ResponseWriter, r *http.Request) {
		var c api.KeyChange
		err := peer.Read(r, &c)
		var n api.NodeKeys
		if err == nil {
			n, err = a.changeKeys(c)
		}
		if err != nil {
			failPeer(w, err)
			return
		}
		a.log.Info("key ring changed by a peer", "peer", peer.Caller(r.Context()), "step", c.Do)
		peer.Answer(w, http.StatusOK, n)
	})
}

// onAllNodes asks each node that has not left, this one first, and answers in the order of their names.
func (a *Agent) onAllNodes(ctx context.Context, method string, body any, here func() (api.NodeKeys, error)) []api.NodeKeys {
	own, err := here()
	if err != nil {
		own = api.NodeKeys{Node: a.node, Keys: []api.KeyInfo{}, Error: err.Error()}
		if method != http.MethodGet {
			return []api.NodeKeys{own} // what this node refuses is asked of no other
		}
	}
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		list  = []api.NodeKeys{own}
		slots = make(chan struct{}, 16)
	)
	for _, m := range a.cluster.mesh.Members() {
		if m.Name == a.node || m.State == gossip.Left {
			continue
		}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			n := api.NodeKeys{Node: m.Name}
			switch {
			case m.State == gossip.Dead || m.Meta.Peer == "":
				n.Error = "it does not answer: it is " + string(m.State)
			default:
				if err := a.askPeer(ctx, m, method, keyringPath, body, &n); err != nil {
					n.Error = err.Error()
				}
				n.Node = m.Name
			}
			if n.Keys == nil {
				n.Keys = []api.KeyInfo{}
			}
			mu.Lock()
			defer mu.Unlock()
			list = append(list, n)
		})
	}
	wg.Wait()
	sortKeys(list)
	return list
}

func (a *Agent) getKeyring(w http.ResponseWriter, r *http.Request) {
	if a.cluster == nil {
		answerError(w, errAlone())
		return
	}
	answer(w, http.StatusOK, api.Keyring{Nodes: a.onAllNodes(r.Context(), http.MethodGet, nil, func() (api.NodeKeys, error) { return a.ownKeys(), nil })})
}

func errAlone() *refusal {
	return refuse(codeConflict, "this agent is alone: it has no key ring").
		hint("qosctl keyring generate makes a key file; cluster.key_file in the configuration names it")
}

// postKeyring takes a step on all nodes.
func (a *Agent) postKeyring(w http.ResponseWriter, r *http.Request) {
	var c api.KeyChange
	err := readBody(w, r, &c)
	_, socket := r.Context().Value(callerKey{}).(caller)
	switch {
	case err != nil:
	case a.cluster == nil:
		err = errAlone()
	case c.Key != "" && !socket:
		err = refuse(codeForbidden, "a key is not taken over the network").hint("use the agent's unix socket, or let the agent make the key")
	}
	var k api.Keyring
	if err == nil {
		k, err = a.stepKeys(context.WithoutCancel(r.Context()), c) // once begun, it goes to all
	}
	if err != nil {
		answerError(w, err)
		return
	}
	answer(w, http.StatusOK, k)
}

// stepKeys has all nodes take a step, if they have taken the one before.
func (a *Agent) stepKeys(ctx context.Context, c api.KeyChange) (api.Keyring, error) {
	before := a.onAllNodes(ctx, http.MethodGet, nil, func() (api.NodeKeys, error) { return a.ownKeys(), nil })
	c, err := planStep(c, before)
	if err != nil {
		return api.Keyring{}, err
	}
	if c.Do == api.KeyAdd {
		if c, err = a.keyToAdd(c); err != nil {
			return api.Keyring{}, err
		}
	}
	k := api.Keyring{Fingerprint: c.Fingerprint}
	k.Nodes = a.onAllNodes(ctx, http.MethodPost, c, func() (api.NodeKeys, error) { return a.changeKeys(c) })
	return k, nil
}

// keyToAdd fills in the key that is to be added: the one given, one that this node has already, or a new one.
func (a *Agent) keyToAdd(c api.KeyChange) (api.KeyChange, error) {
	switch {
	case c.Key != "":
	case c.Fingerprint != "":
		if c.Key = a.cluster.keys.Find(c.Fingerprint); c.Key == "" {
			return c, refuse(codeNotFound, "this node has no key %s to give to others", c.Fingerprint).hint("qosctl keyring list shows who has it: ask there")
		}
	default:
		c.Key = gossip.NewKey()
	}
	mark, err := gossip.Fingerprint(c.Key)
	if err != nil {
		return c, refuse(codeInvalid, "key: %s", err)
	}
	c.Fingerprint = mark
	return c, nil
}
