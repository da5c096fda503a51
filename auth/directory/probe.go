package directory

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// Step is one step of a test of the connection.
type Step struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	Saw  string `json:"saw"`
	Next string `json:"next,omitempty"` // what to do about it
}

// Report is what a test of the connection saw, in order.
type Report struct {
	Steps  []Step  `json:"steps"`
	Person *Person `json:"person,omitempty"` // of the login, with their groups
}

// OK reports whether every step went well.
func (r Report) OK() bool {
	for _, s := range r.Steps {
		if !s.OK {
			return false
		}
	}
	return len(r.Steps) > 0
}

func (r *Report) saw(what, f string, a ...any) {
	r.Steps = append(r.Steps, Step{What: what, OK: true, Saw: fmt.Sprintf(f, a...)})
}

func (r *Report) failed(what string, err error, next string) {
	r.Steps = append(r.Steps, Step{What: what, Saw: err.Error(), Next: next})
}

// Test walks the connection to every server step by step and says what it saw;
// with a login it ends with that person and their groups. It takes no connection
// from the pools, needs nobody's password, and changes nothing.
func (d *Directory) Test(ctx context.Context, login string) Report {
	var r Report
	var c *conn
	for _, s := range d.servers {
		if own := d.testServer(ctx, s, &r); own != nil {
			if c != nil {
				_ = own.Close()
				continue
			}
			c = own
		}
	}
	if c == nil {
		return r
	}
	defer c.Close()
	k, err := d.kind(c)
	if err != nil {
		r.failed("read what kind of directory it is", plain(err), "set the kind to ad or ldap")
		return r
	}
	if d.testBase(c, k, &r) && login != "" {
		d.testPerson(c, k, login, &r)
	}
	return r
}

// testServer ends with a connection of the service account, or nil.
func (d *Directory) testServer(ctx context.Context, s *remote, r *Report) *conn {
	at := s.address
	ctx, cancel := context.WithTimeout(ctx, 2*dialWait)
	defer cancel()
	tcp, err := (&net.Dialer{Timeout: dialWait}).DialContext(ctx, "tcp", at)
	if err != nil {
		r.failed("reach "+at, err, "check the address, the route and the firewall between this node and the server")
		return nil
	}
	r.saw("reach "+at, "connected from %s to %s", tcp.LocalAddr(), tcp.RemoteAddr())
	_ = tcp.Close()
	c, err := d.dial(ctx, s)
	if err != nil {
		r.failed("trust "+at, err, d.whyNotTrusted(err, s))
		return nil
	}
	if state, ok := c.TLSConnectionState(); ok {
		leaf := state.PeerCertificates[0]
		r.saw("trust "+at, "%s, certificate of %s signed by %s, good until %s",
			tls.VersionName(state.Version), leaf.Subject, leaf.Issuer, leaf.NotAfter.UTC().Format(time.DateOnly))
	}
	c.raw.allow(answerBytes)
	if root, err := rootEntry(c); err != nil {
		r.failed("read the root entry of "+at, plain(err), "let everybody read the root entry, or set the kind")
	} else {
		r.saw("read the root entry of "+at, "%s", describe(root))
	}
	if err := d.bindService(c); err != nil {
		_ = c.Close()
		r.failed("sign in the service account at "+at, err, "check the account's DN and password, and that it is neither locked nor expired")
		return nil
	}
	r.saw("sign in the service account at "+at, "signed in as %s", d.cfg.BindDN)
	return c
}

func (d *Directory) whyNotTrusted(err error, s *remote) string {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &host):
		return fmt.Sprintf("the certificate is for %s: name the server as its certificate does", strings.Join(append(host.Certificate.DNSNames, host.Certificate.Subject.CommonName), ", "))
	case errors.As(err, &unknown):
		return "give the certificate of the authority that signed this server's certificate; a copy from the server itself proves nothing"
	case errors.As(err, &invalid):
		return "the certificate is not good now: have it renewed, and compare the clocks"
	case s.startTLS:
		return "the server may not offer StartTLS: try ldaps://"
	}
	return "the port may not speak TLS: try ldap:// for StartTLS, or port 636"
}

func describe(root *ldap.Entry) string {
	vendor := first(root.GetAttributeValue("vendorName"), root.GetAttributeValue("dnsHostName"), "an LDAP server")
	contexts := strings.Join(root.GetAttributeValues("namingContexts"), "; ")
	if version := root.GetAttributeValue("vendorVersion"); version != "" {
		vendor += " " + version
	}
	return fmt.Sprintf("%s with %s", vendor, first(contexts, "no naming context shown"))
}

func (d *Directory) testBase(c *conn, k Kind, r *Report) bool {
	c.raw.allow(answerBytes)
	res, err := c.Search(ldap.NewSearchRequest(d.cfg.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 1, int(answerWait.Seconds()), false, d.people(k, ""), []string{k.idAttr()}, nil))
	if err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) {
		r.failed("find people below "+d.cfg.Base, plain(d.baseMissing(err)), "check the base and what the service account may read")
		return false
	}
	if res == nil || len(res.Entries) == 0 {
		r.failed("find people below "+d.cfg.Base, errors.New("there is nobody that the account can see"), "check the base, the filter and what the service account may read")
		return false
	}
	if _, err := entryID(k, res.Entries[0]); err != nil {
		r.failed("find people below "+d.cfg.Base, err, "let the service account read "+k.idAttr())
		return false
	}
	r.saw("find people below "+d.cfg.Base, "people are there, each with an %s (kind %s)", k.idAttr(), k)
	groups, err := d.searchGroups(c, k, k.groupClasses(), 1)
	if err != nil || len(groups) == 0 {
		if err == nil {
			err = errors.New("there is no group that the account can see")
		}
		r.failed("find groups below "+d.cfg.GroupBase, plain(err), "check the group base and what the service account may read")
		return false
	}
	r.saw("find groups below "+d.cfg.GroupBase, "groups are there, such as %s", groups[0].Name)
	return true
}

func (d *Directory) testPerson(c *conn, k Kind, login string, r *Report) {
	what := "find who signs in as " + login
	c.raw.allow(answerBytes)
	e, err := d.one(c, d.personFilter(k, login), k.personAttrs())
	if err != nil {
		next := "check the spelling, the base and the sign-in attribute"
		if errors.Is(err, ErrAmbiguous) {
			next = "add a filter that only people's own accounts match"
		}
		r.failed(what, plain(err), next)
		return
	}
	p, err := d.person(k, e)
	if err == nil {
		p.Groups, err = d.groupsOf(c, k, e)
	}
	if err != nil {
		r.failed(what, plain(err), "let the service account read groups and their members")
		return
	}
	r.saw(what, "%s, %s, account %s, in %d groups", p.DN, p.Name, p.State, len(p.Groups))
	r.Person = &p
}
