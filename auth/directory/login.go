package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// Find returns who signs in with this name, without their groups. The name is in
// its canonical form; a domain before a backslash is dropped. Nobody is a
// *RefusedError (Unknown), several are ErrAmbiguous.
func (d *Directory) Find(ctx context.Context, login string) (Person, error) {
	if _, after, ok := strings.Cut(login, `\`); ok {
		login = after
	}
	var p Person
	err := d.search.with(ctx, func(c *conn) error {
		k, err := d.kind(c)
		if err != nil {
			return err
		}
		e, err := d.one(c, d.personFilter(k, login), k.personAttrs())
		if err != nil {
			return err
		}
		p, err = d.person(k, e)
		return err
	})
	return p, err
}

// one searches below the base for exactly one entry. Referrals to other servers
// are not followed and count as nothing.
func (d *Directory) one(c *conn, filter string, attrs []string) (*ldap.Entry, error) {
	r, err := c.Search(ldap.NewSearchRequest(d.cfg.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 2, int(answerWait.Seconds()), false, filter, attrs, nil))
	if err != nil && !(ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) && r != nil && len(r.Entries) > 0) {
		return nil, d.baseMissing(err)
	}
	switch len(r.Entries) {
	case 0:
		return nil, &RefusedError{State: Unknown}
	case 1:
		if err == nil {
			return r.Entries[0], nil
		}
	}
	return nil, fmt.Errorf("%w: make the directory's filter or the sign-in attribute one that only one entry can have", ErrAmbiguous)
}

// baseMissing names the setting when the base is not there.
func (d *Directory) baseMissing(err error) error {
	if ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) || ldap.IsErrorWithCode(err, ldap.LDAPResultReferral) {
		return fmt.Errorf("%w: the server has no entry %q", ErrConfig, d.cfg.Base)
	}
	return err
}

func (d *Directory) person(k Kind, e *ldap.Entry) (Person, error) {
	id, err := entryID(k, e)
	if err != nil {
		return Person{}, err
	}
	login := first(e.GetAttributeValue("sAMAccountName"), e.GetAttributeValue("uid"))
	if len(d.cfg.LoginAttrs) > 0 {
		login = first(e.GetAttributeValue(d.cfg.LoginAttrs[0]), login)
	}
	return Person{
		ID: id, Login: login, Name: first(e.GetAttributeValue("displayName"), e.GetAttributeValue("cn"), login),
		Mail: e.GetAttributeValue("mail"), DN: e.DN, State: stateOf(k, e, time.Now()),
	}, nil
}

// Prove asks the directory whether this is the person's password, by signing in
// as them, and returns them with their groups. p comes from Find; a blank
// password is refused without asking anybody.
func (d *Directory) Prove(ctx context.Context, p Person, password string) (Person, error) {
	if strings.TrimSpace(password) == "" || p.DN == "" {
		return Person{}, &RefusedError{State: WrongPassword, ID: p.ID}
	}
	err := d.bind.with(ctx, func(c *conn) error { return c.Bind(p.DN, password) })
	if r := refusal(err); r != nil {
		r.ID = p.ID
		return Person{}, r
	}
	if err != nil {
		return Person{}, answered(err)
	}
	// The account's state, and that it still exists, from after the password was
	// proven; a directory may let in who must first change it.
	fresh, err := d.Lookup(ctx, p.ID)
	if errors.Is(err, ErrGone) {
		return Person{}, &RefusedError{State: Unknown, ID: p.ID}
	}
	if err == nil && fresh.State != Active {
		return Person{}, &RefusedError{State: fresh.State, ID: p.ID}
	}
	return fresh, err
}

// Pretend takes the time that Prove takes, for a name that nobody has, so that a
// stranger's stopwatch does not tell the two apart.
func (d *Directory) Pretend(ctx context.Context) {
	dn := "cn=cloister-nobody," + d.cfg.Base
	_ = d.bind.with(ctx, func(c *conn) error { return c.Bind(dn, "no password at all") })
	_ = d.search.with(ctx, func(c *conn) error {
		_, err := d.one(c, "(&(objectClass=person)(cn=cloister-nobody))", []string{"cn"})
		return err
	})
}

// Lookup returns a person by identifier as they are now, with their groups. It is
// ErrGone only when a server searched the whole base and the service account still
// sees anybody below it: one that lost its rights makes nobody disappear.
func (d *Directory) Lookup(ctx context.Context, id string) (Person, error) {
	var p Person
	err := d.search.with(ctx, func(c *conn) error {
		k, err := d.kind(c)
		if err != nil {
			return err
		}
		filter, err := d.idsFilter(k, []string{id})
		if err != nil {
			return err
		}
		e, err := d.one(c, filter, k.personAttrs())
		if errors.Is(err, ErrRefused) {
			return d.gone(c)
		}
		if err != nil {
			return err
		}
		if p, err = d.person(k, e); err != nil {
			return err
		}
		p.Groups, err = d.groupsOf(c, k, e)
		return err
	})
	if err != nil {
		return Person{}, answered(err)
	}
	return p, nil
}

func (d *Directory) gone(c *conn) error {
	k, err := d.kind(c)
	if err != nil {
		return err
	}
	r, err := c.Search(ldap.NewSearchRequest(d.cfg.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 1, int(answerWait.Seconds()), false, d.people(k, ""), []string{"1.1"}, nil))
	if err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) {
		return &unreachable{plain(d.baseMissing(err))}
	}
	if r == nil || len(r.Entries) == 0 {
		return &unreachable{fmt.Errorf("the service account sees nobody below %q any more", d.cfg.Base)}
	}
	return ErrGone
}

// answered turns what is neither a refusal nor a lack of an answer, such as a
// server that forbids the search, into the error that it is to a caller.
func answered(err error) error {
	for _, known := range []error{ErrNoAnswer, ErrGone, ErrRefused, ErrAmbiguous, ErrConfig, ErrTooMany} {
		if errors.Is(err, known) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", ErrNoAnswer, plain(err))
}
