package monasca

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/zstd"
)

// A record is one batch in the spool: a header of fixed length and the measurements, a line of JSON each, compressed.
//
//	0  magic "qsm1"          4  length of the payload    8  number of measurements    12  CRC-32C of the payload
//	16 oldest, ms            24 newest, ms               32 CRC-32C of these 32 bytes
//
// All numbers are little-endian.
const (
	headerSize = 36
	maxPayload = 8 << 20  // bytes of a record, compressed
	maxPlain   = 64 << 20 // and not
	maxCount   = 100_000
)

var (
	magic   = [4]byte{'q', 's', 'm', '1'}
	castTab = crc32.MakeTable(crc32.Castagnoli)

	errTorn = errors.New("the record is torn or was changed")
)

// header describes a record.
type header struct {
	length         int // of the payload
	count          int // measurements
	crc            uint32
	oldest, newest int64 // milliseconds since 1970
}

func (h header) size() int64 { return headerSize + int64(h.length) }

// parseHeader reads a header; errTorn if it is none.
func parseHeader(b []byte) (header, error) {
	if len(b) < headerSize || [4]byte(b) != magic || crc32.Checksum(b[:32], castTab) != binary.LittleEndian.Uint32(b[32:]) {
		return header{}, errTorn
	}
	u := binary.LittleEndian
	length, count := u.Uint32(b[4:]), u.Uint32(b[8:])
	if length > maxPayload || count < 1 || count > maxCount {
		return header{}, errTorn
	}
	return header{
		length: int(length), count: int(count), crc: u.Uint32(b[12:]), oldest: int64(u.Uint64(b[16:])), newest: int64(u.Uint64(b[24:])),
	}, nil
}

// codec compresses and decompresses payloads. It is used by one goroutine at a time.
type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

func newCodec() (*codec, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("make a compressor: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPlain), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("make a decompressor: %w", err)
	}
	return &codec{enc: enc, dec: dec}, nil
}

// encode makes a record of lines without line breaks in them, at least one.
func (c *codec) encode(lines [][]byte, oldest, newest int64) ([]byte, header, error) {
	b := c.enc.EncodeAll(bytes.Join(lines, []byte{'\n'}), make([]byte, headerSize, 16<<10))
	h := header{length: len(b) - headerSize, count: len(lines), crc: crc32.Checksum(b[headerSize:], castTab), oldest: oldest, newest: newest}
	if h.length > maxPayload || h.count < 1 || h.count > maxCount {
		return nil, h, fmt.Errorf("a batch of %d measurements and %d bytes is too large", h.count, h.length)
	}
	u := binary.LittleEndian
	copy(b, magic[:])
	u.PutUint32(b[4:], uint32(h.length))
	u.PutUint32(b[8:], uint32(h.count))
	u.PutUint32(b[12:], h.crc)
	u.PutUint64(b[16:], uint64(h.oldest))
	u.PutUint64(b[24:], uint64(h.newest))
	u.PutUint32(b[32:], crc32.Checksum(b[:32], castTab))
	return b, h, nil
}

// decode reads a record's payload; errTorn if it is not what its header says.
func (c *codec) decode(h header, payload []byte) ([][]byte, error) {
	if len(payload) != h.length || crc32.Checksum(payload, castTab) != h.crc {
		return nil, errTorn
	}
	plain, err := c.dec.DecodeAll(payload, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errTorn, err)
	}
	lines := bytes.Split(plain, []byte{'\n'})
	if len(lines) != h.count {
		return nil, errTorn
	}
	return lines, nil
}
