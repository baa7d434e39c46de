package gossip

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKeysAreExchangedAndNeverShown(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cluster.key")
	old, next := NewKey(), NewKey()
	if err := os.WriteFile(path, []byte("# ours\n\n  "+old+"  \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := LoadKeyring(path)
	if err != nil {
		t.Fatal(err)
	}
	first := k.List()[0].Fingerprint
	second, err := k.Add(next)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := k.Add(next); err != nil || again != second || len(k.List()) != 2 {
		t.Errorf("added twice: %q, %v", again, err)
	}
	if err := k.Remove(first); err == nil {
		t.Error("the key that encrypts was removed")
	}
	if err := k.Use("nonsense"); err == nil {
		t.Error("a key that is not there is used")
	}
	if err := k.Use(second); err != nil {
		t.Fatal(err)
	}
	want := []KeyInfo{{second, true}, {first, false}}
	if d := cmp.Diff(want, k.List()); d != "" {
		t.Error(d)
	}
	back, err := LoadKeyring(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, back.List()); d != "" {
		t.Errorf("in the file: %s", d)
	}
	if got := k.ring.GetPrimaryKey(); !cmp.Equal(got, k.Primary()) || len(k.ring.GetKeys()) != 2 {
		t.Error("memberlist has other keys")
	}
	if err := k.Remove(first); err != nil || len(k.ring.GetKeys()) != 1 {
		t.Errorf("%v, memberlist has %d keys", err, len(k.ring.GetKeys()))
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(files) != 1 {
		t.Errorf("%d files are left, %v", len(files), err)
	}
	for _, i := range append(k.List(), want...) {
		if strings.Contains(old+next, i.Fingerprint) {
			t.Error("a fingerprint is part of a key")
		}
	}
}

func TestABadKeyRingIsRefusedWithoutQuotingIt(t *testing.T) {
	t.Parallel()
	key := NewKey()
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"others may read it": {key, 0o640, "chmod"},
		"empty":              {"# nothing\n", 0o600, "no key"},
		"short":              {key[:20], 0o600, "line 1"},
		"long hex":           {strings.Repeat("ab", 33), 0o600, "line 1"},
		"twice":              {key + "\n" + key, 0o600, "twice"},
		"too many":           {many(17), 0o600, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "k")
			if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := LoadKeyring(path)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), key[:12]) {
				t.Errorf("%v", err)
			}
		})
	}
	if _, err := NewKeyring(hex.EncodeToString(make([]byte, 32))); err != nil {
		t.Errorf("hex: %v", err)
	}
}

func many(n int) string {
	var b strings.Builder
	for range n {
		b.WriteString(NewKey() + "\n")
	}
	return b.String()
}

func TestAFileThatCannotBeWrittenLeavesTheKeysAsTheyWere(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "sub")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "k")
	if err := os.WriteFile(path, []byte(NewKey()), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := LoadKeyring(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Add(NewKey()); err == nil || len(k.List()) != 1 || len(k.ring.GetKeys()) != 1 {
		t.Errorf("%v, %d keys", err, len(k.List()))
	}
}
