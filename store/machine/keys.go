package machine

import (
	"encoding/binary"
	"time"

	"github.com/cloister-os/cloister/store"
)

// Physical keys: one byte of kind, then
//
//	k key                      a caller's value                   both databases
//	c key window               a counter: bucket, sum             the database of its key
//	g                          the header: time, chain            history, each version
//	l length name part number   a log's parts                      history
//	o length node index         outcomes of one origin in a group  state
const (
	kindUser    = 'k'
	kindCounter = 'c'
	kindHeader  = 'g'
	kindLog     = 'l'
	kindOutcome = 'o'
)

// The parts of a log.
const (
	partFrontier = 'f' // size and the roots of its complete subtrees
	partLeaf     = 'd' // by sequence: time, data
	partTile     = 't' // by level and number: 256 hashes
	partEdge     = 'p' // by level ≥ 1: the hashes of the tile that is not full yet
)

var headerKey = []byte{kindHeader}

func userKey(k store.Key) []byte {
	return append(append(make([]byte, 0, len(k)+1), kindUser), k...)
}

func counterKey(k store.Key, window time.Duration) []byte {
	b := append(append(make([]byte, 0, len(k)+9), kindCounter), k...)
	return binary.BigEndian.AppendUint64(b, uint64(window/time.Second))
}

// bucket is the number of the window that t lies in.
func bucket(window time.Duration, t time.Time) int64 {
	if window == 0 {
		return 0
	}
	return t.Unix() / int64(window/time.Second)
}

// logKey's name is length-prefixed, so no name is another's beginning.
func logKey(name string, part byte, numbers ...uint64) []byte {
	b := make([]byte, 0, 4+len(name)+8*len(numbers))
	b = binary.BigEndian.AppendUint16(append(b, kindLog), uint16(len(name)))
	b = append(append(b, name...), part)
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

func outcomePrefix(node string) []byte {
	b := binary.BigEndian.AppendUint16([]byte{kindOutcome}, uint16(len(node)))
	return append(b, node...)
}

func outcomeKey(node string, index uint64) []byte {
	return binary.BigEndian.AppendUint64(outcomePrefix(node), index)
}
