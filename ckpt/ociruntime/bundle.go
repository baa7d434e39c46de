package ociruntime

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// annotationCRIU is runc's own: it names the CRIU configuration of a container.
const annotationCRIU = "org.criu.config"

// bundleConfig is what matters here of a bundle's configuration.
type bundleConfig struct {
	Annotations map[string]string `json:"annotations"`
	Process     *struct {
		Env []string `json:"env"`
	} `json:"process"`
}

const configName = "config.json" // of a bundle

func readBundle(dir string) (b bundleConfig, text []byte, err error) {
	if text, err = readFile(filepath.Join(dir, configName), maxJSON); err == nil {
		err = json.Unmarshal(text, &b)
	}
	if err != nil {
		return bundleConfig{}, nil, fmt.Errorf("read the bundle: %w", err)
	}
	return b, text, nil
}

// restoreFile is the file that a bundle's configuration names; "" for a container that is just created. In the environment the last word
// counts: the engine's comes after the job's.
func restoreFile(dir string) (string, error) {
	b, _, err := readBundle(dir)
	if err != nil {
		return "", err
	}
	if f := b.Annotations[Annotation]; f != "" || b.Process == nil {
		return f, nil
	}
	file := ""
	for _, kv := range b.Process.Env {
		if f, ok := strings.CutPrefix(kv, Env+"="); ok {
			file = f
		}
	}
	return file, nil
}

// nameCRIUsFile gives a bundle whose restore file is named by its environment the annotation that its engine could not give it: with it runc
// has CRIU read our configuration. The file, beside the restore file, may come to be there later; nobody but root can have made it.
func nameCRIUsFile(dir, file, root string) error {
	b, text, err := readBundle(dir)
	stem, ok := strings.CutSuffix(file, ".restore")
	if err != nil || !ok || b.Annotations[Annotation] != "" || b.Annotations[annotationCRIU] != "" {
		return err
	}
	if err := trusted(filepath.Dir(file), root); err != nil {
		return fmt.Errorf("restore file %s: %w", file, err)
	}
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(text, &whole); err != nil {
		return fmt.Errorf("read the bundle: %w", err)
	}
	if b.Annotations == nil {
		b.Annotations = map[string]string{}
	}
	b.Annotations[annotationCRIU] = stem + ".conf"
	if whole["annotations"], err = json.Marshal(b.Annotations); err == nil {
		text, err = json.Marshal(whole)
	}
	if err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	return replace(filepath.Join(dir, configName), text)
}

// replace replaces a file whole, with its mode.
func replace(name string, text []byte) error {
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	tmp := name + ".qosctl"
	if err = os.WriteFile(tmp, text, info.Mode().Perm()); err == nil {
		err = os.Rename(tmp, name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write the bundle: %w", err), os.Remove(tmp))
	}
	return nil
}
