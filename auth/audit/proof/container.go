package proof

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A bundle is a tar file of one fixed spelling: ustar headers with nothing but
// a name and a size, zero padding, two zero blocks and the end. Any tar opens
// it; no byte of it is free.
const (
	tarBlock     = 512
	tarTail      = 2 * tarBlock
	maxName      = 100
	maxFileBytes = 8<<30 - 1 // what eleven octal digits hold
	maxFiles     = 1 << 20
)

// file is one file of the container.
type file struct {
	name   string
	offset int64 // of its first byte in the bundle
	size   int64
}

func (f file) end() int64 { return f.offset + f.size }

// header is the only header that a file of this name and size can have.
func header(name string, size int64) ([]byte, error) {
	if !validFileName(name) {
		return nil, fmt.Errorf("%q is no name for a file of a bundle", name)
	}
	if size < 0 || size > maxFileBytes {
		return nil, fmt.Errorf("%s would hold %d bytes, more than a bundle's file can: export a shorter range", name, size)
	}
	h := make([]byte, tarBlock)
	copy(h, name)
	copy(h[100:], "0000444\x000000000\x000000000\x00")
	copy(h[124:], fmt.Sprintf("%011o\x0000000000000\x00        0", size))
	copy(h[257:], "ustar\x0000")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return h, nil
}

func validFileName(name string) bool {
	if name == "" || len(name) > maxName || strings.HasPrefix(name, "/") || strings.Contains(name, "..") {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._-/%", rune(c)) {
			return false
		}
	}
	return true
}

// padding is how many zero bytes follow a file of the size.
func padding(size int64) int64 { return (tarBlock - size%tarBlock) % tarBlock }

// readContainer lists the files. With a problem it also returns the files that
// stand before it, so that records can still be examined.
func readContainer(r io.ReaderAt, size int64) ([]file, *Problem) {
	var files []file
	block := make([]byte, tarBlock)
	for at := int64(0); ; {
		if at+tarTail > size {
			return files, broken(size, "the bundle ends too early: it was cut, or not copied to its end")
		}
		if _, err := r.ReadAt(block, at); err != nil {
			return files, broken(at, "cannot read: %v", err)
		}
		if block[0] == 0 {
			return files, checkTail(r, at, size)
		}
		f, p := readHeader(block, at)
		if p != nil {
			return files, p
		}
		if len(files) == maxFiles {
			return files, broken(at, "the bundle holds more than %d files", maxFiles)
		}
		next := f.end() + padding(f.size)
		if next+tarTail > size {
			files = append(files, file{f.name, f.offset, min(f.size, size-f.offset)})
			return files, broken(size, "the bundle ends within %s: it was cut, or not copied to its end", f.name)
		}
		files = append(files, f)
		if p := checkZero(r, f.end(), next); p != nil {
			return files, p
		}
		at = next
	}
}

func readHeader(block []byte, at int64) (file, *Problem) {
	name, _, _ := bytes.Cut(block[:maxName], []byte{0})
	size, err := strconv.ParseInt(string(block[124:135]), 8, 64)
	if err != nil {
		return file{}, broken(at+124, "the size of the file %q was changed", name)
	}
	want, err := header(string(name), size)
	if err != nil {
		return file{}, broken(at, "a file's name or size was changed: %v", err)
	}
	for i := range want {
		if block[i] != want[i] {
			return file{}, broken(at+int64(i), "the header of the file %q was changed", name)
		}
	}
	return file{name: string(name), offset: at + tarBlock, size: size}, nil
}

// checkTail wants exactly two zero blocks, and nothing after them.
func checkTail(r io.ReaderAt, at, size int64) *Problem {
	if p := checkZero(r, at, at+tarTail); p != nil {
		return p
	}
	if size != at+tarTail {
		return broken(at+tarTail, "bytes were added after the end of the bundle")
	}
	return nil
}

func checkZero(r io.ReaderAt, from, to int64) *Problem {
	block := make([]byte, to-from)
	if _, err := r.ReadAt(block, from); err != nil && err != io.EOF {
		return broken(from, "cannot read: %v", err)
	}
	for i, b := range block {
		if b != 0 {
			return broken(from+int64(i), "a byte between two files was changed")
		}
	}
	return nil
}
