package directory

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// kind is what the server is, from the settings or its root entry.
func (d *Directory) kind(c *conn) (Kind, error) {
	if d.cfg.Kind != "" {
		return d.cfg.Kind, nil
	}
	c.remote.mu.Lock()
	k := c.remote.kind
	c.remote.mu.Unlock()
	if k != "" {
		return k, nil
	}
	root, err := rootEntry(c)
	if err != nil {
		return "", err
	}
	k = LDAP
	if len(root.GetAttributeValues("domainFunctionality")) > 0 || has(root.GetAttributeValues("supportedCapabilities"), "1.2.840.113556.1.4.800") {
		k = ActiveDirectory
	}
	c.remote.mu.Lock()
	c.remote.kind = k
	c.remote.mu.Unlock()
	return k, nil
}

func rootEntry(c *conn) (*ldap.Entry, error) {
	r, err := c.Search(ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false, "(objectClass=*)",
		[]string{"namingContexts", "supportedCapabilities", "domainFunctionality", "vendorName", "vendorVersion", "supportedControl", "dnsHostName", "defaultNamingContext"}, nil))
	if err != nil {
		return nil, err
	}
	if len(r.Entries) != 1 {
		return nil, errors.New("the server shows no root entry")
	}
	return r.Entries[0], nil
}

func has(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

func (k Kind) idAttr() string {
	if k == ActiveDirectory {
		return "objectGUID"
	}
	return "entryUUID"
}

func (k Kind) personAttrs() []string {
	if k == ActiveDirectory {
		return []string{"objectGUID", "sAMAccountName", "userPrincipalName", "displayName", "cn", "mail", "userAccountControl", "msDS-User-Account-Control-Computed", "accountExpires", "pwdLastSet"}
	}
	return []string{"entryUUID", "uid", "cn", "displayName", "mail", "memberOf", "nsAccountLock", "pwdAccountLockedTime", "pwdReset", "shadowExpire"}
}

func (k Kind) groupAttrs() []string {
	if k == ActiveDirectory {
		return []string{"objectGUID", "objectSid", "sAMAccountName", "cn"}
	}
	return []string{"entryUUID", "cn"}
}

func (k Kind) groupClasses() string {
	if k == ActiveDirectory {
		return "(objectClass=group)"
	}
	return "(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=posixGroup))"
}

func (d *Directory) loginAttrs(k Kind) []string {
	switch {
	case len(d.cfg.LoginAttrs) > 0:
		return d.cfg.LoginAttrs
	case k == ActiveDirectory:
		return []string{"sAMAccountName", "userPrincipalName"}
	}
	return []string{"uid"}
}

// personFilter matches who signs in with login. It is the only place where
// something that was typed meets a filter, and it is escaped once.
func (d *Directory) personFilter(k Kind, login string) string {
	var b strings.Builder
	for _, a := range d.loginAttrs(k) {
		fmt.Fprintf(&b, "(%s=%s)", a, ldap.EscapeFilter(login))
	}
	return d.people(k, "(|"+b.String()+")")
}

// idIs matches the entry with an identifier.
func idIs(k Kind, id string) (string, error) {
	if k != ActiveDirectory {
		return "(entryUUID=" + ldap.EscapeFilter(id) + ")", nil
	}
	raw, err := parseGUID(id)
	if err != nil {
		return "", err
	}
	return "(objectGUID=" + escapeBytes(raw) + ")", nil
}

func (d *Directory) people(k Kind, which string) string {
	class := "(|(objectClass=person)(objectClass=posixAccount))"
	if k == ActiveDirectory {
		class = "(objectCategory=person)(objectClass=user)"
	}
	return "(&" + class + which + d.cfg.Filter + ")"
}

func escapeBytes(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		fmt.Fprintf(&s, `\%02x`, c)
	}
	return s.String()
}

// entryID is an entry's immutable identifier in its usual spelling.
func entryID(k Kind, e *ldap.Entry) (string, error) {
	if k != ActiveDirectory {
		if id := e.GetAttributeValue("entryUUID"); id != "" {
			return strings.ToLower(id), nil
		}
		return "", fmt.Errorf("%w: the entry shows no entryUUID; let the service account read it", ErrConfig)
	}
	raw := e.GetRawAttributeValue("objectGUID")
	if len(raw) != 16 {
		return "", fmt.Errorf("%w: the entry shows no objectGUID; let the service account read it", ErrConfig)
	}
	return formatGUID(raw), nil
}

// formatGUID writes Windows' mixed order: three little-endian numbers, then bytes.
func formatGUID(b []byte) string {
	return fmt.Sprintf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%x-%x", b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8:10], b[10:16])
}

func parseGUID(s string) ([]byte, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 {
		return nil, fmt.Errorf("%w: %q is not an objectGUID", ErrConfig, s)
	}
	for _, p := range [][2]int{{0, 3}, {1, 2}, {4, 5}, {6, 7}} {
		b[p[0]], b[p[1]] = b[p[1]], b[p[0]]
	}
	return b, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
