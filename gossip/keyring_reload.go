package gossip

import "bytes"

// Find returns a key in the form that a key ring's file has, by its fingerprint; "": it is not there.
func (k *Keyring) Find(mark string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if i := k.find(mark); i >= 0 {
		return encodeKey(k.keys[i])
	}
	return ""
}

// Reload reads the file again and takes what it says, added and removed keys as well as another primary one. What can't be read changes
// nothing. It says whether there was anything new.
func (k *Keyring) Reload() (changed bool, err error) {
	if k.path == "" {
		return false, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	fresh, err := LoadKeyring(k.path)
	if err != nil {
		return false, err
	}
	former := k.keys
	for i, key := range fresh.keys {
		changed = changed || i >= len(former) || !bytes.Equal(key, former[i])
	}
	if !changed && len(fresh.keys) == len(former) {
		return false, nil
	}
	for _, key := range fresh.keys {
		if err := k.ring.AddKey(key); err != nil {
			return false, err
		}
	}
	if err := k.ring.UseKey(fresh.keys[0]); err != nil {
		return false, err
	}
	k.keys = fresh.keys
	for _, key := range former {
		if k.find(fingerprint(key)) < 0 {
			if err := k.ring.RemoveKey(key); err != nil {
				return true, err
			}
		}
	}
	return true, nil
}
