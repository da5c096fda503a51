package session

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/schema"
)

// Bounds of API keys.
const (
	defaultTTL     = 90 * 24 * time.Hour
	maxTTL         = 366 * 24 * time.Hour
	maxKeys        = 10_000
	maxKeyName     = 128 // bytes
	maxKeySources  = 256
	maxSourceBytes = 256
)

// ErrKeySpec is the kind of every key that cannot be made as asked.
var ErrKeySpec = errors.New("the key cannot be made")

// KeySpec is what a new API key should be able to do.
type KeySpec struct {
	Name    string        `json:"name"`
	Scopes  []string      `json:"scopes"`  // of auth.Scopes, at least one
	Sources []string      `json:"sources"` // the sources it may reach; empty = none
	TTL     time.Duration `json:"ttl"`     // 0 = 90 days; at most 366 days
}

// Key is an API key without its secret.
type Key struct {
	ID      string
	Name    string
	Scopes  []string
	Sources []string
	Owner   string // id of who created it
	Created time.Time
	Expires time.Time
}

func (k keyRow) key(id string) Key {
	return Key{ID: id, Name: k.Name, Scopes: k.Scopes, Sources: k.Sources, Owner: k.Owner, Created: time.Unix(k.Created, 0).UTC(), Expires: time.Unix(k.Expires, 0).UTC()}
}

func (k keyRow) principal(id string) auth.Principal {
	return auth.Principal{Kind: auth.APIKey, ID: id, Name: k.Name, Scopes: k.Scopes, Sources: k.Sources}
}

// byKey authenticates cl_<id>_<secret>. An unknown id, a wrong secret and a key
// that has expired get one answer.
func (s *Service) byKey(ctx context.Context, token string) (auth.Principal, error) {
	bad := fmt.Errorf("%w: this API key is not valid", auth.ErrUnauthenticated)
	rest, ok := strings.CutPrefix(token, keyPrefix)
	id, secret, ok2 := strings.Cut(rest, "_")
	if !ok || !ok2 || len(id) != keyIDLen {
		return auth.Principal{}, bad
	}
	var row keyRow
	err := s.recent(ctx)
	found := false
	if err == nil {
		found, err = s.row(ctx, apiKeys.Key(id), &row)
	}
	if err != nil {
		return auth.Principal{}, fmt.Errorf("look up the API key: %w", err)
	}
	h := hashed(secret)
	if subtle.ConstantTimeCompare(h[:], row.Hash) != 1 || !found || s.now().Unix() >= row.Expires {
		return auth.Principal{}, bad
	}
	return row.principal(id), nil
}

// CreateKey makes an API key through the guard and returns its secret, which is
// kept nowhere, unless the request may be sent again (see guard.Once): then it is
// kept for that, sealed. A key that makes a key makes none that could do more, or
// live longer, than itself.
func (s *Service) CreateKey(ctx context.Context, p auth.Principal, spec KeySpec) (Key, string, error) {
	spec, err := spec.checked()
	if err != nil {
		return Key{}, "", err
	}
	now := s.now()
	row := keyRow{V: 1, Name: spec.Name, Scopes: spec.Scopes, Sources: spec.Sources, Owner: p.ID, Created: now.Unix(), Expires: now.Add(spec.TTL).Unix()}
	wider, err := s.limit(ctx, p, &row)
	if err != nil {
		return Key{}, "", err
	}
	id, secret := newKeyID(), newSecret()
	h := hashed(secret)
	row.Hash = h[:]
	req := guard.Request{
		Principal: p, Action: auth.KeyManage, Resource: auth.TheSystem, Args: spec, Context: map[string]any{"wider": wider},
		Detail: map[string]any{"what": "create", "key": id, "scopes": row.Scopes, "sources": row.Sources, "expires": row.Expires},
	}
	note, err := s.noteKey(ctx, id, secret)
	if err != nil {
		return Key{}, "", err
	}
	err = s.change(ctx, req, note, func(u *store.Update) error {
		n := 0
		for _, err := range u.Snapshot.Scan(apiKeys.Prefix(), "") {
			if n++; err != nil {
				return err
			}
		}
		if n >= maxKeys {
			return fmt.Errorf("%w: there are %d keys already, revoke some first", ErrKeySpec, n)
		}
		if _, err := u.Get(apiKeys.Key(id)); err != store.ErrNotFound {
			return either(err, errors.New("make a key: its id is taken"))
		}
		u.Put(apiKeys.Key(id), schema.MustEncode(row))
		return nil
	})
	var before *guard.DoneError
	if errors.As(err, &before) {
		return s.madeBefore(ctx, before.Note)
	}
	if err != nil {
		return Key{}, "", err
	}
	return row.key(id), keyPrefix + id + "_" + secret, nil
}

// noted is what is kept of a new key for a request that may be sent again.
type noted struct {
	ID     string `cbor:"id"`
	Sealed []byte `cbor:"sealed"`
}

func (s *Service) noteKey(ctx context.Context, id, secret string) ([]byte, error) {
	if guard.OnceOf(ctx) == nil {
		return nil, nil
	}
	if s.sealer == nil {
		return nil, fmt.Errorf("%w: here a key cannot be made with an idempotency key: send the request without", store.ErrInvalid)
	}
	sealed, err := s.sealer.Seal([]byte("api-key "+id), []byte(secret))
	if err != nil {
		return nil, fmt.Errorf("seal the new key: %w", err)
	}
	return schema.MustEncode(noted{id, sealed}), nil
}

// madeBefore is the key that an earlier sending of the same request made.
func (s *Service) madeBefore(ctx context.Context, note []byte) (Key, string, error) {
	var n noted
	if err := decode(note, &n); err != nil {
		return Key{}, "", fmt.Errorf("the key that was made cannot be read: %w", err)
	}
	var row keyRow
	if found, err := s.row(ctx, apiKeys.Key(n.ID), &row); err != nil || !found {
		return Key{}, "", either(err, fmt.Errorf("the key was made, and revoked since: %w", store.ErrNotFound))
	}
	secret, err := s.sealer.Open([]byte("api-key "+n.ID), n.Sealed)
	if err != nil {
		return Key{}, "", fmt.Errorf("open the key that was made: %w", err)
	}
	return row.key(n.ID), keyPrefix + n.ID + "_" + string(secret), nil
}

// limit shortens a key made by a key to its maker's life, and says whether it
// would be wider than its maker in anything else.
func (s *Service) limit(ctx context.Context, p auth.Principal, row *keyRow) (wider bool, err error) {
	if p.Kind != auth.APIKey {
		return false, nil
	}
	var maker keyRow
	found, err := s.row(ctx, apiKeys.Key(p.ID), &maker)
	if err != nil {
		return false, err
	}
	row.Expires = min(row.Expires, maker.Expires)
	beyond := func(asked, had []string) bool {
		return slices.ContainsFunc(asked, func(s string) bool { return !slices.Contains(had, s) })
	}
	return !found || beyond(row.Scopes, maker.Scopes) || beyond(row.Sources, maker.Sources), nil
}

// checked is the spec in good order, or why it cannot be.
func (k KeySpec) checked() (KeySpec, error) {
	k.Name = strings.Join(strings.Fields(k.Name), " ")
	if auth.HoldsSecret(k.Name + "\n" + strings.Join(k.Sources, "\n")) {
		return k, ErrMisplacedKey
	}
	if k.Name == "" || len(k.Name) > maxKeyName || strings.ContainsFunc(k.Name, notPrintable) {
		return k, fmt.Errorf("%w: give it a name of 1 to %d printable bytes", ErrKeySpec, maxKeyName)
	}
	if len(k.Scopes) == 0 {
		return k, fmt.Errorf("%w: give it at least one scope of %s", ErrKeySpec, strings.Join(auth.Scopes(), ", "))
	}
	for _, scope := range k.Scopes {
		if !slices.Contains(auth.Scopes(), scope) {
			return k, fmt.Errorf("%w: there is no scope %q, choose of %s", ErrKeySpec, scope, strings.Join(auth.Scopes(), ", "))
		}
	}
	if len(k.Sources) > maxKeySources {
		return k, fmt.Errorf("%w: a key reaches at most %d sources", ErrKeySpec, maxKeySources)
	}
	for _, source := range k.Sources {
		if source == "" || len(source) > maxSourceBytes || strings.ContainsFunc(source, notPrintable) {
			return k, fmt.Errorf("%w: %q is not the name of a source", ErrKeySpec, source)
		}
	}
	switch {
	case k.TTL == 0:
		k.TTL = defaultTTL
	case k.TTL < time.Second || k.TTL > maxTTL:
		return k, fmt.Errorf("%w: it lives for a second to %d days", ErrKeySpec, int(maxTTL/(24*time.Hour)))
	}
	k.Scopes = slices.Compact(slices.Sorted(slices.Values(k.Scopes)))
	k.Sources = slices.Compact(slices.Sorted(slices.Values(k.Sources)))
	return k, nil
}

// change makes a change through the guard. Its intent, itself and its outcome are
// one transaction, so none stands without the others. note is kept of it when the
// request may be sent again.
func (s *Service) change(ctx context.Context, req guard.Request, note []byte, f func(*store.Update) error) error {
	_, err := s.store.Update(ctx, func(u *store.Update) error {
		if err := guard.OnceOf(ctx).Claim(u, note); err != nil {
			return err
		}
		p, err := s.door.Begin(ctx, u.Tx, req)
		if err != nil {
			return err
		}
		if err := f(u); err != nil {
			return err
		}
		return s.door.Finish(u.Tx, p, guard.Outcome{Status: guard.StatusOK})
	})
	return err
}

// ListKeys lists the keys that exist, newest first, through the guard.
func (s *Service) ListKeys(ctx context.Context, p auth.Principal) ([]Key, error) {
	var list []Key
	req := guard.Request{Principal: p, Action: auth.KeyManage, Resource: auth.TheSystem, Detail: map[string]any{"what": "list"}}
	err := s.door.Read(ctx, req, func(ctx context.Context, _ *guard.Permit) (guard.Outcome, error) {
		err := s.store.View(ctx, store.Local, func(snap store.Snapshot) error {
			for item, err := range snap.Scan(apiKeys.Prefix(), "") {
				if err != nil {
					return err
				}
				var row keyRow
				parts, ok := apiKeys.Parts(item.Key)
				if err := decode(item.Value, &row); err != nil || !ok || len(parts) != 1 {
					return fmt.Errorf("the API key at %q cannot be read", item.Key)
				}
				list = append(list, row.key(parts[0]))
			}
			return nil
		})
		return guard.Outcome{Usage: map[string]int64{"rows": int64(len(list))}}, err
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(list, func(a, b Key) int { return b.Created.Compare(a.Created) })
	return list, nil
}

// RevokeKey ends a key through the guard; the next request with it is refused. An
// unknown key is store.ErrNotFound.
func (s *Service) RevokeKey(ctx context.Context, p auth.Principal, id string) error {
	if auth.HoldsSecret(id) {
		return fmt.Errorf("%w: to revoke a key, give its id, the part between the first and the second underscore", ErrMisplacedKey)
	}
	if len(id) > 2*keyIDLen {
		return fmt.Errorf("revoke a key: %w", store.ErrNotFound)
	}
	req := guard.Request{
		Principal: p, Action: auth.KeyManage, Resource: auth.TheSystem, Args: id,
		Detail: map[string]any{"what": "revoke", "key": id},
	}
	err := s.change(ctx, req, nil, func(u *store.Update) error {
		if _, err := u.Get(apiKeys.Key(id)); err != nil {
			return fmt.Errorf("revoke key %q: %w", id, err)
		}
		u.Delete(apiKeys.Key(id))
		return nil
	})
	var before *guard.DoneError
	if errors.As(err, &before) {
		return nil
	}
	return err
}

func notPrintable(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' }
