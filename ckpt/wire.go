package ckpt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/zstd"
)

// A stream is streamMagic and frames: the manifest as it stands in its file, the content of the files in the manifest's order from a position
// on, and an end. A frame is a header of frameSize bytes, big endian, and its payload:
//
//	kind u8, packing u8, zero u16, file u32, offset u64, length u32 (of the content), payload u32, CRC-32C u32 (of all before it and the payload)
//
// The checksum says where a broken stream may be taken up; whether the content is right, only the manifest's SHA-256 does.
const (
	streamMagic = "qosckpt1"
	frameSize   = 28
	chunkSize   = 256 << 10
	maxChunk    = 1 << 20
)

type kind uint8

const (
	kindManifest kind = iota + 1
	kindData
	kindZero // length bytes of zero, without a payload
	kindEnd  // nothing follows; file is the number of files
)

const (
	packedNone uint8 = iota
	packedZstd
)

// errWire is a stream that was cut or changed on its way: it is worth another try.
var errWire = errors.New("the stream is broken")

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	zeroChunk  [chunkSize]byte
)

// frame is a frame's header, without its checksum.
type frame struct {
	kind    kind
	packing uint8
	file    uint32
	offset  uint64
	length  uint32
	payload uint32
}

// put writes the header of a frame before its payload, which stands in b from frameSize on.
func (f frame) put(b []byte) {
	b[0], b[1], b[2], b[3] = byte(f.kind), f.packing, 0, 0
	binary.BigEndian.PutUint32(b[4:], f.file)
	binary.BigEndian.PutUint64(b[8:], f.offset)
	binary.BigEndian.PutUint32(b[16:], f.length)
	binary.BigEndian.PutUint32(b[20:], f.payload)
	sum := crc32.Update(crc32.Checksum(b[:24], castagnoli), castagnoli, b[frameSize:])
	binary.BigEndian.PutUint32(b[24:], sum)
}

func parseFrame(b []byte) frame {
	return frame{
		kind: kind(b[0]), packing: b[1], file: binary.BigEndian.Uint32(b[4:]), offset: binary.BigEndian.Uint64(b[8:]),
		length: binary.BigEndian.Uint32(b[16:]), payload: binary.BigEndian.Uint32(b[20:]),
	}
}

// encoder writes frames.
type encoder struct {
	w      io.Writer
	z      *zstd.Encoder
	plain  []byte // frameSize, and room for a chunk
	packed []byte
	wait   int // chunks that are not tried to be packed
	vain   int // how many that was last
}

func newEncoder(w io.Writer) (*encoder, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(chunkSize), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("pack a checkpoint: %w", err)
	}
	return &encoder{w: w, z: z, plain: make([]byte, frameSize+chunkSize), packed: make([]byte, frameSize, frameSize+2*chunkSize)}, nil
}

// room is where the next chunk is to be read into.
func (e *encoder) room() []byte { return e.plain[frameSize:] }

// send writes the first n bytes of room as a frame.
func (e *encoder) send(f frame, n int) error {
	chunk := e.plain[frameSize : frameSize+n]
	f.length = uint32(n)
	if f.kind == kindData && bytes.Equal(chunk, zeroChunk[:n]) {
		f.kind = kindZero
		return e.write(f, e.plain[:frameSize])
	}
	if e.wait > 0 { // what could not be packed just now can't be most likely: pages of floating point numbers, packed files
		e.wait--
	} else {
		e.packed = e.z.EncodeAll(chunk, e.packed[:frameSize])
		if len(e.packed)-frameSize <= n-n/16 {
			e.vain = 0
			f.packing = packedZstd
			return e.write(f, e.packed)
		}
		e.vain = min(2*e.vain+1, 15)
		e.wait = e.vain
	}
	return e.write(f, e.plain[:frameSize+n])
}

func (e *encoder) write(f frame, b []byte) error {
	f.payload = uint32(len(b) - frameSize)
	f.put(b)
	_, err := e.w.Write(b)
	return err
}

func (e *encoder) close() { _ = e.z.Close() } // it has no writer of its own to flush

// decoder reads frames.
type decoder struct {
	r      io.Reader
	z      *zstd.Decoder
	header [frameSize]byte
	buf    []byte
	out    []byte
}

func newDecoder(r io.Reader) (*decoder, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxChunk), zstd.WithDecoderMaxWindow(maxChunk))
	if err != nil {
		return nil, fmt.Errorf("unpack a checkpoint: %w", err)
	}
	return &decoder{r: r, z: z, out: make([]byte, 0, chunkSize)}, nil
}

func (d *decoder) close() { d.z.Close() }

// magic reads the begin of a stream.
func (d *decoder) magic() error {
	var b [len(streamMagic)]byte
	if _, err := io.ReadFull(d.r, b[:]); err != nil {
		return fmt.Errorf("%w: %w", errWire, cut(err))
	}
	if string(b[:]) != streamMagic {
		return fmt.Errorf("%w: it does not begin as a checkpoint does", ErrDamaged)
	}
	return nil
}

// end makes sure that nothing follows.
func (d *decoder) end() error {
	if n, _ := io.ReadFull(d.r, d.header[:1]); n > 0 { // a connection that breaks here has done its work
		return fmt.Errorf("%w: the stream goes on after its end", ErrDamaged)
	}
	return nil
}

// next reads a frame with its content, which holds until the next call. The content of kindZero is nil.
func (d *decoder) next() (f frame, content []byte, err error) {
	if _, err = io.ReadFull(d.r, d.header[:]); err != nil {
		return f, nil, fmt.Errorf("%w: %w", errWire, cut(err))
	}
	f = parseFrame(d.header[:])
	if f.payload > maxChunk { // before its checksum is known: not more memory than this
		return f, nil, fmt.Errorf("%w: a frame of %d bytes", errWire, f.payload)
	}
	if cap(d.buf) < int(f.payload) {
		d.buf = make([]byte, f.payload, max(f.payload, chunkSize))
	}
	d.buf = d.buf[:f.payload]
	if _, err = io.ReadFull(d.r, d.buf); err != nil {
		return f, nil, fmt.Errorf("%w: %w", errWire, cut(err))
	}
	sum := crc32.Update(crc32.Checksum(d.header[:24], castagnoli), castagnoli, d.buf)
	if sum != binary.BigEndian.Uint32(d.header[24:]) {
		return f, nil, fmt.Errorf("%w: a frame does not have its checksum", errWire)
	}
	if content, err = d.content(f); err != nil {
		return f, nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return f, content, nil
}

// content checks a frame whose checksum is right, and unpacks it.
func (d *decoder) content(f frame) ([]byte, error) {
	if d.header[2] != 0 || d.header[3] != 0 || f.length > maxChunk {
		return nil, errors.New("a frame's header is none of ours")
	}
	switch f.kind {
	case kindZero, kindEnd:
		if f.payload != 0 || f.packing != packedNone || (f.kind == kindEnd) != (f.length == 0) {
			return nil, errors.New("a frame without content has some")
		}
		return nil, nil
	case kindManifest, kindData:
	default:
		return nil, fmt.Errorf("a frame of kind %d", f.kind)
	}
	content := d.buf
	switch f.packing {
	case packedNone:
	case packedZstd:
		out, err := d.z.DecodeAll(d.buf, d.out[:0])
		if err != nil {
			return nil, fmt.Errorf("unpack: %w", err)
		}
		d.out, content = out[:0], out
	default:
		return nil, fmt.Errorf("a frame of packing %d", f.packing)
	}
	if len(content) != int(f.length) || f.length == 0 {
		return nil, fmt.Errorf("a frame has %d bytes, not %d", len(content), f.length)
	}
	return content, nil
}

// cut makes an end before the end what it is.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
