package memory

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/agents/memory/speech"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/schema"
)

// The key spaces. A person's id comes first, so that nobody's scan crosses another's.
const (
	memories store.Space = "H/memory/"      // person, memory → row
	goneRows store.Space = "H/memory-gone/" // person, memory → nothing: it was forgotten
	keys     store.Space = "S/memory-key/"  // person, memory → keyRow
	uses     store.Space = "S/memory-use/"  // person, memory → useRow
	heads    store.Space = "S/memory-head/" // person → headRow; every change of theirs writes it
)

const rowVersion = 1

// row is a memory at rest: its content under its own key.
type row struct {
	V      uint   `cbor:"1,keyasint"`
	Sealed []byte `cbor:"2,keyasint"` // nonce, then AES-256-GCM of the content, bound to the row's key
}

// content is what is sealed. Times are seconds since 1970, 0 = none.
type content struct {
	Said         string `cbor:"1,keyasint"`
	Start        int    `cbor:"2,keyasint"`
	End          int    `cbor:"3,keyasint"`
	Subject      string `cbor:"4,keyasint,omitempty"`
	Attribute    string `cbor:"5,keyasint,omitempty"`
	Value        string `cbor:"6,keyasint,omitempty"`
	Slot         string `cbor:"7,keyasint"`
	From         int64  `cbor:"8,keyasint,omitempty"`
	Until        int64  `cbor:"9,keyasint,omitempty"`
	Run          string `cbor:"10,keyasint,omitempty"`
	Created      int64  `cbor:"11,keyasint"`
	By           string `cbor:"12,keyasint"`
	DerivedFrom  string `cbor:"13,keyasint,omitempty"`
	Supersedes   string `cbor:"14,keyasint,omitempty"`
	SupersededBy string `cbor:"15,keyasint,omitempty"`
	Superseded   int64  `cbor:"16,keyasint,omitempty"`
	Held         bool   `cbor:"17,keyasint,omitempty"` // said, and not yet kept by the run that was started for it
}

// keyRow is a memory's key, sealed under the root key.
type keyRow struct {
	V      uint   `cbor:"1,keyasint"`
	Sealed []byte `cbor:"2,keyasint"`
}

// useRow counts the answers that used a memory.
type useRow struct {
	V     uint   `cbor:"1,keyasint"`
	Count int64  `cbor:"2,keyasint"`
	Last  int64  `cbor:"3,keyasint"` // seconds since 1970
	Run   string `cbor:"4,keyasint"` // the last, so that a step that is done again counts once
}

// headRow counts a person's memories. Whoever changes one writes it, so that two
// changes at once do not both take the place of a third memory.
type headRow struct {
	V     uint `cbor:"1,keyasint"`
	Count int  `cbor:"2,keyasint"`
}

func encode(v any) ([]byte, error) { return schema.Encode(v) }

func decode(b []byte, v any) error { return cbor.Unmarshal(b, v) }

// newID is random, or the same each time for a person's idempotency key and what it
// is used for.
func newID(owner, what, once string) string {
	if once == "" {
		return strings.ToLower(rand.Text())
	}
	sum := sha256.Sum256([]byte(owner + "\x00" + what + "\x00" + once))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:26])
}

func box(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// opened is a memory with what is needed to write it again.
type opened struct {
	Memory
	key []byte
	old []byte // the content as it was read
}

// open reads one memory; store.ErrNotFound when there is none, or its key is gone.
func (s *Service) open(snap store.Snapshot, owner, id string) (opened, error) {
	missing := fmt.Errorf("this memory was forgotten, or there was none: %w", store.ErrNotFound)
	if s.cfg.Ledger.Has(owner, id) {
		return opened{}, missing
	}
	item, err := snap.Get(memories.Key(owner, id))
	if errors.Is(err, store.ErrNotFound) {
		return opened{}, missing
	}
	if err != nil {
		return opened{}, err
	}
	return s.unseal(snap, owner, id, item)
}

func (s *Service) unseal(snap store.Snapshot, owner, id string, item store.Item) (opened, error) {
	bad := func(err error) error { return fmt.Errorf("memory %s cannot be read: %w", id, err) }
	at := keys.Key(owner, id)
	k, err := snap.Get(at)
	if errors.Is(err, store.ErrNotFound) {
		return opened{}, fmt.Errorf("this memory was forgotten: %w", store.ErrNotFound)
	}
	if err != nil {
		return opened{}, bad(err)
	}
	var kr keyRow
	var r row
	if err := errors.Join(decode(k.Value, &kr), decode(item.Value, &r)); err != nil {
		return opened{}, bad(err)
	}
	key, err := s.cfg.Sealer.Open([]byte(at), kr.Sealed)
	if err != nil {
		return opened{}, bad(err)
	}
	aead, err := box(key)
	if err != nil || len(r.Sealed) < aead.NonceSize() {
		return opened{}, bad(errors.Join(err, store.ErrInvalid))
	}
	n := aead.NonceSize()
	plain, err := aead.Open(nil, r.Sealed[:n], r.Sealed[n:], []byte(item.Key))
	if err != nil {
		return opened{}, bad(err)
	}
	var c content
	if err := decode(plain, &c); err != nil || c.Start < 0 || c.Start > c.End || c.End > len(c.Said) {
		return opened{}, bad(errors.Join(err, store.ErrInvalid))
	}
	o := opened{Memory: c.memory(id), key: key, old: plain}
	return o, o.count(snap, owner)
}

// count adds how often the memory was used.
func (o *opened) count(snap store.Snapshot, owner string) error {
	item, err := snap.Get(uses.Key(owner, o.ID))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	var u useRow
	if err == nil {
		err = decode(item.Value, &u)
	}
	o.Uses, o.Last = u.Count, moment(u.Last)
	return err
}

func (c content) memory(id string) Memory {
	return Memory{
		ID: id, Words: c.Said[c.Start:c.End], Subject: c.Subject, Attribute: c.Attribute, Value: c.Value, From: moment(c.From), Until: moment(c.Until),
		Evidence: Evidence{Run: c.Run, Said: c.Said, Start: c.Start, End: c.End}, Created: moment(c.Created), By: c.By,
		DerivedFrom: c.DerivedFrom, Supersedes: c.Supersedes, SupersededBy: c.SupersededBy, Superseded: moment(c.Superseded), slot: c.Slot, held: c.Held,
	}
}

func (m Memory) content() content {
	return content{
		Said: m.Evidence.Said, Start: m.Evidence.Start, End: m.Evidence.End, Subject: m.Subject, Attribute: m.Attribute, Value: m.Value, Slot: m.slot,
		From: seconds(m.From), Until: seconds(m.Until), Run: m.Evidence.Run, Created: seconds(m.Created), By: m.By,
		DerivedFrom: m.DerivedFrom, Supersedes: m.Supersedes, SupersededBy: m.SupersededBy, Superseded: seconds(m.Superseded), Held: m.held,
	}
}

// statement is the memory as package speech compares it with a question.
func (m Memory) statement() speech.Statement {
	return speech.Statement{Words: m.Words, Subject: m.Subject, Attribute: m.Attribute, Value: m.Value, From: m.From, Until: m.Until, Slot: m.slot}
}

// put writes a memory, sealed with its key.
func (o opened) put(u *store.Update, owner string) error {
	plain, err := schema.Rewrite(o.old, o.content())
	if err != nil {
		return err
	}
	aead, err := box(o.key)
	if err != nil {
		return err
	}
	at := memories.Key(owner, o.ID)
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce)
	value, err := encode(row{V: rowVersion, Sealed: aead.Seal(nonce, nonce, plain, []byte(at))})
	if err == nil {
		u.Put(at, value)
	}
	return err
}

// fresh is a new memory with a key of its own, which is put beside it.
func (s *Service) fresh(u *store.Update, owner string, m Memory) (opened, error) {
	o := opened{Memory: m, key: make([]byte, 32)}
	rand.Read(o.key)
	at := keys.Key(owner, m.ID)
	sealed, err := s.cfg.Sealer.Seal([]byte(at), o.key)
	if err != nil {
		return o, fmt.Errorf("seal the key of a memory: %w", err)
	}
	value, err := encode(keyRow{V: rowVersion, Sealed: sealed})
	if err == nil {
		u.Put(at, value)
	}
	return o, err
}

// mine opens all memories of a person, in no order.
func (s *Service) mine(snap store.Snapshot, owner string) ([]opened, error) {
	var out []opened
	for item, err := range snap.Scan(memories.Prefix(owner), "") {
		if err != nil {
			return nil, err
		}
		parts, ok := memories.Parts(item.Key)
		if !ok || len(parts) != 2 {
			return nil, fmt.Errorf("the memory at %q is malformed", item.Key)
		}
		if s.cfg.Ledger.Has(owner, parts[1]) {
			continue
		}
		o, err := s.unseal(snap, owner, parts[1], item)
		if errors.Is(err, store.ErrNotFound) {
			continue // its key is gone: it was forgotten
		}
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

// head reads how many memories a person has, and makes the change one of those that
// wait for one another.
func head(u *store.Update, owner string) (headRow, error) {
	h := headRow{V: rowVersion}
	item, err := u.Get(heads.Key(owner))
	if errors.Is(err, store.ErrNotFound) {
		return h, nil
	}
	if err == nil {
		err = decode(item.Value, &h)
	}
	return h, err
}

func putHead(u *store.Update, owner string, h headRow) error {
	value, err := encode(h)
	if err == nil {
		u.Put(heads.Key(owner), value)
	}
	return err
}

func moment(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
