package session

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/store"
)

const goodPassword = "a horse of another colour"

// place is a service with a clock that the test moves.
type place struct {
	*Service
	house *guardtest.House
	clock atomic.Int64 // seconds since 1970
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{house: guardtest.Open(t, nil)}
	p.clock.Store(1_800_000_000)
	s, err := New(Config{Store: p.house.Store, Door: p.house, Node: "test", Now: func() time.Time { return time.Unix(p.clock.Load(), 0) }})
	if err != nil {
		t.Fatal(err)
	}
	s.hasher = newHasher(cost{memory: 64, time: 1, lanes: 1})
	p.Service = s
	return p
}

func (p *place) wait(d time.Duration) { p.clock.Add(int64(d / time.Second)) }

// setUp makes the administrator "ada" and returns the session's token.
func (p *place) setUp(t *testing.T) (Session, string) {
	t.Helper()
	code, err := p.NewSetupCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, token, err := p.Setup(t.Context(), code, "ada", goodPassword)
	if err != nil {
		t.Fatal(err)
	}
	return s, token
}

func (p *place) events(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, r := range p.house.Records(t) {
		if r.Kind == audit.Event {
			out = append(out, string(r.Action))
		}
	}
	return out
}

func bearer(token string) *http.Request {
	r := httptest.NewRequest("GET", "https://cloister/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

func TestSetupWorksOnceAndSignsIn(t *testing.T) {
	p := newPlace(t)
	if needed, err := p.SetupNeeded(t.Context()); err != nil || !needed {
		t.Fatalf("%v %v", needed, err)
	}
	old, err := p.NewSetupCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	code, err := p.NewSetupCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Setup(t.Context(), old, "ada", goodPassword); !errors.Is(err, ErrSetupCode) {
		t.Errorf("a replaced code: %v", err)
	}
	if _, _, err := p.Setup(t.Context(), code, "ada", "short"); !errors.Is(err, ErrPassword) {
		t.Errorf("a short password: %v", err)
	}
	s, token, err := p.Setup(t.Context(), " "+strings.ToLower(strings.ReplaceAll(code, "-", " ")), "  Ada  ", goodPassword)
	if err != nil {
		t.Fatal(err)
	}
	who, err := p.Authenticate(bearer(token))
	if err != nil || who.ID != s.User.ID || who.Kind != auth.User || !slices.Equal(who.Roles, []auth.Role{auth.Administrator}) || who.Name != "ada" {
		t.Errorf("%+v %v", who, err)
	}
	if _, _, err := p.Setup(t.Context(), code, "eve", goodPassword); !errors.Is(err, ErrSetupDone) {
		t.Errorf("a second setup: %v", err)
	}
	if _, err := p.NewSetupCode(t.Context()); !errors.Is(err, ErrSetupDone) {
		t.Errorf("a code after setup: %v", err)
	}
	if needed, err := p.SetupNeeded(t.Context()); err != nil || needed {
		t.Errorf("%v %v", needed, err)
	}
	want := []string{"session.setup-code", "session.setup-code", "session.setup-failed", "session.setup"}
	if got := p.events(t); !slices.Equal(got, want) {
		t.Errorf("events %q", got)
	}
}

func TestOfTwoSetupsAtOnceOneSucceeds(t *testing.T) {
	p := newPlace(t)
	code, err := p.NewSetupCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var won atomic.Int32
	var all sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} {
		all.Go(func() {
			if _, _, err := p.Setup(t.Context(), code, name, goodPassword); err == nil {
				won.Add(1)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Errorf("%d succeeded", won.Load())
	}
}

func TestWrongSetupCodesAreSlowedAndRecordedAndNeverLockForEver(t *testing.T) {
	p := newPlace(t)
	code, err := p.NewSetupCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	try := func(code string) error {
		_, _, err := p.Setup(t.Context(), code, "ada", goodPassword)
		return err
	}
	for i := range 5 {
		if err := try("WRONG-WRONG-WRONG-WRONG"); !errors.Is(err, ErrSetupCode) {
			t.Fatalf("attempt %d: %v", i+1, err)
		}
	}
	for range 3 {
		var slow *ThrottledError
		if err := try(code); !errors.As(err, &slow) || !errors.Is(err, auth.ErrThrottled) || slow.RetryAfter <= 0 {
			t.Fatalf("the sixth attempt was not slowed: %v", err)
		}
	}
	// An attacker who goes on for a day has waits of a minute at most.
	for range 200 {
		p.wait(time.Minute)
		if err := try("WRONG-WRONG-WRONG-WRONG"); !errors.Is(err, ErrSetupCode) {
			t.Fatalf("locked: %v", err)
		}
	}
	p.wait(time.Minute)
	if err := try(code); err != nil {
		t.Fatalf("the right code after a minute: %v", err)
	}
	failed := 0
	for _, e := range p.events(t) {
		if e == "session.setup-failed" {
			failed++
		}
	}
	if failed != 205 {
		t.Errorf("%d failures on record", failed)
	}
}

func TestAThrottleCannotBeOutrunByParallelAttempts(t *testing.T) {
	p := newPlace(t)
	p.setUp(t)
	before := p.hasher.runs.Load()
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() { _, _, _ = p.Login(t.Context(), "ada", "wrong wrong wrong") })
	}
	all.Wait()
	if tried := p.hasher.runs.Load() - before; tried > 5 {
		t.Errorf("%d passwords were tried at once, 5 are free", tried)
	}
}

func TestAliasesOfANameAreOneIdentity(t *testing.T) {
	p := newPlace(t)
	first, _ := p.setUp(t)
	for _, alias := range []string{"ada", "ADA", " ada ", "Ada\t", "\u00a0ada", "ａｄａ", "ⓐda"} {
		s, _, err := p.Login(t.Context(), alias, goodPassword)
		if err != nil || s.User.ID != first.User.ID {
			t.Errorf("%q: %+v %v", alias, s.User, err)
		}
	}
	for i, alias := range []string{"ada", "ADA", " ada", "Ada", "ａｄａ"} {
		if _, _, err := p.Login(t.Context(), alias, "wrong wrong wrong"); !errors.Is(err, auth.ErrUnauthenticated) {
			t.Fatalf("%d: %v", i, err)
		}
	}
	if _, _, err := p.Login(t.Context(), "aDa", goodPassword); !errors.Is(err, auth.ErrThrottled) {
		t.Errorf("an alias got a throttle of its own: %v", err)
	}
}

func TestAWrongNameAndAWrongPasswordLookAlike(t *testing.T) {
	p := newPlace(t)
	p.setUp(t)
	type shape struct {
		err      string
		hashes   int64
		versions store.Version
	}
	measure := func(name, password string) shape {
		runs, version := p.hasher.runs.Load(), p.house.Store.Applied()
		_, _, err := p.Login(t.Context(), name, password)
		if !errors.Is(err, auth.ErrUnauthenticated) {
			t.Fatalf("%q: %v", name, err)
		}
		return shape{err.Error(), p.hasher.runs.Load() - runs, p.house.Store.Applied() - version}
	}
	want := measure("ada", "wrong wrong wrong")
	for _, name := range []string{"eve", "", "a\x00b", "ada\u200b", strings.Repeat("x", 10_000)} {
		if got := measure(name, "wrong wrong wrong"); got != want {
			t.Errorf("%.20q: %+v, for a known name %+v", name, got, want)
		}
	}
	for _, password := range []string{"", strings.Repeat("x", 10_000), "\xff\xfe"} {
		if got := measure("ada", password); got != want {
			t.Errorf("password %.20q: %+v, want %+v", password, got, want)
		}
		p.wait(time.Minute)
	}
	if _, _, err := p.Login(t.Context(), "ada", goodPassword); err != nil {
		t.Error(err)
	}
}

func TestGuessingFromElsewhereDoesNotKeepOutWhoSignedInLately(t *testing.T) {
	p := newPlace(t)
	p.setUp(t)
	home := WithAddress(t.Context(), "10.0.0.7:4000")
	if _, _, err := p.Login(home, "ada", goodPassword); err != nil {
		t.Fatal(err)
	}
	slowed := false
	for i := range 100 {
		from := WithAddress(t.Context(), "10.9.0."+string(rune('0'+i%10))+":1")
		_, _, err := p.Login(from, "ada", "wrong wrong wrong")
		slowed = slowed || errors.Is(err, auth.ErrThrottled)
	}
	if !slowed {
		t.Error("guessing from ten addresses was never slowed")
	}
	if _, _, err := p.Login(home, "ada", goodPassword); err != nil {
		t.Errorf("the person was kept out: %v", err)
	}
}

func TestSessionsEnd(t *testing.T) {
	p := newPlace(t)
	_, token := p.setUp(t)
	alive := func() bool {
		_, err := p.Authenticate(bearer(token))
		if err != nil && !errors.Is(err, auth.ErrUnauthenticated) {
			t.Fatal(err)
		}
		return err == nil
	}
	for range 13 { // used every eleven hours it stays, until its life is over
		p.wait(11 * time.Hour)
		if !alive() {
			t.Fatal("a session in use ended")
		}
	}
	p.wait(26 * time.Hour)
	if alive() {
		t.Error("a session outlived its life")
	}
	_, token, err := p.Login(t.Context(), "ada", goodPassword)
	if err != nil {
		t.Fatal(err)
	}
	p.wait(12 * time.Hour)
	if alive() {
		t.Error("an unused session stayed")
	}
	if err := p.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, p.house.Store, sessions.Prefix()); n != 0 {
		t.Errorf("%d sessions are kept", n)
	}
	_, token, err = p.Login(t.Context(), "ada", goodPassword)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Logout(t.Context(), bearer(token)); err != nil || alive() {
		t.Errorf("signed out, and still in (%v)", err)
	}
	if got := p.events(t); got[len(got)-1] != "session.logout" {
		t.Errorf("%q", got)
	}
}

func TestNoSecretIsStoredOrRecordedInClear(t *testing.T) {
	p := newPlace(t)
	code, err := p.NewSetupCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, token, err := p.Setup(t.Context(), code, "ada", goodPassword)
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := p.CreateKey(t.Context(), s.User.Principal(), KeySpec{Name: "ci", Scopes: []string{"ask"}})
	if err != nil {
		t.Fatal(err)
	}
	_, _, _ = p.Login(t.Context(), "my password in the wrong field", "wrong wrong wrong")
	secrets := []string{plainCode(code), code, token, token[3:], key, key[20:], goodPassword, "wrong field"}
	planted := false
	check := func(where string, b []byte) {
		for _, secret := range secrets {
			if strings.Contains(strings.ToLower(string(b)), strings.ToLower(secret)) {
				t.Errorf("%s holds %q", where, secret)
			}
		}
		planted = planted || strings.Contains(string(b), "ada")
	}
	err = p.house.Store.View(t.Context(), store.Fresh, func(snap store.Snapshot) error {
		for _, database := range []store.Key{"S", "H"} {
			for item, err := range snap.Scan(database, "") {
				if err != nil {
					return err
				}
				check(string(item.Key), append([]byte(item.Key), item.Value...))
			}
		}
		for leaf, err := range snap.Log(audit.LogName).Leaves(0) {
			if err != nil {
				return err
			}
			check("the audit log", leaf.Data)
			if strings.Contains(string(leaf.Data), `"ada"`) {
				t.Errorf("a name is on record: %s", leaf.Data)
			}
		}
		return nil
	})
	if err != nil || !planted {
		t.Errorf("%v; the search finds nothing at all: %v", err, !planted)
	}
}

func count(t *testing.T, st store.Store, prefix store.Key) (n int) {
	t.Helper()
	err := st.View(context.Background(), store.Fresh, func(s store.Snapshot) error {
		for _, err := range s.Scan(prefix, "") {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
