package machine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"
)

// The log's entries and the machine's own records are deterministic CBOR (RFC
// 8949 section 4.2): unsigned and negative integers, byte strings and arrays
// only. They are written and read by hand because a group of a thousand
// transactions passes here on the way to every reply, and neither side needs a
// temporary value for each of them.

const (
	majorUint   = 0
	majorNegint = 1
	majorBytes  = 2
	majorArray  = 4
)

var errMalformed = errors.New("malformed record")

func appendHead(b []byte, major byte, n uint64) []byte {
	m := major << 5
	switch {
	case n < 24:
		return append(b, m|byte(n))
	case n < 1<<8:
		return append(b, m|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, m|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, m|26), uint32(n))
	default:
		return binary.BigEndian.AppendUint64(append(b, m|27), n)
	}
}

func appendUint(b []byte, n uint64) []byte { return appendHead(b, majorUint, n) }

func appendInt(b []byte, n int64) []byte {
	if n < 0 {
		return appendHead(b, majorNegint, uint64(-(n + 1)))
	}
	return appendHead(b, majorUint, uint64(n))
}

func appendBytes[T ~string | ~[]byte](b []byte, s T) []byte {
	return append(appendHead(b, majorBytes, uint64(len(s))), s...)
}

func appendArray(b []byte, n int) []byte { return appendHead(b, majorArray, uint64(n)) }

// reader reads what the append functions wrote. Its first error stays.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", errMalformed, fmt.Sprintf(format, args...))
	}
	r.b = nil
}

// head reads one head; a number in a longer form than it needs is refused, so
// that a record has exactly one encoding.
func (r *reader) head() (major byte, n uint64) {
	if len(r.b) == 0 {
		r.fail("it ends too early")
		return 0, 0
	}
	major, info := r.b[0]>>5, r.b[0]&31
	r.b = r.b[1:]
	if info < 24 {
		return major, uint64(info)
	}
	if info > 27 {
		r.fail("reserved length %d", info)
		return 0, 0
	}
	size := 1 << (info - 24)
	if len(r.b) < size {
		r.fail("it ends too early")
		return 0, 0
	}
	for _, c := range r.b[:size] {
		n = n<<8 | uint64(c)
	}
	r.b = r.b[size:]
	if size == 1 && n < 24 || size > 1 && n>>(4*size) == 0 {
		r.fail("a number is not in its shortest form")
	}
	return major, n
}

func (r *reader) expect(major byte) uint64 {
	m, n := r.head()
	if r.err == nil && m != major {
		r.fail("type %d where %d belongs", m, major)
	}
	if r.err != nil {
		return 0
	}
	return n
}

func (r *reader) uint() uint64 { return r.expect(majorUint) }

func (r *reader) int() int64 {
	m, n := r.head()
	switch {
	case r.err != nil:
	case n > 1<<63-1:
		r.fail("a number passes 64 bits")
	case m == majorUint:
		return int64(n)
	case m == majorNegint:
		return -int64(n) - 1
	default:
		r.fail("type %d where a number belongs", m)
	}
	return 0
}

// bytes returns a part of the input, not a copy.
func (r *reader) bytes() []byte {
	n := r.expect(majorBytes)
	if n > uint64(len(r.b)) {
		r.fail("a string of %d bytes where %d are left", n, len(r.b))
		return nil
	}
	s := r.b[:n:n]
	r.b = r.b[n:]
	return s
}

// array returns a length that the rest of the input can hold.
func (r *reader) array() int {
	n := r.expect(majorArray)
	if n > uint64(len(r.b)) {
		r.fail("an array of %d where %d bytes are left", n, len(r.b))
		return 0
	}
	return int(n)
}

func (r *reader) fixed(n int) {
	if got := r.array(); r.err == nil && got != n {
		r.fail("an array of %d where %d belongs", got, n)
	}
}

func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	return r.err
}

// alias is the bytes as a string without a copy. The bytes must never change.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
