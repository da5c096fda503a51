package directory

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// perFilter is how many entries one filter names.
const perFilter = 100

// groupsOf returns every group that a person is in, through groups in groups.
func (d *Directory) groupsOf(c *conn, k Kind, e *ldap.Entry) ([]Group, error) {
	if k == ActiveDirectory {
		return d.tokenGroups(c, e.DN)
	}
	return d.memberGroups(c, e)
}

// tokenGroups are what Windows itself would put into the person's token: all
// security groups, nested ones and the primary one included. The server computes
// them for one entry; their names come in one search for each hundred.
func (d *Directory) tokenGroups(c *conn, dn string) ([]Group, error) {
	r, err := c.Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, int(answerWait.Seconds()), false, "(objectClass=*)", []string{"tokenGroups"}, nil))
	if err != nil {
		return nil, err
	}
	if len(r.Entries) != 1 {
		return nil, fmt.Errorf("%w: the service account cannot read tokenGroups; let it", ErrConfig)
	}
	raw := r.Entries[0].GetRawAttributeValues("tokenGroups")
	if len(raw) > maxGroups {
		return nil, tooMany()
	}
	return d.bySID(c, raw)
}

// sids remembers which group has which security identifier. That never changes;
// a group's name may, so it is not remembered for long.
type sids struct {
	mu    sync.Mutex // guards known
	known map[string]sidGroup
}

type sidGroup struct {
	group Group
	at    time.Time
	none  bool // no group below the group base has it
}

const (
	sidsFor  = 5 * time.Minute
	sidsMost = 20_000
)

func (s *sids) get(sid []byte) (sidGroup, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.known[string(sid)]
	return g, ok && time.Since(g.at) < sidsFor
}

func (s *sids) put(sid string, g sidGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= sidsMost {
		clear(s.known)
	}
	g.at = time.Now()
	s.known[sid] = g
}

// bySID returns the groups with these security identifiers, asking only for those
// that are not remembered.
func (d *Directory) bySID(c *conn, all [][]byte) ([]Group, error) {
	var out []Group
	var ask [][]byte
	for _, sid := range all {
		if g, ok := d.sids.get(sid); !ok {
			ask = append(ask, sid)
		} else if !g.none {
			out = append(out, g.group)
		}
	}
	for len(ask) > 0 {
		n := min(perFilter, len(ask))
		var b strings.Builder
		for _, sid := range ask[:n] {
			b.WriteString("(objectSid=" + escapeBytes(sid) + ")")
		}
		found, err := d.searchGroups(c, ActiveDirectory, "(&(objectClass=group)(|"+b.String()+"))", n)
		if err != nil {
			return nil, err
		}
		bySID := map[string]Group{}
		for _, g := range found {
			bySID[g.sid] = g
		}
		for _, sid := range ask[:n] {
			g, ok := bySID[string(sid)]
			d.sids.put(string(sid), sidGroup{group: g, none: !ok})
		}
		out, ask = append(out, found...), ask[n:]
	}
	return out, nil
}

// memberGroups climbs from the person through the groups that name them, and the
// groups that name those, each once, so that a ring of groups ends.
func (d *Directory) memberGroups(c *conn, e *ldap.Entry) ([]Group, error) {
	seen := map[string]bool{}
	var out []Group
	layer := []string{e.DN}
	uid := e.GetAttributeValue("uid")
	for depth := 0; len(layer) > 0 && depth < maxDepth; depth++ {
		var next []string
		for len(layer) > 0 {
			n := min(perFilter, len(layer))
			found, err := d.searchGroups(c, LDAP, membersFilter(layer[:n], uid), maxGroups+1)
			if err != nil {
				return nil, err
			}
			layer = layer[n:]
			for _, g := range found {
				if seen[g.ID] {
					continue
				}
				seen[g.ID] = true
				if out = append(out, g); len(out) > maxGroups {
					return nil, tooMany()
				}
				next = append(next, g.DN)
			}
		}
		layer, uid = next, ""
	}
	return out, nil
}

// membersFilter matches groups that name one of the entries. A DN inside a filter
// is escaped as a filter's value, not as a DN.
func membersFilter(dns []string, uid string) string {
	var b strings.Builder
	for _, dn := range dns {
		v := ldap.EscapeFilter(dn)
		fmt.Fprintf(&b, "(member=%s)(uniqueMember=%s)", v, v)
	}
	if uid != "" {
		fmt.Fprintf(&b, "(memberUid=%s)", ldap.EscapeFilter(uid))
	}
	return "(|" + b.String() + ")"
}

func tooMany() error {
	return fmt.Errorf("%w: a person is in more than %d groups, so what they may do cannot be told; narrow the group base", ErrTooMany, maxGroups)
}

// searchGroups reads groups in pages, at most limit of them.
func (d *Directory) searchGroups(c *conn, k Kind, filter string, limit int) ([]Group, error) {
	req := ldap.NewSearchRequest(d.cfg.GroupBase, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, int(answerWait.Seconds()), false, filter, k.groupAttrs(), nil)
	paging := ldap.NewControlPaging(uint32(min(limit, 500)))
	req.Controls = []ldap.Control{paging}
	var out []Group
	for {
		r, err := c.Search(req)
		if err != nil {
			return nil, d.baseMissing(err)
		}
		for _, e := range r.Entries {
			id, err := entryID(k, e)
			if err != nil {
				return nil, err
			}
			out = append(out, Group{
				ID: id, Name: first(e.GetAttributeValue("cn"), e.GetAttributeValue("sAMAccountName"), e.DN), DN: e.DN, sid: string(e.GetRawAttributeValue("objectSid")),
			})
		}
		page, ok := ldap.FindControl(r.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
		if !ok || len(page.Cookie) == 0 || len(out) >= limit {
			return out[:min(len(out), limit)], d.endPaging(c, req, paging, page)
		}
		paging.SetCookie(page.Cookie)
		c.raw.allow(answerBytes)
	}
}

// endPaging tells the server that the rest of the pages is not wanted.
func (d *Directory) endPaging(c *conn, req *ldap.SearchRequest, paging, last *ldap.ControlPaging) error {
	if last == nil || len(last.Cookie) == 0 {
		return nil
	}
	paging.PagingSize = 0
	paging.SetCookie(last.Cookie)
	_, err := c.Search(req)
	if err != nil && silent(err) {
		return err
	}
	return nil
}

// Groups lists groups whose name contains the text, in no order, at most limit,
// and whether there are more: for choosing one, in a directory of any size.
func (d *Directory) Groups(ctx context.Context, text string, limit int) (out []Group, more bool, err error) {
	err = d.search.with(ctx, func(c *conn) error {
		k, err := d.kind(c)
		if err != nil {
			return err
		}
		filter := k.groupClasses()
		if text = strings.TrimSpace(text); text != "" {
			filter = "(&" + filter + "(cn=*" + ldap.EscapeFilter(text) + "*))"
		}
		out, err = d.searchGroups(c, k, filter, limit+1)
		return err
	})
	if err != nil {
		return nil, false, answered(err)
	}
	return out[:min(len(out), limit)], len(out) > limit, nil
}
