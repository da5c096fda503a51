// Package extract turns a document into plain text and says how that text is
// divided: sections with heading paths and anchors, and in them sentences as
// byte ranges.
//
// It promises: the same bytes always give the same text and the same ranges
// (Version changes when the rules do); every range lies inside the text, on
// character boundaries, and grows; no sentence is longer than MaxSentenceBytes;
// whatever the bytes are, it ends, with an error at worst.
//
// It may import graph.
package extract

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html/charset"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"

	"github.com/cloister-os/cloister/graph"
)

// Version names these rules; it is kept with every text that they made.
const Version = "extract/1"

// Bounds.
const (
	MaxMarkupBytes   = 8 << 20  // of Markdown and HTML, which are parsed into a tree
	MaxTextBytes     = 32 << 20 // of plain text
	MaxSentenceBytes = 2000
	maxDepth         = 256 // of nested elements
)

// Format is a kind of document.
type Format string

// The formats.
const (
	Markdown Format = "markdown"
	HTML     Format = "html"
	Text     Format = "text"
)

// ErrNotText is returned for bytes that are no text in any encoding we know.
var ErrNotText = errors.New("not a text file")

// Document is what was extracted.
type Document struct {
	Title   string
	Text    string
	Outline graph.Outline
}

// FormatOf tells the format from a file's name; ok is false for names that are
// not documents.
func FormatOf(name string) (f Format, ok bool) {
	switch strings.ToLower(path.Ext(name)) {
	case ".md", ".markdown", ".mdown", ".mkd":
		return Markdown, true
	case ".html", ".htm", ".xhtml":
		return HTML, true
	case ".txt", ".text", ".rst", ".adoc", ".asciidoc", ".org", ".log":
		return Text, true
	}
	switch strings.ToUpper(path.Base(name)) {
	case "README", "LICENSE", "COPYING", "NOTICE", "CHANGES", "CHANGELOG", "NEWS", "AUTHORS", "CONTRIBUTING", "INSTALL", "TODO":
		return Text, true
	}
	return "", false
}

// MaxBytes is the size of the largest document of a format that is read.
func MaxBytes(f Format) int64 {
	if f == Text {
		return MaxTextBytes
	}
	return MaxMarkupBytes
}

// Extract extracts a document. name is its path, for the title of a document
// that has none of its own.
func Extract(f Format, name string, raw []byte) (Document, error) {
	if int64(len(raw)) > MaxBytes(f) {
		return Document{}, fmt.Errorf("a %s file is read up to %d MiB, this one has %d MiB", f, MaxBytes(f)>>20, len(raw)>>20)
	}
	src, err := decode(f, raw)
	if err != nil {
		return Document{}, err
	}
	b := newBuilder()
	switch f {
	case Markdown:
		markdown(b, src)
	case HTML:
		if err := hypertext(b, src); err != nil {
			return Document{}, err
		}
	case Text:
		plain(b, string(src))
	default:
		return Document{}, fmt.Errorf("there is no extractor for the format %q", f)
	}
	return b.finish(name), nil
}

// decode returns the bytes as UTF-8 with "\n" line ends and no control
// characters but tab. What is not UTF-8 is taken for what its byte order mark or
// its own declaration says, else for Windows-1252.
func decode(f Format, raw []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(raw, []byte("\xef\xbb\xbf")):
		raw = raw[3:]
	case bytes.HasPrefix(raw, []byte("\xff\xfe")), bytes.HasPrefix(raw, []byte("\xfe\xff")):
		return convert(raw, unicode.UTF16(unicode.LittleEndian, unicode.UseBOM))
	}
	if bytes.IndexByte(raw, 0) >= 0 {
		return nil, fmt.Errorf("%w: it holds NUL bytes", ErrNotText)
	}
	if utf8.Valid(raw) {
		return clean(raw), nil
	}
	var enc encoding.Encoding = charmap.Windows1252
	if f == HTML {
		enc, _, _ = charset.DetermineEncoding(raw, "")
	}
	return convert(raw, enc)
}

func convert(raw []byte, enc encoding.Encoding) ([]byte, error) {
	out, err := enc.NewDecoder().Bytes(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotText, err)
	}
	return clean(bytes.ToValidUTF8(out, []byte("\uFFFD"))), nil
}

func clean(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i, c := range b {
		switch {
		case c == '\r':
			if i+1 >= len(b) || b[i+1] != '\n' {
				out = append(out, '\n')
			}
		case c < ' ' && c != '\n' && c != '\t' || c == 0x7f:
			out = append(out, ' ')
		default:
			out = append(out, c)
		}
	}
	return out
}
