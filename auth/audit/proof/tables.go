package proof

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
)

// comparer holds records.csv against what the records come to.
type comparer struct {
	f    file
	in   *bufio.Reader
	at   int64 // in the bundle
	buf  []byte
	head bool // the first line was compared
	done bool // a difference was found
}

func (c *comparer) row(line Line, l *leaf) *Problem {
	c.buf = appendCSV(c.begin(), line, l)
	return c.compare(int64(line.Seq))
}

// begin is the head before the first row, and nothing before any other.
func (c *comparer) begin() []byte {
	if c.head {
		return c.buf[:0]
	}
	c.head = true
	return append(c.buf[:0], csvHead...)
}

func (c *comparer) compare(record int64) *Problem {
	for _, want := range c.buf {
		if c.done {
			return nil
		}
		if got, err := c.in.ReadByte(); err != nil || got != want {
			c.done = true
			p := broken(c.at, "records.csv was changed at record %d", record)
			p.Record, p.File = record, csvName
			return p
		}
		c.at++
	}
	return nil
}

// finish wants the table to end; empty says that it has no rows.
func (c *comparer) finish(empty bool) *Problem {
	if empty {
		c.buf = c.begin()
		if p := c.compare(none); p != nil {
			return p
		}
	}
	if _, err := c.in.ReadByte(); err != io.EOF && !c.done {
		return inFile(c.f, "records.csv was changed: it goes on after the last record")
	}
	return nil
}

// saltBytes is the length of every salt: were it free, a byte could pass from
// the salt to the value unnoticed.
const saltBytes = 32

// openings holds openings.jsonl against the commitments of the records.
type openings struct {
	f       file
	in      *bufio.Scanner
	next    *Open // nil = none left, or none that can be read
	matched int
}

func (o *openings) advance() {
	o.next = nil
	if !o.in.Scan() {
		return
	}
	var open Open
	if json.Unmarshal(o.in.Bytes(), &open) == nil {
		o.next = &open
	}
}

// check matches the openings of one record.
func (o *openings) check(seq uint64, l *leaf) *Problem {
	for ; o.next != nil && o.next.Seq == seq; o.advance() {
		commitment := ""
		for _, m := range members(l.personal) {
			if string(m.name) == o.next.Field {
				commitment = string(plain(m.value))
			}
		}
		salt, err := hex.DecodeString(o.next.Salt)
		sum := sha256.Sum256(append(salt, o.next.Value...))
		if err != nil || len(salt) != saltBytes || hex.EncodeToString(sum[:]) != commitment {
			p := inFile(o.f, "the opening of the field %q of record %d is not what the record committed to", o.next.Field, seq)
			p.Record = int64(seq)
			return p
		}
		o.matched++
	}
	return nil
}

func (o *openings) finish() *Problem {
	if o.next == nil && o.in.Err() == nil && !o.in.Scan() {
		return nil
	}
	return inFile(o.f, "%s", fmt.Sprintf("%s holds openings of records that are not in the bundle", openingsName))
}
