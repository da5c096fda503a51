package proof

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strconv"
	"time"
)

// MaxLineBytes bounds a line of records.jsonl: a leaf of 64 KiB in base64, and
// what stands around it.
const MaxLineBytes = 96 << 10

// Line is one record as records.jsonl holds it:
//
//	{"seq":7,"version":42,"time":"2026-01-02T03:04:05.6Z","leaf":{…}}
//
// leaf is the record byte by byte: its SHA-256 behind a zero byte (RFC 6962) is
// the leaf of the tree. What is not JSON on one line stands as "data", in base64.
type Line struct {
	Seq     uint64
	Version uint64
	Time    time.Time
	Leaf    []byte
}

var errLine = errors.New("it is not a line of records.jsonl")

// parseLine reads a line without its newline. It does not check that the leaf
// is well-formed JSON: the tree's hash does that, and more. Leaf points into b
// where it can.
func parseLine(b []byte) (Line, error) {
	var l Line
	var ok1, ok2, ok3 bool
	l.Seq, b, ok1 = cutNumber(b, `{"seq":`)
	l.Version, b, ok2 = cutNumber(b, `,"version":`)
	at, b, ok3 := cutText(b, `,"time":"`)
	if !ok1 || !ok2 || !ok3 {
		return l, errLine
	}
	var err error
	l.Time, err = time.Parse(time.RFC3339Nano, string(at))
	if err != nil || l.Time.UTC().Format(time.RFC3339Nano) != string(at) {
		return l, errLine
	}
	if leaf, ok := bytes.CutPrefix(b, []byte(`,"leaf":`)); ok && bytes.HasSuffix(leaf, []byte("}")) {
		l.Leaf = leaf[:len(leaf)-1]
		return l, nil
	}
	data, b, ok := cutText(b, `,"data":"`)
	if !ok || string(b) != "}" {
		return l, errLine
	}
	l.Leaf, err = base64.StdEncoding.Strict().DecodeString(string(data))
	if err != nil {
		return l, errLine
	}
	return l, nil
}

// cutNumber reads a number after a prefix, in its shortest spelling.
func cutNumber(b []byte, prefix string) (uint64, []byte, bool) {
	b, ok := bytes.CutPrefix(b, []byte(prefix))
	n := 0
	for n < len(b) && b[n] >= '0' && b[n] <= '9' {
		n++
	}
	v, err := strconv.ParseUint(string(b[:n]), 10, 63)
	return v, b[n:], ok && err == nil && (b[0] != '0' || n == 1)
}

// cutText reads what stands between a prefix and the next quotation mark.
func cutText(b []byte, prefix string) (text, rest []byte, ok bool) {
	b, ok1 := bytes.CutPrefix(b, []byte(prefix))
	text, rest, ok2 := bytes.Cut(b, []byte{'"'})
	return text, rest, ok1 && ok2
}
