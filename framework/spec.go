package framework

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"qosctl/qos"
)

// MaxSpec bounds QOSCTL_SPEC in a task's environment, in bytes. A larger spec is left out: the agent then asks its peers.
const MaxSpec = 8 << 10

// maxPlainSpec bounds a spec when it is unpacked, so that a small text can't become a large one.
const maxPlainSpec = 1 << 20

// EncodeSpec packs a spec for QOSCTL_SPEC: base64 (standard alphabet) of the gzip of its JSON, without Source.
func EncodeSpec(s qos.Spec) (string, error) {
	s.Source = json.RawMessage("null")
	data, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("encode spec of %s: %w", s.Name, err)
	}
	var packed bytes.Buffer
	zip, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return "", err
	}
	if _, err := zip.Write(data); err != nil {
		return "", fmt.Errorf("pack spec of %s: %w", s.Name, err)
	}
	if err := zip.Close(); err != nil {
		return "", fmt.Errorf("pack spec of %s: %w", s.Name, err)
	}
	return base64.StdEncoding.EncodeToString(packed.Bytes()), nil
}

// DecodeSpec unpacks what EncodeSpec packed. Its Source is nil.
func DecodeSpec(text string) (qos.Spec, error) {
	if len(text) > MaxSpec {
		return qos.Spec{}, fmt.Errorf("decode spec: longer than %d KiB", MaxSpec>>10)
	}
	packed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return qos.Spec{}, fmt.Errorf("decode spec: %w", err)
	}
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return qos.Spec{}, fmt.Errorf("unpack spec: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(zip, maxPlainSpec+1))
	if err != nil {
		return qos.Spec{}, fmt.Errorf("unpack spec: %w", err)
	}
	if len(data) > maxPlainSpec {
		return qos.Spec{}, errors.New("unpack spec: larger than 1 MiB")
	}
	var s qos.Spec
	if err := json.Unmarshal(data, &s); err != nil {
		return qos.Spec{}, fmt.Errorf("decode spec: %w", err)
	}
	s.Source = nil
	return s, nil
}
