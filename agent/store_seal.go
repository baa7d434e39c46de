package agent

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
)

// seal encodes v as CRC-32C, then JSON.
func seal(v any) ([]byte, error) {
	var b bytes.Buffer
	err := sealTo(&b, v)
	return b.Bytes(), err
}

// sealTo appends what seal makes.
func sealTo(b *bytes.Buffer, v any) error {
	from := b.Len()
	b.Write(make([]byte, crc32.Size))
	if err := json.NewEncoder(b).Encode(v); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	b.Truncate(b.Len() - 1) // the encoder's newline
	sum := b.Bytes()[from:]
	binary.BigEndian.PutUint32(sum, crc32.Checksum(sum[crc32.Size:], castagnoli))
	return nil
}

func open(b []byte, v any) error {
	if len(b) < 4 || binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return fmt.Errorf("%w: checksum differs", errCorrupt)
	}
	if err := json.NewDecoder(bytes.NewReader(b[4:])).Decode(v); err != nil {
		return fmt.Errorf("%w: %w", errCorrupt, err)
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)
