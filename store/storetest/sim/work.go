package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cloister-os/cloister/store"
)

// The names that transactions use: few, so that they meet.
const (
	keyNames = 6
	logNames = 2
	// calls is the log that each call of a client appends its name to.
	calls = "calls"
)

var windows = []time.Duration{0, time.Minute}

func someKey(rnd *rand.Rand) store.Key {
	db := "SH"[rnd.IntN(2)]
	return store.Key(fmt.Sprintf("%c/k/%d", db, rnd.IntN(keyNames)))
}

func counterName(rnd *rand.Rand) store.Key {
	return store.Key(fmt.Sprintf("%c/n/%d", "SH"[rnd.IntN(2)], rnd.IntN(2)))
}

func logName(i int) string { return fmt.Sprint("log", i) }

// limit is the one limit of a counter, so that nothing may ever pass it.
const limit = 40

// someTx makes a transaction whose effects name it by id; current tells a key's
// version as its maker believes it to be.
func someTx(rnd *rand.Rand, id string, current func(store.Key) store.Version) *store.Tx {
	tx := store.NewTx()
	for range 1 + rnd.IntN(4) {
		switch k := someKey(rnd); rnd.IntN(8) {
		case 0:
			tx.Check(k, current(k))
		case 1:
			tx.Check(k, store.Version(rnd.IntN(3)))
		case 2, 3, 4:
			tx.Put(k, fmt.Appendf(nil, "%s %0*d", id, rnd.IntN(40), 0))
		case 5:
			tx.Delete(k)
		case 6:
			tx.Append(logName(rnd.IntN(logNames)), []byte(id))
		case 7:
			tx.Add(counterName(rnd), int64(rnd.IntN(12)-4), limit, windows[rnd.IntN(len(windows))])
		}
	}
	return tx
}

// txOf makes a transaction of operations.
func txOf(ops []store.Op) *store.Tx {
	tx := store.NewTx()
	addOps(tx, ops)
	return tx
}

func addOps(tx *store.Tx, ops []store.Op) {
	for _, op := range ops {
		switch op.Kind {
		case store.OpCheck:
			tx.Check(op.Key, op.Version)
		case store.OpPut:
			tx.Put(op.Key, op.Value)
		case store.OpDelete:
			tx.Delete(op.Key)
		case store.OpAppend:
			tx.Append(op.Log, op.Value)
		case store.OpAdd:
			tx.Add(op.Key, op.Delta, op.Limit, op.Window)
		}
	}
}
