package session

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/people"
	"github.com/cloister-os/cloister/store/threads"
)

// ErrPassword is the kind of every password that cannot be set.
var ErrPassword = errors.New("choose another password")

// Bounds of a password: characters at least, bytes at most.
const (
	minPassword = 12
	maxPassword = 1024
)

// cost is how dear a password hash is. 64 MiB and three passes is the second
// recommended option of RFC 9106, section 4, with one lane.
type cost struct {
	memory uint32 // KiB
	time   uint32
	lanes  uint8
}

func defaultCost() cost { return cost{memory: 64 << 10, time: 3, lanes: 1} }

// maxCost bounds what a stored hash may ask of this machine.
func maxCost() cost { return cost{memory: 256 << 10, time: 16, lanes: 8} }

// Bounds of hashing at the same time: each takes 64 MiB, so a flood of sign-ins
// waits in a short queue and then is told to come back.
const (
	hashAtOnce = 2
	hashQueue  = 32
)

// hasher hashes passwords, a few at a time.
type hasher struct {
	cost  cost
	slots chan struct{}
	queue atomic.Int32
	runs  atomic.Int64 // hashes computed, for tests
	dummy string       // the hash that a password for an unknown name is compared with
}

func newHasher(c cost) *hasher {
	salt, key := make([]byte, 16), make([]byte, 32)
	_, _ = rand.Read(salt) // never fails: see crypto/rand
	_, _ = rand.Read(key)
	return &hasher{cost: c, slots: make(chan struct{}, min(hashAtOnce, threads.Processors())), dummy: phc(c, salt, key)}
}

// phc is the hash in the PHC string format.
func phc(c cost, salt, key []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.memory, c.time, c.lanes, b64.EncodeToString(salt), b64.EncodeToString(key))
}

// run computes one hash when a slot is free.
func (h *hasher) run(ctx context.Context, c cost, password string, salt []byte) ([]byte, error) {
	if h.queue.Add(1) > hashQueue {
		h.queue.Add(-1)
		return nil, &ThrottledError{RetryAfter: busyRetry}
	}
	defer h.queue.Add(-1)
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-h.slots }()
	h.runs.Add(1)
	return argon2.IDKey([]byte(norm.NFC.String(password)), salt, c.time, c.memory, c.lanes, 32), nil
}

// hash returns what to store of a password.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	key, err := h.run(ctx, h.cost, password, salt)
	if err != nil {
		return "", err
	}
	return phc(h.cost, salt, key), nil
}

// verify compares in constant time. It takes as long for "" as for any hash.
func (h *hasher) verify(ctx context.Context, stored, password string) (bool, error) {
	known := stored != ""
	if !known {
		stored = h.dummy
	}
	c, salt, want, err := parsePHC(stored)
	if err != nil {
		return false, err
	}
	got, err := h.run(ctx, c, password, salt)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(got, want) == 1 && known, nil
}

func parsePHC(s string) (c cost, salt, key []byte, err error) {
	parts := strings.Split(s, "$")
	damaged := errors.New("a stored password hash is damaged")
	if len(parts) != 6 || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return c, nil, nil, damaged
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &c.memory, &c.time, &c.lanes); err != nil {
		return c, nil, nil, damaged
	}
	if limit := maxCost(); c.memory > limit.memory || c.time > limit.time || c.lanes > limit.lanes || c.time == 0 || c.lanes == 0 {
		return c, nil, nil, damaged
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	key, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(salt) < 8 || len(key) != 32 {
		return c, nil, nil, damaged
	}
	return c, salt, key, nil
}

// checkPassword says why a password cannot be set for the user.
func checkPassword(name, password string) error {
	switch {
	case auth.HoldsSecret(password):
		return ErrMisplacedKey
	case !utf8.ValidString(password):
		return fmt.Errorf("%w: it is not valid UTF-8", ErrPassword)
	case utf8.RuneCountInString(password) < minPassword:
		return fmt.Errorf("%w: it has fewer than %d characters", ErrPassword, minPassword)
	case len(password) > maxPassword:
		return fmt.Errorf("%w: it has more than %d bytes", ErrPassword, maxPassword)
	}
	if canonical, ok := people.Canonical(password); ok && canonical == name {
		return fmt.Errorf("%w: it is the user name", ErrPassword)
	}
	return nil
}
