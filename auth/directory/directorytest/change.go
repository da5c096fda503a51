package directorytest

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// edit runs f on a connection that may change everything.
func (s *Server) edit(t testing.TB, f func(*ldap.Conn) error) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.CA)
	c, err := ldap.DialURL(s.LDAPS, ldap.DialWithTLSConfig(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Bind(s.BindDN, s.BindPassword); err != nil {
		t.Fatal(err)
	}
	if err := f(c); err != nil {
		t.Fatal(err)
	}
}

// Binder returns a connection on which people's passwords are tried, one at a time,
// and what closes it: the least that any sign-in by slapd takes.
func (s *Server) Binder() (bind func(dn, password string) error, done func() error, err error) {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.CA)
	c, err := ldap.DialURL(s.LDAPS, ldap.DialWithTLSConfig(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}))
	if err != nil {
		return nil, nil, err
	}
	return c.Bind, c.Close, nil
}

// Add puts a value into an entry of slapd.
func (s *Server) Add(t testing.TB, dn, attribute, value string) {
	t.Helper()
	m := ldap.NewModifyRequest(dn, nil)
	m.Add(attribute, []string{value})
	s.edit(t, func(c *ldap.Conn) error { return c.Modify(m) })
}

// Take takes a value out of an entry of slapd; "" takes all of the attribute.
func (s *Server) Take(t testing.TB, dn, attribute, value string) {
	t.Helper()
	m := ldap.NewModifyRequest(dn, nil)
	var values []string
	if value != "" {
		values = []string{value}
	}
	m.Delete(attribute, values)
	s.edit(t, func(c *ldap.Conn) error { return c.Modify(m) })
}

// Create makes an entry of slapd, as PersonEntry and GroupEntry write it.
func (s *Server) Create(t testing.TB, entry string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(entry), "\n")
	a := ldap.NewAddRequest(strings.TrimPrefix(lines[0], "dn: "), nil)
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		a.Attribute(name, []string{value})
	}
	s.edit(t, func(c *ldap.Conn) error { return c.Add(a) })
}

// Delete removes an entry of slapd.
func (s *Server) Delete(t testing.TB, dn string) {
	t.Helper()
	s.edit(t, func(c *ldap.Conn) error { return c.Del(ldap.NewDelRequest(dn, nil)) })
}

// Rename gives an entry of slapd another first part of its DN.
func (s *Server) Rename(t testing.TB, dn, rdn string) {
	t.Helper()
	s.edit(t, func(c *ldap.Conn) error { return c.ModifyDN(ldap.NewModifyDNRequest(dn, rdn, true, "")) })
}
