package vector

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"unsafe"

	"github.com/cloister-os/cloister/store/sealed"
)

const (
	framePut  byte = 1
	frameDrop byte = 2
)

// frame is one step of the file:
// length u32 | crc32c u32 of the body | body, which is, or in a sealed file holds
// sealed, kind u8, applied u64, group length u16, group, rows u32, a scale f32 for
// each row, then the rows.
type frame struct {
	kind    byte
	applied uint64
	group   string
	rows    []int8
	scales  []float32
}

var errFrame = errors.New("damaged frame")

func (f *File) append(fr frame) error {
	if f.err != nil {
		return fmt.Errorf("write vectors: %w", f.err)
	}
	body, err := f.box.Seal(nil, f.place(), fr.encode())
	if err == nil {
		err = f.write(body)
	}
	if err != nil {
		f.err = err
		return fmt.Errorf("write vectors: %w", err)
	}
	f.applied = fr.applied
	f.note(body)
	return nil
}

// place binds a frame to its place in a file of one model.
func (f *File) place() []byte {
	return append(binary.BigEndian.AppendUint64(nil, f.frames), f.model...)
}

// note counts a frame of the file.
func (f *File) note(body []byte) {
	f.frames++
	if !f.box.Plain() {
		f.keys[sealed.RecordKey(body)] = true
	}
}

func (f *File) write(body []byte) error {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, 8+len(body)), uint32(len(body)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(body, castagnoli))
	_, err := f.file.Write(append(b, body...))
	return err
}

func (fr frame) encode() []byte {
	size := 15 + len(fr.group) + 4*len(fr.scales) + len(fr.rows)
	b := append(make([]byte, 0, size), fr.kind)
	b = binary.LittleEndian.AppendUint64(b, fr.applied)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(fr.group)))
	b = append(b, fr.group...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(fr.scales)))
	for _, s := range fr.scales {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(s))
	}
	if len(fr.rows) > 0 {
		b = append(b, unsafe.Slice((*byte)(unsafe.Pointer(&fr.rows[0])), len(fr.rows))...)
	}
	return b
}

// readFrame reads the next frame and returns its size in the file.
func (f *File) readFrame(r io.Reader) (frame, int64, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, 0, err
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size > maxFrameBytes {
		return frame{}, 0, errFrame
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return frame{}, 0, err
	}
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
		return frame{}, 0, errFrame
	}
	plain, err := f.box.Open(nil, f.place(), body)
	if err != nil {
		return frame{}, 0, err
	}
	fr, err := decode(plain, f.dims)
	if err == nil {
		f.note(body)
	}
	return fr, int64(size) + 8, err
}

func decode(b []byte, dims int) (frame, error) {
	if len(b) < 15 {
		return frame{}, errFrame
	}
	fr := frame{kind: b[0], applied: binary.LittleEndian.Uint64(b[1:])}
	n := int(binary.LittleEndian.Uint16(b[9:]))
	b = b[11:]
	if len(b) < n+4 {
		return frame{}, errFrame
	}
	fr.group = string(b[:n])
	count := int(binary.LittleEndian.Uint32(b[n:]))
	b = b[n+4:]
	if count > MaxVectors || len(b) != count*(4+dims) {
		return frame{}, errFrame
	}
	fr.scales = make([]float32, count)
	for i := range fr.scales {
		fr.scales[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	b = b[4*count:]
	fr.rows = make([]int8, len(b))
	for i, x := range b {
		fr.rows[i] = int8(x)
	}
	return fr, nil
}
