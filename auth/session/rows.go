package session

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
)

// Where things are kept. No key and no value holds a secret in clear.
const (
	users     store.Space = "H/user/"       // id → userRow
	userNames store.Space = "H/user-name/"  // canonical name → nameRow
	setupDone store.Space = "H/setup-done/" // one key: an administrator was made
	apiKeys   store.Space = "H/api-key/"    // id → keyRow
	setupCode store.Space = "S/setup-code/" // node → codeRow
	sessions  store.Space = "S/session/"    // SHA-256 of the token → sessionRow
	throttles store.Space = "S/throttle/"   // what, SHA-256 of whom → throttleRow
)

type userRow struct {
	V       uint        `cbor:"v"`
	Name    string      `cbor:"name"`
	Roles   []auth.Role `cbor:"roles"`
	Hash    string      `cbor:"hash"` // of the password, PHC string
	Created int64       `cbor:"created"`
}

type nameRow struct {
	V  uint   `cbor:"v"`
	ID string `cbor:"id"`
}

type codeRow struct {
	V    uint   `cbor:"v"`
	Hash []byte `cbor:"hash"`
}

// sessionRow's times are seconds since 1970.
type sessionRow struct {
	V       uint   `cbor:"v"`
	User    string `cbor:"user"`
	Created int64  `cbor:"created"`
	Seen    int64  `cbor:"seen"`
	Of      string `cbor:"of,omitempty"` // people.Member.Made, of who is of a directory
}

type keyRow struct {
	V       uint     `cbor:"v"`
	Name    string   `cbor:"name"`
	Hash    []byte   `cbor:"hash"`
	Scopes  []string `cbor:"scopes"`
	Sources []string `cbor:"sources"`
	Owner   string   `cbor:"owner"`
	Created int64    `cbor:"created"`
	Expires int64    `cbor:"expires"`
}

// throttleRow counts attempts that were not forgiven by a success.
type throttleRow struct {
	V        uint  `cbor:"v"`
	Attempts int   `cbor:"attempts"`
	Last     int64 `cbor:"last"`  // seconds since 1970
	Until    int64 `cbor:"until"` // milliseconds since 1970: no attempt before
}

func decode(b []byte, v any) error { return cbor.Unmarshal(b, v) }

// get reads a row; ok is false when there is none.
func get(read func(store.Key) (store.Item, error), k store.Key, row any) (store.Item, bool, error) {
	item, err := read(k)
	if errors.Is(err, store.ErrNotFound) {
		return item, false, nil
	}
	if err == nil {
		err = decode(item.Value, row)
	}
	return item, err == nil, err
}

// The forms of secrets and ids. rand.Text gives 26 characters of base 32, 130
// bits.
const (
	keyPrefix     = "cl_"
	sessionPrefix = "cs_"
	keyIDLen      = 16
)

func newSecret() string { return rand.Text() + rand.Text() }

func newUserID() string { return "u-" + strings.ToLower(rand.Text()) }

func newKeyID() string { return strings.ToLower(rand.Text()[:keyIDLen]) }

// hashed is how a secret of full entropy is stored: nothing slower is needed.
func hashed(secret string) [32]byte { return sha256.Sum256([]byte(secret)) }

// hashPart is hashed for use in a key of the store.
func hashPart(secret string) string {
	h := hashed(secret)
	return hex.EncodeToString(h[:])
}
