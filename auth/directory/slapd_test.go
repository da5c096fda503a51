package directory_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth/directory"
	"github.com/cloister-os/cloister/auth/directory/directorytest"
)

func dn(uid string) string { return "uid=" + uid + ",dc=example,dc=org" }
func gn(cn string) string  { return "cn=" + cn + ",dc=example,dc=org" }

// people is a small organisation: nested groups with a ring, an account that its
// directory locked, names that are full of meta characters.
func people() string {
	return directorytest.PersonEntry("alice", "mail: alice@example.org") +
		directorytest.PersonEntry("bob") +
		directorytest.PersonEntry("a*)(uid=*") +
		directorytest.PersonEntry(`q\,r+s`) +
		directorytest.PersonEntry("twin") +
		directorytest.Entry("cn=twin,dc=example,dc=org", "objectClass: inetOrgPerson", "uid: twin", "cn: twin", "sn: x") +
		directorytest.GroupEntry("inner", dn("alice")) +
		directorytest.GroupEntry("middle", gn("inner"), gn("outer")) +
		directorytest.GroupEntry("outer", gn("middle")) +
		directorytest.GroupEntry("others", dn("bob")) +
		directorytest.Entry(gn("posix"), "objectClass: posixGroup", "cn: posix", "gidNumber: 7", "memberUid: alice")
}

func slapd(t *testing.T, ldif string) *directorytest.Server {
	t.Helper()
	if why := directorytest.SlapdReason(); why != "" {
		t.Skip(why)
	}
	return directorytest.Slapd(t, ldif)
}

func config(s *directorytest.Server, servers ...string) directory.Config {
	if len(servers) == 0 {
		servers = []string{s.LDAPS}
	}
	return directory.Config{Name: "corp", Servers: servers, CA: s.CA, BindDN: s.BindDN, BindPassword: s.BindPassword, Base: s.Base}
}

func open(t *testing.T, c directory.Config) *directory.Directory {
	t.Helper()
	d, err := directory.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func login(ctx context.Context, d *directory.Directory, name, password string) (directory.Person, error) {
	p, err := d.Find(ctx, name)
	if err != nil {
		return p, err
	}
	return d.Prove(ctx, p, password)
}

func names(p directory.Person) []string {
	var out []string
	for _, g := range p.Groups {
		out = append(out, g.Name)
	}
	slices.Sort(out)
	return out
}

func TestSlapd(t *testing.T) {
	s := slapd(t, people())
	for _, url := range []string{s.LDAPS, s.StartTLS} {
		t.Run(url[:5], func(t *testing.T) { logins(t, open(t, config(s, url))) })
	}
}

func logins(t *testing.T, d *directory.Directory) {
	p, err := login(t.Context(), d, "alice", directorytest.Password)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"inner", "middle", "outer", "posix"}; !slices.Equal(names(p), want) {
		t.Errorf("groups %v, want %v", names(p), want)
	}
	if p.Login != "alice" || p.Mail != "alice@example.org" || len(p.ID) != 36 || p.State != directory.Active {
		t.Errorf("%+v", p)
	}
	again, err := d.Lookup(t.Context(), p.ID)
	if err != nil || again.DN != p.DN || !slices.Equal(names(again), names(p)) {
		t.Errorf("looked up as %+v %v", again, err)
	}
	for _, c := range []struct {
		name, password string
		want           error
		state          directory.State
	}{
		{"alice", "wrong", directory.ErrRefused, directory.WrongPassword},
		{"alice", "", directory.ErrRefused, directory.WrongPassword},
		{"alice", " \t ", directory.ErrRefused, directory.WrongPassword},
		{"nobody", directorytest.Password, directory.ErrRefused, directory.Unknown},
		{"*", directorytest.Password, directory.ErrRefused, directory.Unknown},
		{"alice)(uid=*", directorytest.Password, directory.ErrRefused, directory.Unknown},
		{"twin", directorytest.Password, directory.ErrAmbiguous, ""},
	} {
		_, err := login(t.Context(), d, c.name, c.password)
		var refused *directory.RefusedError
		if !errors.Is(err, c.want) || (c.state != "" && (!errors.As(err, &refused) || refused.State != c.state)) {
			t.Errorf("%q %q: %v", c.name, c.password, err)
		}
	}
	for _, name := range []string{"a*)(uid=*", `CORP\alice`, "ALICE", "  alice "} {
		if _, err := login(t.Context(), d, name, directorytest.Password); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A name that the directory knows by several spellings is one person.
func TestSpellingsOfANameAreOnePerson(t *testing.T) {
	d := open(t, config(slapd(t, people())))
	want, err := d.Find(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Alice", " alice", "ALICE  "} {
		if got, err := d.Find(t.Context(), name); err != nil || got.ID != want.ID || got.Login != "alice" {
			t.Errorf("%q: %+v %v", name, got, err)
		}
	}
}

// dials counts connections.
func dials(t *testing.T) (address string, count *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	count = &atomic.Int64{}
	go func() {
		for {
			if _, err := l.Accept(); err != nil {
				return
			}
			count.Add(1) // and never answers
		}
	}()
	return l.Addr().String(), count
}

func TestABlankPasswordNeverReachesTheWire(t *testing.T) {
	s := slapd(t, people())
	p, err := open(t, config(s)).Find(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	address, count := dials(t)
	d := open(t, config(s, "ldaps://"+address))
	for _, password := range []string{"", " ", "\t\n", "\u00a0\u2003"} {
		if _, err := d.Prove(t.Context(), p, password); !errors.Is(err, directory.ErrRefused) {
			t.Errorf("%q: %v", password, err)
		}
	}
	if count.Load() != 0 {
		t.Errorf("%d connections were made", count.Load())
	}
	if _, err := d.Prove(t.Context(), p, "x"); !errors.Is(err, directory.ErrNoAnswer) || count.Load() == 0 {
		t.Errorf("a password that is not blank was not tried: %v", err)
	}
}

func TestOnlyThePinnedAuthorityAndTheRightNameAreTrusted(t *testing.T) {
	s, other := slapd(t, people()), slapd(t, "")
	c := config(s)
	c.CA = other.CA
	if _, err := open(t, c).Find(t.Context(), "alice"); !errors.Is(err, directory.ErrNoAnswer) {
		t.Errorf("a certificate of another authority: %v", err)
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(s.LDAPS, "ldaps://"), ":")
	c = config(s, "ldaps://127.0.0.2:"+port)
	if _, err := open(t, c).Find(t.Context(), "alice"); !errors.Is(err, directory.ErrNoAnswer) {
		t.Errorf("a certificate for another host: %v", err)
	}
}

func TestTheSecondServerAnswersSoon(t *testing.T) {
	s := slapd(t, people())
	silent, _ := dials(t)
	for name, first := range map[string]string{"nobody listens": "127.0.0.1:1", "nobody answers": silent} {
		t.Run(name, func(t *testing.T) {
			d := open(t, config(s, "ldaps://"+first, s.LDAPS))
			if _, err := login(t.Context(), d, "alice", directorytest.Password); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A server that stops answering in mid-use is left for the next one, and nobody
// is gone because of it.
func TestDidNotAnswerIsNeverGone(t *testing.T) {
	a, b := slapd(t, people()), slapd(t, people())
	c := config(a, a.LDAPS, b.LDAPS)
	c.CA = append(c.CA, b.CA...)
	d := open(t, c)
	p, err := login(t.Context(), d, "alice", directorytest.Password)
	if err != nil {
		t.Fatal(err)
	}
	a.Freeze()
	if _, err := d.Find(t.Context(), "bob"); err != nil {
		t.Errorf("with one server frozen: %v", err)
	}
	a.Thaw()
	a.Stop()
	if _, err := d.Find(t.Context(), "bob"); err != nil {
		t.Errorf("with one server down: %v", err)
	}
	b.Stop()
	for range 2 {
		if _, err := d.Lookup(t.Context(), p.ID); !errors.Is(err, directory.ErrNoAnswer) || errors.Is(err, directory.ErrGone) {
			t.Errorf("with no server: %v", err)
		}
	}
}

func TestAPersonWhoWasDeletedIsGone(t *testing.T) {
	d := open(t, config(slapd(t, people())))
	if _, err := d.Lookup(t.Context(), "00000000-0000-0000-0000-000000000000"); !errors.Is(err, directory.ErrGone) {
		t.Errorf("%v", err)
	}
}

// A service account that may read nothing below the base makes nobody disappear.
func TestAnAccountThatLostItsRightsMakesNobodyDisappear(t *testing.T) {
	s := slapd(t, people())
	d := open(t, config(s))
	p, err := d.Find(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	c := config(s)
	c.BindDN, c.BindPassword, c.Base = dn("bob"), directorytest.Password, "ou=nowhere,dc=example,dc=org"
	if _, err := open(t, c).Lookup(t.Context(), p.ID); errors.Is(err, directory.ErrGone) || err == nil {
		t.Errorf("%v", err)
	}
}

func TestAnyNumberOfGroups(t *testing.T) {
	const many = 50_000
	var b strings.Builder
	b.WriteString(people())
	for i := range many {
		b.WriteString(directorytest.GroupEntry(fmt.Sprintf("team-%05d", i), dn("bob")))
	}
	d := open(t, config(slapd(t, b.String())))
	groups, more, err := d.Groups(t.Context(), "", 50)
	if err != nil || len(groups) != 50 || !more {
		t.Errorf("%d groups, more %t: %v", len(groups), more, err)
	}
	groups, more, err = d.Groups(t.Context(), "team-0417", 50)
	if err != nil || len(groups) != 10 || more {
		t.Errorf("%d groups, more %t: %v", len(groups), more, err)
	}
	if p, err := login(t.Context(), d, "alice", directorytest.Password); err != nil || len(p.Groups) != 4 {
		t.Errorf("somebody in four of them: %v %v", names(p), err)
	}
	if _, err := login(t.Context(), d, "bob", directorytest.Password); !errors.Is(err, directory.ErrTooMany) {
		t.Errorf("somebody in all of them: %v", err)
	}
}

func TestTheConnectionIsWalkedStepByStep(t *testing.T) {
	s := slapd(t, people())
	r := open(t, config(s, s.LDAPS, s.StartTLS)).Test(t.Context(), "alice")
	if !r.OK() || r.Person == nil || len(r.Person.Groups) != 4 {
		t.Errorf("%+v", r)
	}
	c := config(s)
	c.BindPassword = "wrong-service-secret"
	for name, broken := range map[string]directory.Config{
		"nobody listens":  config(s, "ldaps://127.0.0.1:1"),
		"not TLS":         config(s, "ldaps://"+strings.TrimPrefix(s.StartTLS, "ldap://")),
		"wrong password":  c,
		"no such base":    func() directory.Config { c := config(s); c.Base = "dc=nowhere"; return c }(),
		"nobody by that":  config(s),
		"another's cert":  func() directory.Config { c := config(s); c.CA = slapd(t, "").CA; return c }(),
		"two by the name": config(s),
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t, broken).Test(t.Context(), map[string]string{"nobody by that": "nobody", "two by the name": "twin"}[name])
			if r.OK() {
				t.Fatalf("%+v", r)
			}
			last := r.Steps[len(r.Steps)-1]
			if last.OK || last.Saw == "" || last.Next == "" || strings.Contains(fmt.Sprint(r), "wrong-service-secret") {
				t.Errorf("%+v", last)
			}
		})
	}
}

func TestSettingsThatCannotWorkAreRefusedAtOnce(t *testing.T) {
	ca := directorytest.Authority(t)
	good := directory.Config{Name: "corp", Servers: []string{"ldaps://dc1.example.org"}, CA: ca, BindDN: "cn=s", BindPassword: "x", Base: "dc=example,dc=org"}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*directory.Config){
		"plain name":   func(c *directory.Config) { c.Name = "Corp Ltd" },
		"no server":    func(c *directory.Config) { c.Servers = nil },
		"plain HTTP":   func(c *directory.Config) { c.Servers = []string{"http://dc1"} },
		"secret in it": func(c *directory.Config) { c.Servers = []string{"ldaps://a:b@dc1"} },
		"no authority": func(c *directory.Config) { c.CA = []byte("x") },
		"anonymous":    func(c *directory.Config) { c.BindPassword = "  " },
		"no base":      func(c *directory.Config) { c.Base = "" },
		"no DN":        func(c *directory.Config) { c.Base = "example.org" },
		"half filter":  func(c *directory.Config) { c.Filter = "(memberOf=x" },
		"kind":         func(c *directory.Config) { c.Kind = "novell" },
	} {
		c := good
		spoil(&c)
		if err := c.Check(); !errors.Is(err, directory.ErrConfig) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAStopwatchDoesNotTellWhoExists(t *testing.T) {
	d := open(t, config(slapd(t, people())))
	began := time.Now()
	d.Pretend(t.Context()) // that it runs and ends; its time is a matter of the network
	if took := time.Since(began); took > time.Minute {
		t.Errorf("%v", took)
	}
}
