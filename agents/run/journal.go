package run

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
)

// The key spaces. A run's record, its steps and the index by owner are history;
// its lease and its events are the state of the moment.
const (
	runs    store.Space = "H/run/"       // id -> record
	steps   store.Space = "H/run-step/"  // id, number -> stepRecord
	byOwner store.Space = "H/run-owner/" // owner kind, owner id, run id -> the first run of its conversation
	starts  store.Space = "S/run-start/" // owner kind, owner id, idempotency key -> run id
	leases  store.Space = "S/run-lease/" // id -> lease; there while the run is running
	events  store.Space = "S/run-event/" // id, number -> Event
)

// record is a run in the journal. It is rewritten at each step.
type record struct {
	V        uint      `cbor:"v"`
	ID       ID        `cbor:"id"`
	Agent    string    `cbor:"agent"`
	Version  string    `cbor:"version"`
	Owner    owner     `cbor:"owner"`
	Key      string    `cbor:"key"` // the idempotency key it was started with, or ""
	Input    []byte    `cbor:"input"`
	State    State     `cbor:"state"`
	Next     int       `cbor:"next"`     // the step whose intent is on record
	Attempt  int       `cbor:"attempt"`  // at that step, from 1
	Intent   string    `cbor:"intent"`   // its permit's id
	NextSeq  uint64    `cbor:"next_seq"` // the next event's number
	Started  time.Time `cbor:"started"`
	Ended    time.Time `cbor:"ended"`
	Error    string    `cbor:"error"`
	Cost     int64     `cbor:"cost"`
	Root     ID        `cbor:"root,omitempty"` // the conversation that it is a turn of; "" = one of its own
	leftover map[string]cbor.RawMessage
}

// owner is the principal that started a run, with its rights at that moment.
type owner struct {
	Kind    auth.Kind   `cbor:"kind"`
	ID      string      `cbor:"id"`
	Name    string      `cbor:"name"`
	Roles   []auth.Role `cbor:"roles"`
	Scopes  []string    `cbor:"scopes"`
	Sources []string    `cbor:"sources"`
	Session string      `cbor:"session,omitempty"` // a person's: the run ends with it
	Groups  []string    `cbor:"groups,omitempty"`
}

func ownerOf(p auth.Principal) owner {
	return owner{p.Kind, p.ID, p.Name, p.Roles, p.Scopes, p.Sources, p.Session, p.Groups}
}

func (o owner) principal() auth.Principal {
	return auth.Principal{Kind: o.Kind, ID: o.ID, Name: o.Name, Roles: o.Roles, Scopes: o.Scopes, Sources: o.Sources, Session: o.Session, Groups: o.Groups}
}

// stepRecord is a step that is done.
type stepRecord struct {
	V      uint      `cbor:"v"`
	Name   string    `cbor:"name"`
	Intent string    `cbor:"intent"`
	Result payload   `cbor:"result"`
	Ended  time.Time `cbor:"ended"`
}

// lease says which process works on a run. Whoever writes it fences the one
// before: every commit of a worker checks the version of the lease it wrote last.
type lease struct {
	V     uint   `cbor:"v"`
	Node  string `cbor:"node"`
	Boot  string `cbor:"boot"`
	Epoch uint64 `cbor:"epoch"`
	// TTL is how long it may stand unchanged before it is dead, 0 when its worker
	// has given it back. Its worker stops well before that: see lost.
	TTL time.Duration `cbor:"ttl"`
}

const recordVersion = 1

var deterministic = func() cbor.EncMode {
	o := cbor.CoreDetEncOptions()
	o.Time = cbor.TimeRFC3339Nano
	m, err := o.EncMode()
	if err != nil {
		panic(err)
	}
	return m
}()

var lenient = func() cbor.DecMode {
	m, err := cbor.DecOptions{DefaultMapType: reflect.TypeFor[map[string]any]()}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

func decode(b []byte, v any) error { return lenient.Unmarshal(b, v) }

func encode(v any) ([]byte, error) { return deterministic.Marshal(v) }

// decodeKeeping decodes into v and returns the fields that v does not know.
func decodeKeeping(b []byte, v any) (map[string]cbor.RawMessage, error) {
	if err := decode(b, v); err != nil {
		return nil, err
	}
	var all map[string]cbor.RawMessage
	if err := decode(b, &all); err != nil {
		return nil, err
	}
	known, err := fields(v)
	if err != nil {
		return nil, err
	}
	for k := range known {
		delete(all, k)
	}
	return all, nil
}

// encodeKeeping encodes v and the fields that a newer version wrote.
func encodeKeeping(v any, unknown map[string]cbor.RawMessage) ([]byte, error) {
	if len(unknown) == 0 {
		return encode(v)
	}
	all, err := fields(v)
	if err != nil {
		return nil, err
	}
	for k, raw := range unknown {
		if _, ok := all[k]; !ok {
			all[k] = raw
		}
	}
	return encode(all)
}

func fields(v any) (map[string]cbor.RawMessage, error) {
	b, err := encode(v)
	if err != nil {
		return nil, err
	}
	var all map[string]cbor.RawMessage
	return all, decode(b, &all)
}

// held is a run as a snapshot shows it, with its lease.
type held struct {
	rec     record
	lease   lease
	leaseAt store.Version // 0 = no lease: the run has ended
	since   time.Time     // the lease was written after this moment of our monotonic clock
}

func load(s store.Snapshot, id ID) (held, error) {
	var h held
	item, err := s.Get(runs.Key(string(id)))
	if errors.Is(err, store.ErrNotFound) {
		return h, ErrNotFound
	}
	if err != nil {
		return h, err
	}
	if h.rec.leftover, err = decodeKeeping(item.Value, &h.rec); err != nil {
		return h, fmt.Errorf("run %s: %w", id, err)
	}
	item, err = s.Get(leases.Key(string(id)))
	if errors.Is(err, store.ErrNotFound) {
		return h, nil
	}
	if err != nil {
		return h, err
	}
	h.leaseAt = item.Version
	if err := decode(item.Value, &h.lease); err != nil {
		return h, fmt.Errorf("lease of run %s: %w", id, err)
	}
	return h, nil
}

// results loads what the steps before n left, by name.
func (e *Engine) results(ctx context.Context, id ID, n int) (map[string][]byte, error) {
	recs := make([]stepRecord, 0, n)
	err := e.cfg.Store.View(ctx, store.Local, func(s store.Snapshot) error {
		for i := range n {
			item, err := s.Get(steps.Key(string(id), store.Number(uint64(i))))
			if err != nil {
				return fmt.Errorf("step %d of run %s: %w", i, id, err)
			}
			var r stepRecord
			if err := decode(item.Value, &r); err != nil {
				return fmt.Errorf("step %d of run %s: %w", i, id, err)
			}
			recs = append(recs, r)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make(map[string][]byte, n)
	for _, r := range recs {
		if out[r.Name], err = e.open(r.Result); err != nil {
			return nil, fmt.Errorf("result of step %s of run %s: %w", r.Name, id, err)
		}
	}
	return out, nil
}
