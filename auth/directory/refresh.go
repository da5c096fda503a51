package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/go-ldap/ldap/v3"
)

// refreshers is how many connections Refresh uses at once: a directory serves
// others too.
const refreshers = 8

// Refresh returns people by identifier as they are now, with their groups. Whoever
// is not among them is gone, on the conditions of Lookup. It asks the directory
// once for each hundred people, once for each person's own groups, and once for
// each group that any of them is in. An error says nothing about anybody.
//
// Somebody who is in more groups than can be is returned with none, for what they
// may do cannot be told.
func (d *Directory) Refresh(ctx context.Context, ids []string) (map[string]Person, error) {
	found := &answers{people: map[string]Person{}, above: map[string][]Group{}}
	var entries []*ldap.Entry
	var k Kind
	for len(ids) > 0 {
		n := min(perFilter, len(ids))
		err := d.search.with(ctx, func(c *conn) (err error) {
			if k, err = d.kind(c); err != nil {
				return err
			}
			some, err := d.entries(c, k, ids[:n])
			entries = append(entries, some...)
			return err
		})
		if err != nil {
			return nil, answered(err)
		}
		ids = ids[n:]
	}
	if err := found.fill(ctx, d, k, entries); err != nil {
		return nil, answered(err)
	}
	return found.people, nil
}

// entries are the entries of those people who are there.
func (d *Directory) entries(c *conn, k Kind, ids []string) ([]*ldap.Entry, error) {
	filter, err := d.idsFilter(k, ids)
	if err != nil {
		return nil, err
	}
	c.raw.allow(answerBytes)
	r, err := c.Search(ldap.NewSearchRequest(d.cfg.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, len(ids)+1, int(answerWait.Seconds()), false, filter, k.personAttrs(), nil))
	if err != nil {
		return nil, d.baseMissing(err)
	}
	if len(r.Entries) < len(ids) {
		if err := d.gone(c); !errors.Is(err, ErrGone) {
			return nil, err
		}
	}
	return r.Entries, nil
}

// answers is what one Refresh has learnt.
type answers struct {
	mu     sync.Mutex // guards what follows
	people map[string]Person
	above  map[string][]Group // the groups that name a group, by its DN
}

// fill adds the people of the entries, several at a time.
func (a *answers) fill(ctx context.Context, d *Directory, k Kind, entries []*ldap.Entry) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan *ldap.Entry)
	var all sync.WaitGroup
	for range min(refreshers, len(entries)) {
		all.Go(func() {
			for e := range work {
				if err := a.add(ctx, d, k, e); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, e := range entries {
		if ctx.Err() != nil {
			break
		}
		work <- e
	}
	close(work)
	all.Wait()
	return context.Cause(ctx)
}

func (a *answers) add(ctx context.Context, d *Directory, k Kind, e *ldap.Entry) error {
	p, err := d.person(k, e)
	if err != nil {
		return err
	}
	err = d.search.with(ctx, func(c *conn) (err error) {
		c.raw.allow(answerBytes)
		if k == ActiveDirectory {
			p.Groups, err = d.tokenGroups(c, e.DN)
			return err
		}
		p.Groups, err = a.climb(d, c, e)
		return err
	})
	if errors.Is(err, ErrTooMany) {
		p.Groups, err = nil, nil
	}
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.people[p.ID] = p
	return nil
}

// climb is memberGroups with what is above a group asked only once for all people.
func (a *answers) climb(d *Directory, c *conn, e *ldap.Entry) ([]Group, error) {
	next, err := d.searchGroups(c, LDAP, membersFilter([]string{e.DN}, e.GetAttributeValue("uid")), maxGroups+1)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var out []Group
	for depth := 0; len(next) > 0 && depth < maxDepth; depth++ {
		layer := next
		next = nil
		for _, g := range layer {
			if seen[g.ID] {
				continue
			}
			seen[g.ID] = true
			if out = append(out, g); len(out) > maxGroups {
				return nil, tooMany()
			}
			above, err := a.parents(d, c, g.DN)
			if err != nil {
				return nil, err
			}
			next = append(next, above...)
		}
	}
	return out, nil
}

func (a *answers) parents(d *Directory, c *conn, dn string) ([]Group, error) {
	a.mu.Lock()
	above, known := a.above[dn]
	a.mu.Unlock()
	if known {
		return above, nil
	}
	above, err := d.searchGroups(c, LDAP, membersFilter([]string{dn}, ""), maxGroups+1)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.above[dn] = above
	return above, nil
}

// Group returns a group by identifier as it is now; ErrGone when the directory
// answered and has none.
func (d *Directory) Group(ctx context.Context, id string) (Group, error) {
	var g Group
	err := d.search.with(ctx, func(c *conn) error {
		k, err := d.kind(c)
		if err != nil {
			return err
		}
		which, err := idIs(k, id)
		if err != nil {
			return err
		}
		found, err := d.searchGroups(c, k, "(&"+k.groupClasses()+which+")", 1)
		if err == nil && len(found) == 0 {
			return fmt.Errorf("%w: no group below %q has the id %s", ErrGone, d.cfg.GroupBase, id)
		}
		if err == nil {
			g = found[0]
		}
		return err
	})
	if err != nil {
		return Group{}, answered(err)
	}
	return g, nil
}

// idsFilter matches people by their identifiers.
func (d *Directory) idsFilter(k Kind, ids []string) (string, error) {
	var b strings.Builder
	for _, id := range ids {
		which, err := idIs(k, id)
		if err != nil {
			return "", err
		}
		b.WriteString(which)
	}
	return d.people(k, "(|"+b.String()+")"), nil
}
