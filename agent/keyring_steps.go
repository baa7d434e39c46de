package agent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"qosctl/agent/api"
)

// minPrint is how much of a fingerprint must be given, in characters.
const minPrint = 4

// planStep checks a step against the key rings that nodes have, and completes its fingerprint. A step is refused while a node has not
// taken the one before, since that node would be locked out by it. It is pure.
func planStep(c api.KeyChange, nodes []api.NodeKeys) (api.KeyChange, error) {
	switch {
	case !slices.Contains([]string{api.KeyAdd, api.KeyUse, api.KeyRemove}, c.Do):
		return c, refuse(codeInvalid, "do: want add, use or remove (got %.20q)", c.Do)
	case c.Key != "" && (c.Do != api.KeyAdd || c.Fingerprint != ""):
		return c, refuse(codeInvalid, "key: only a step add takes a key, and then no fingerprint")
	case c.Fingerprint == "" && c.Do != api.KeyAdd:
		return c, refuse(codeInvalid, "fingerprint: %s wants that of a key", c.Do).hint("qosctl keyring list shows them")
	}
	if c.Fingerprint != "" {
		mark, err := wholePrint(c.Fingerprint, nodes)
		if err != nil {
			return c, err
		}
		c.Fingerprint = mark
	}
	var away, behind []string
	for _, n := range nodes {
		has, first := holds(n, c.Fingerprint)
		switch {
		case n.Error != "":
			away = append(away, n.Node)
		case c.Do == api.KeyUse && !has, c.Do == api.KeyRemove && first:
			behind = append(behind, n.Node)
		}
	}
	switch {
	case c.Do == api.KeyUse && len(behind) > 0:
		return c, refuse(codeConflict, "not every node has key %s yet: %s", c.Fingerprint, strings.Join(behind, ", ")).
			hint(fmt.Sprintf("qosctl keyring add %s gives it to them", c.Fingerprint))
	case c.Do == api.KeyRemove && len(behind) > 0:
		return c, refuse(codeConflict, "key %s is in use yet: %s", c.Fingerprint, strings.Join(behind, ", ")).
			hint("qosctl keyring use takes another one into use first")
	case c.Do != api.KeyAdd && len(away) > 0 && !c.Force:
		return c, refuse(codeConflict, "what these nodes have is not known, and they would be locked out: %s", strings.Join(away, ", ")).
			hint("wait for them, or go on without them by --force; they need the new key file by hand then")
	}
	return c, nil
}

// wholePrint is the one fingerprint of all rings that begins so.
func wholePrint(start string, nodes []api.NodeKeys) (string, error) {
	start = strings.ToLower(start)
	var found []string
	for _, n := range nodes {
		for _, k := range n.Keys {
			if strings.HasPrefix(k.Fingerprint, start) && !slices.Contains(found, k.Fingerprint) {
				found = append(found, k.Fingerprint)
			}
		}
	}
	switch {
	case len(start) < minPrint:
		return "", refuse(codeInvalid, "fingerprint: %q is shorter than %d characters", start, minPrint)
	case len(found) == 0:
		return "", refuse(codeNotFound, "no node has a key %.20q", start).hint("qosctl keyring list shows them")
	case len(found) > 1:
		return "", refuse(codeConflict, "%q means several keys: %s", start, strings.Join(found, ", "))
	}
	return found[0], nil
}

// holds says whether a node has a key, and whether it encrypts with it.
func holds(n api.NodeKeys, mark string) (has, first bool) {
	i := slices.IndexFunc(n.Keys, func(k api.KeyInfo) bool { return k.Fingerprint == mark })
	return i >= 0, i >= 0 && n.Keys[i].Primary
}

func sortKeys(list []api.NodeKeys) {
	slices.SortFunc(list, func(x, y api.NodeKeys) int { return cmp.Compare(x.Node, y.Node) })
}
