package chaos

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/test/chaos/history"
	"github.com/cloister-os/cloister/test/kvnode/wire"
)

const (
	registers   = 3           // at a time
	registerFor = time.Second // then others, so that no key's history is long
	accounts    = 6           // keys of transactions
	limit       = 120         // of a counter
	think       = 12 * time.Millisecond
	txKeys      = "H/kv/tx/"
	txCounters  = "S/kv/tx/count-"
)

// work does operations of every sort until the context ends.
func (l *client) work(ctx context.Context) {
	newest := store.Version(0) // that this client has seen
	for ctx.Err() == nil {
		switch n := l.rnd.IntN(100); {
		case n < 35:
			l.register(ctx, &newest)
		case n < 55:
			l.append(ctx, &newest)
		case n < 80:
			l.transfer(ctx, &newest)
		case n < 90:
			l.spend(ctx, &newest)
		default:
			l.scan(ctx, &newest)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(l.rnd.Int64N(int64(think)))):
		}
	}
}

func (l *client) saw(newest *store.Version, o *history.Op) {
	*newest = max(*newest, o.Done.Version, o.View.Version)
}

// key is a register of the moment.
func (l *client) key() string {
	space := []string{history.StateRegisters, history.HistoryRegisters}[l.rnd.IntN(2)]
	return fmt.Sprintf("%s%d-%d", space, l.c.history.Now()/int64(registerFor), l.rnd.IntN(registers))
}

// register reads, writes, or writes if nobody else has.
func (l *client) register(ctx context.Context, newest *store.Version) {
	key := l.key()
	if l.rnd.IntN(5) < 2 {
		o := l.begin()
		tx := &wire.Tx{Puts: []wire.Put{{Key: key, Value: o.ID}}}
		if l.rnd.IntN(2) == 0 {
			tx.Once = o.ID
		}
		l.transact(ctx, o, tx)
		l.saw(newest, o)
		return
	}
	get := l.begin()
	r := &wire.Read{Keys: []string{key}}
	if l.rnd.IntN(3) == 0 {
		r.Local, r.Least = true, *newest
	}
	if !l.look(ctx, get, r) {
		return
	}
	l.saw(newest, get)
	if r.Local || l.rnd.IntN(2) == 0 {
		return
	}
	o := l.begin()
	was := wire.Item{Key: key}
	if len(get.View.Items) == 1 {
		was = get.View.Items[0]
	}
	o.Expect = was.Value
	l.transact(ctx, o, &wire.Tx{Checks: []wire.Check{{Key: key, Version: was.Version}}, Puts: []wire.Put{{Key: key, Value: o.ID}}})
	l.saw(newest, o)
}

// append adds to the audit log, with and without a key for trying again.
func (l *client) append(ctx context.Context, newest *store.Version) {
	o := l.begin()
	tx := &wire.Tx{Appends: []wire.Append{{Log: history.AuditLog, Leaf: o.ID}}, Bulk: l.rnd.IntN(4) == 0}
	if l.rnd.IntN(2) == 0 {
		tx.Once = o.ID
	}
	l.transact(ctx, o, tx)
	l.saw(newest, o)
}

// transfer reads some accounts and writes them on condition that nobody else has.
func (l *client) transfer(ctx context.Context, newest *store.Version) {
	get := l.begin()
	perm := l.rnd.Perm(accounts)[:1+l.rnd.IntN(3)]
	r := &wire.Read{}
	for _, i := range perm {
		r.Keys = append(r.Keys, fmt.Sprint(txKeys, i))
	}
	if l.rnd.IntN(3) == 0 {
		r.Local, r.Least = true, *newest
	}
	if !l.look(ctx, get, r) {
		return
	}
	l.saw(newest, get)
	o, tx := l.begin(), &wire.Tx{}
	was := map[string]store.Version{}
	for _, item := range get.View.Items {
		was[item.Key] = item.Version
	}
	for _, k := range r.Keys {
		tx.Checks = append(tx.Checks, wire.Check{Key: k, Version: was[k]})
		tx.Puts = append(tx.Puts, wire.Put{Key: k, Value: o.ID + strings.Repeat(".", l.rnd.IntN(200))})
	}
	l.log(ctx, o, tx)
	l.saw(newest, o)
}

// spend adds to a counter with a limit.
func (l *client) spend(ctx context.Context, newest *store.Version) {
	o := l.begin()
	counter := fmt.Sprint(txCounters, l.c.history.Now()/int64(2*registerFor))
	l.log(ctx, o, &wire.Tx{Adds: []wire.Add{{Counter: counter, Delta: 1 + l.rnd.Int64N(9), Limit: limit}}})
	l.saw(newest, o)
}

func (l *client) log(ctx context.Context, o *history.Op, tx *wire.Tx) {
	if l.rnd.IntN(2) == 0 {
		tx.Once = o.ID
	}
	if err := history.Logged(o.ID, tx); err != nil {
		panic(err) // it is plain JSON
	}
	l.transact(ctx, o, tx)
}

// scan reads all accounts, a counter and the logs at one version.
func (l *client) scan(ctx context.Context, newest *store.Version) {
	o := l.begin()
	r := &wire.Read{Prefixes: []string{txKeys}, Logs: []string{history.TxLog, history.AuditLog},
		Counters: []string{fmt.Sprint(txCounters, l.c.history.Now()/int64(2*registerFor))}}
	if l.rnd.IntN(2) == 0 {
		r.Local, r.Least = true, *newest
	}
	if l.look(ctx, o, r) {
		l.saw(newest, o)
	}
}
