package pack

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// Bounds of a GGUF header; files with more are refused before anything is
// allocated for them.
const (
	maxPairs   = 1 << 16
	maxTensors = 1 << 17
	maxString  = 16 << 20
	maxArray   = 1 << 24
	maxNesting = 4
	maxHeader  = 512 << 20
)

// gguf is what an import needs to know of a GGUF file.
type gguf struct {
	Architecture string
	Name         string
	Licence      string
	Template     bool // the file holds a chat template
	Width        int  // embedding_length
	Pooled       bool // it has a pooling type: it makes vectors of texts
	End          int64
}

// value types of GGUF metadata, as in the format's specification.
const (
	ggufUint8 = iota
	ggufInt8
	ggufUint16
	ggufInt16
	ggufUint32
	ggufInt32
	ggufFloat32
	ggufBool
	ggufString
	ggufArray
	ggufUint64
	ggufInt64
	ggufFloat64
)

// blocks gives, by tensor type, how many values a block has and how many bytes
// it takes, as in the format's specification. Types that are missing here are
// of unknown size and only counted from their offset.
var blocks = map[uint32][2]int64{
	0: {1, 4}, 1: {1, 2}, 2: {32, 18}, 3: {32, 20}, 6: {32, 22}, 7: {32, 24}, 8: {32, 34}, 9: {32, 36},
	10: {256, 84}, 11: {256, 110}, 12: {256, 144}, 13: {256, 176}, 14: {256, 210}, 15: {256, 292},
	24: {1, 1}, 25: {1, 2}, 26: {1, 4}, 27: {1, 8}, 28: {1, 8}, 30: {1, 2},
}

// readGGUF reads the header of a GGUF file of the given size and checks that no
// tensor lies beyond the end.
func readGGUF(r io.Reader, size int64) (g gguf, err error) {
	p := &ggufReader{r: bufio.NewReaderSize(r, 1<<20), left: min(size, maxHeader)}
	err = p.read(&g)
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return g, truncated(size)
	case err != nil:
		return g, err
	case g.End > size:
		return g, fmt.Errorf("%w (it should have %d bytes)", truncated(size), g.End)
	}
	return g, nil
}

func truncated(size int64) error {
	return invalid("the GGUF file is cut short: it ends after %d bytes: copy or download it again", size)
}

type ggufReader struct {
	r    *bufio.Reader
	left int64
	at   int64
}

func (p *ggufReader) read(g *gguf) error {
	var head struct {
		Magic, Version uint32
		Tensors, Pairs uint64
	}
	if err := p.fixed(&head); err != nil {
		return err
	}
	switch {
	case head.Magic != 0x46554747:
		return invalid("it is neither a pack nor a GGUF file")
	case head.Version != 2 && head.Version != 3:
		return invalid("it is GGUF version %d, and versions 2 and 3 are read", head.Version)
	case head.Pairs > maxPairs || head.Tensors > maxTensors || head.Tensors == 0:
		return invalid("its GGUF header is damaged")
	}
	alignment := int64(32)
	for range head.Pairs {
		if err := p.pair(g, &alignment); err != nil {
			return err
		}
	}
	var data int64
	for range head.Tensors {
		end, err := p.tensor()
		if err != nil {
			return err
		}
		data = max(data, end)
	}
	start := (p.at + alignment - 1) / alignment * alignment
	g.End = start + data
	if g.Architecture == "" {
		return invalid("its GGUF header does not say what kind of model it is")
	}
	return nil
}

// pair reads one key and value and keeps those that matter.
func (p *ggufReader) pair(g *gguf, alignment *int64) error {
	key, err := p.text(1 << 16)
	if err != nil {
		return err
	}
	kind, err := p.number(4)
	if err != nil {
		return err
	}
	value, err := p.value(uint32(kind), 0)
	if err != nil {
		return err
	}
	text, _ := value.(string)
	number, _ := value.(uint64)
	switch key {
	case "general.architecture":
		g.Architecture = text
	case "general.name":
		g.Name = text
	case "general.license":
		g.Licence = text
	case "tokenizer.chat_template":
		g.Template = true
	case "general.alignment":
		if number == 0 || number > 1<<20 {
			return invalid("its GGUF header is damaged")
		}
		*alignment = int64(number)
	case g.Architecture + ".embedding_length":
		g.Width = int(min(number, 1<<16))
	case g.Architecture + ".pooling_type":
		g.Pooled = number > 0
	}
	return nil
}

// value reads a value: whole numbers as uint64, texts as string; others, and the
// contents of arrays, are passed over.
func (p *ggufReader) value(kind uint32, depth int) (any, error) {
	switch kind {
	case ggufUint8, ggufInt8, ggufBool:
		return p.number(1)
	case ggufUint16, ggufInt16:
		return p.number(2)
	case ggufUint32, ggufInt32, ggufFloat32:
		return p.number(4)
	case ggufUint64, ggufInt64, ggufFloat64:
		return p.number(8)
	case ggufString:
		return p.text(maxString)
	case ggufArray:
		return nil, p.array(depth)
	}
	return nil, invalid("its GGUF header is damaged")
}

func (p *ggufReader) array(depth int) error {
	kind, err := p.number(4)
	if err != nil {
		return err
	}
	count, err := p.number(8)
	if err != nil {
		return err
	}
	if count > maxArray || depth >= maxNesting {
		return invalid("its GGUF header is damaged")
	}
	for range count {
		if _, err := p.value(uint32(kind), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// tensor reads one tensor's description and returns where its data ends,
// counted from the beginning of all data.
func (p *ggufReader) tensor() (end int64, err error) {
	if _, err := p.text(1 << 16); err != nil {
		return 0, err
	}
	dimensions, err := p.number(4)
	if err != nil {
		return 0, err
	}
	if dimensions > 8 {
		return 0, invalid("its GGUF header is damaged")
	}
	values := int64(1)
	for range dimensions {
		n, err := p.number(8)
		if err != nil {
			return 0, err
		}
		if n == 0 || n > math.MaxInt32 || values > maxFileBytes/int64(n) {
			return 0, invalid("its GGUF header is damaged")
		}
		values *= int64(n)
	}
	kind, err := p.number(4)
	if err != nil {
		return 0, err
	}
	offset, err := p.number(8)
	if err != nil {
		return 0, err
	}
	if offset > maxFileBytes {
		return 0, invalid("its GGUF header is damaged")
	}
	if block, ok := blocks[uint32(kind)]; ok {
		return int64(offset) + values/block[0]*block[1], nil
	}
	return int64(offset), nil
}

func (p *ggufReader) take(n int64) error {
	if p.left -= n; p.left < 0 {
		return io.ErrUnexpectedEOF
	}
	p.at += n
	return nil
}

func (p *ggufReader) fixed(into any) error {
	if err := p.take(int64(binary.Size(into))); err != nil {
		return err
	}
	return binary.Read(p.r, binary.LittleEndian, into)
}

func (p *ggufReader) number(size int64) (uint64, error) {
	if err := p.take(size); err != nil {
		return 0, err
	}
	var b [8]byte
	_, err := io.ReadFull(p.r, b[:size])
	return binary.LittleEndian.Uint64(b[:]), err
}

func (p *ggufReader) text(limit uint64) (string, error) {
	n, err := p.number(8)
	if err != nil {
		return "", err
	}
	if n > limit {
		return "", invalid("its GGUF header is damaged")
	}
	if err := p.take(int64(n)); err != nil {
		return "", err
	}
	if n > 1<<16 { // long texts are chat templates and the like: passed over
		_, err := p.r.Discard(int(n))
		return "", err
	}
	b := slices.Grow([]byte(nil), int(n))[:n]
	_, err = io.ReadFull(p.r, b)
	return string(b), err
}
