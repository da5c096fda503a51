package session

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/schema"
)

// ErrSetupDone and ErrSetupCode are the ways setup is refused beside a throttle
// and a name or password that cannot be.
var (
	ErrSetupDone = errors.New("setup has been done: sign in instead")
	ErrSetupCode = errors.New("the setup code is wrong: it is printed where the node was started")
)

// theCode is whom attempts at the setup code are counted for: there is one code.
const theCode = "the setup code"

// AwaitSetup returns when setup has been done, on whichever node, or with the
// context's error.
func (s *Service) AwaitSetup(ctx context.Context) error {
	for {
		from := s.store.Applied()
		done := false
		err := s.store.View(ctx, store.Local, func(snap store.Snapshot) error {
			_, err := snap.Get(setupDone.Key())
			done = err == nil
			if errors.Is(err, store.ErrNotFound) {
				return nil
			}
			return err
		})
		if done || err != nil {
			return err
		}
		for change, err := range s.store.Watch(ctx, setupDone.Prefix(), from) {
			if errors.Is(err, store.ErrCompacted) {
				break
			}
			if err != nil {
				return err
			}
			from = change.Version
			if len(change.Writes) > 0 {
				return nil
			}
		}
	}
}

// SetupNeeded reports whether no administrator exists yet.
func (s *Service) SetupNeeded(ctx context.Context) (bool, error) {
	needed := false
	if err := s.recent(ctx); err != nil {
		return false, fmt.Errorf("look whether setup is complete: %w", err)
	}
	err := s.store.View(ctx, store.Local, func(snap store.Snapshot) error {
		_, err := snap.Get(setupDone.Key())
		needed = err == store.ErrNotFound
		if needed {
			return nil
		}
		return err
	})
	return needed, err
}

// NewSetupCode makes this node's one-time setup code, stores its hash and returns
// it. An unused earlier code of this node stops working; those of other nodes do
// not, and any of them is good on every node. After setup the error is
// ErrSetupDone.
func (s *Service) NewSetupCode(ctx context.Context) (string, error) {
	text := rand.Text()[:20] // 100 bits
	code := text[:5] + "-" + text[5:10] + "-" + text[10:15] + "-" + text[15:]
	h := hashed(text)
	_, err := s.store.Update(ctx, func(u *store.Update) error {
		if _, err := u.Get(setupDone.Key()); err != store.ErrNotFound {
			return either(err, ErrSetupDone)
		}
		u.Put(setupCode.Key(s.node), schema.MustEncode(codeRow{V: 1, Hash: h[:]}))
		return s.event(u.Tx, eventCode, audit.Actor{Kind: auth.System, ID: s.node}, "", nil)
	})
	if err != nil {
		return "", fmt.Errorf("make a setup code: %w", err)
	}
	return code, nil
}

func either(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// plainCode undoes how a code is written for people.
func plainCode(code string) string {
	return strings.ToUpper(strings.NewReplacer("-", "", " ", "", "\t", "").Replace(strings.TrimSpace(code)))
}

// Setup creates the first administrator and signs them in; the string is the
// session's token. Wrong codes are recorded and slowed, never locked for ever.
func (s *Service) Setup(ctx context.Context, code, user, password string) (Session, string, error) {
	if auth.HoldsSecret(code) {
		return Session{}, "", ErrMisplacedKey
	}
	needed, err := s.SetupNeeded(ctx)
	if err != nil {
		return Session{}, "", err
	}
	if !needed {
		return Session{}, "", ErrSetupDone
	}
	if err := s.tryCode(ctx, plainCode(code)); err != nil {
		return Session{}, "", err
	}
	name, err := Canonical(user)
	if err != nil {
		return Session{}, "", err
	}
	if err := checkPassword(name, password); err != nil {
		return Session{}, "", err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return Session{}, "", err
	}
	admin := User{ID: newUserID(), Name: name, Roles: []auth.Role{auth.Administrator}}
	return s.finishSetup(ctx, plainCode(code), admin, hash)
}

// tryCode counts the attempt, compares, and records a failure. A right code that
// is followed by an unusable password stays usable.
func (s *Service) tryCode(ctx context.Context, code string) error {
	from := theCode + "\x00" + address(ctx)
	before, err := s.count(ctx, forCode(), from)
	if err == nil {
		_, err = s.count(ctx, forAnyCode(), theCode)
	}
	if err != nil {
		return err
	}
	right := false
	err = s.store.View(ctx, store.Fresh, func(snap store.Snapshot) (err error) {
		right, _, err = rightCode(snap, code)
		return err
	})
	if err != nil {
		return err
	}
	if right {
		tx := store.NewTx()
		forCode().forgive(tx, from)
		forAnyCode().forgive(tx, theCode)
		_, err := s.store.Apply(ctx, tx)
		return err
	}
	tx := store.NewTx()
	detail := map[string]any{"attempt": before + 1, "wait_s": int64(forCode().wait(before + 1).Seconds())}
	if err := s.event(tx, eventSetupFailed, audit.Actor{Kind: nobody}, "", detail); err != nil {
		return err
	}
	if _, err := s.store.Apply(ctx, tx); err != nil {
		return fmt.Errorf("a wrong setup code could not be recorded: %w", err)
	}
	return ErrSetupCode
}

// rightCode reports whether it is one of the nodes' codes, and where all of them
// stand.
func rightCode(s store.Snapshot, code string) (right bool, all []store.Item, err error) {
	h := hashed(code)
	for item, err := range s.Scan(setupCode.Prefix(), "") {
		var row codeRow
		if err == nil {
			err = decode(item.Value, &row)
		}
		if err != nil {
			return false, nil, err
		}
		all = append(all, item)
		same := len(row.Hash) == len(h) && subtle.ConstantTimeCompare(h[:], row.Hash) == 1
		right = right || same
	}
	return right, all, nil
}

// finishSetup makes the administrator, uses the code up and opens the session in
// one transaction: of two setups at once, one succeeds.
func (s *Service) finishSetup(ctx context.Context, code string, admin User, hash string) (Session, string, error) {
	var opened Session
	var token string
	_, err := s.store.Update(ctx, func(u *store.Update) error {
		if _, err := u.Get(setupDone.Key()); err != store.ErrNotFound {
			return either(err, ErrSetupDone)
		}
		right, codes, err := rightCode(u.Snapshot, code)
		if err != nil {
			return err
		}
		if !right {
			return ErrSetupCode
		}
		if _, err := u.Get(userNames.Key(admin.Name)); err != store.ErrNotFound {
			return either(err, ErrSetupDone)
		}
		u.Put(setupDone.Key(), schema.MustEncode(nameRow{V: 1, ID: admin.ID}))
		for _, item := range codes {
			u.Tx.Check(item.Key, item.Version)
			u.Delete(item.Key)
		}
		u.Put(userNames.Key(admin.Name), schema.MustEncode(nameRow{V: 1, ID: admin.ID}))
		u.Put(users.Key(admin.ID), schema.MustEncode(userRow{V: 1, Name: admin.Name, Roles: admin.Roles, Hash: hash, Created: s.now().Unix()}))
		opened, token = s.open(u.Tx, admin, "")
		return s.event(u.Tx, eventSetup, audit.ActorOf(admin.Principal()), admin.ID, nil)
	})
	if err != nil {
		return Session{}, "", err
	}
	return opened, token, nil
}
