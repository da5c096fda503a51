package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/schema"
)

// ThrottledError says that an attempt was not even tried, and when to come back.
// It matches auth.ErrThrottled.
type ThrottledError struct{ RetryAfter time.Duration }

func (e *ThrottledError) Error() string {
	return fmt.Sprintf("%v: try again in %d s", auth.ErrThrottled, max(1, int(e.RetryAfter.Round(time.Second)/time.Second)))
}

// Is makes errors.Is(err, auth.ErrThrottled) true.
func (e *ThrottledError) Is(target error) bool { return target == auth.ErrThrottled }

// throttle is how attempts at one thing are slowed: so many are free, then each
// waits twice as long as the one before, up to a bound. Nothing is ever locked:
// after the wait, the right answer is right.
type throttle struct {
	what string
	free int
	top  time.Duration
}

// The throttles. Guessing one name, or the setup code, from one address is slowed
// hard. Guessing from many addresses is slowed a little, for it must not keep out
// the person whose name it is, or who has the code.
func forCode() throttle    { return throttle{"setup-code-from", 5, time.Minute} }
func forAnyCode() throttle { return throttle{"setup-code", 50, 5 * time.Second} }
func forAddress() throttle { return throttle{"login-from", 5, time.Minute} }
func forName() throttle    { return throttle{"login", 50, 5 * time.Second} }

// busyRetry is for when too many people sign in at once. forgetAfter is when a
// throttle that nobody touched begins anew.
const (
	busyRetry   = 2 * time.Second
	forgetAfter = 24 * time.Hour
)

func (t throttle) key(whom string) store.Key { return throttles.Key(t.what, hashPart(whom)) }

// wait is how long to wait after so many attempts without a success.
func (t throttle) wait(attempts int) time.Duration {
	if attempts < t.free {
		return 0
	}
	d := time.Second
	for range attempts - t.free {
		if d >= t.top {
			break
		}
		d *= 2
	}
	return min(d, t.top)
}

// count adds an attempt before it is made, so that parallel ones do not slip
// through together. It returns how many attempts there were before, or a
// *ThrottledError and counts nothing.
func (s *Service) count(ctx context.Context, t throttle, whom string) (before int, err error) {
	_, err = s.store.Update(ctx, func(u *store.Update) (err error) {
		before, err = s.countIn(u, t, whom)
		return err
	})
	return before, met(err)
}

// met is the error when so many came at once that they only met each other.
func met(err error) error {
	if errors.Is(err, store.ErrBusy) {
		return &ThrottledError{RetryAfter: busyRetry}
	}
	return err
}

func (s *Service) countIn(u *store.Update, t throttle, whom string) (before int, err error) {
	now := s.now()
	var row throttleRow
	if _, _, err := get(u.Get, t.key(whom), &row); err != nil {
		return 0, err
	}
	if until := time.UnixMilli(row.Until); now.Before(until) {
		return 0, &ThrottledError{RetryAfter: until.Sub(now)}
	}
	if now.Sub(time.Unix(row.Last, 0)) > forgetAfter {
		row = throttleRow{}
	}
	before = row.Attempts
	row.V, row.Attempts, row.Last = 1, row.Attempts+1, now.Unix()
	row.Until = now.Add(t.wait(row.Attempts)).UnixMilli()
	u.Put(t.key(whom), schema.MustEncode(row))
	return before, nil
}

// forgive forgets the attempts, after a success.
func (t throttle) forgive(tx *store.Tx, whom string) { tx.Delete(t.key(whom)) }

// familiar marks a name and an address that signed in together lately: attempts
// from elsewhere then do not slow them.
const familiar = "familiar"

// countLogin counts an attempt to sign in as whom: a local account's canonical
// name, somebody's id in their directory, or the canonical name of nobody. It
// returns how many there were before from this address.
func (s *Service) countLogin(ctx context.Context, whom string) (before int, err error) {
	from := whom + "\x00" + address(ctx)
	_, err = s.store.Update(ctx, func(u *store.Update) (err error) {
		if before, err = s.countIn(u, forAddress(), from); err != nil {
			return err
		}
		var row throttleRow
		_, ok, err := get(u.Snapshot.Get, throttles.Key(familiar, hashPart(from)), &row)
		if err == nil && (!ok || s.now().Sub(time.Unix(row.Last, 0)) > forgetAfter) {
			_, err = s.countIn(u, forName(), whom)
		}
		return err
	})
	return before, met(err)
}

// forgiveLogin forgets the attempts after a success, and remembers the address.
func (s *Service) forgiveLogin(ctx context.Context, tx *store.Tx, name string) {
	from := name + "\x00" + address(ctx)
	forAddress().forgive(tx, from)
	forName().forgive(tx, name)
	tx.Put(throttles.Key(familiar, hashPart(from)), schema.MustEncode(throttleRow{V: 1, Last: s.now().Unix()}))
}

type addressKey struct{}

// WithAddress says where an attempt comes from: http.Request.RemoteAddr. Without
// it all attempts count as from one place.
func WithAddress(ctx context.Context, remoteAddr string) context.Context {
	host, _, err := net.SplitHostPort(remoteAddr)
	if err != nil {
		host = remoteAddr
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		bits := 32
		if ip = ip.Unmap(); ip.Is6() {
			bits = 64 // one household of IPv6 has 2^64 addresses
		}
		if p, err := ip.WithZone("").Prefix(bits); err == nil {
			host = p.String()
		}
	}
	return context.WithValue(ctx, addressKey{}, host)
}

func address(ctx context.Context) string {
	a, _ := ctx.Value(addressKey{}).(string)
	return a
}
