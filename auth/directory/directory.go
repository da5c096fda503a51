// Package directory asks an organisation's directory (Active Directory, or any
// LDAP server with RFC 4519 entries) who somebody is, whether their password is
// right, and which groups they are in.
//
// It promises: a password leaves this process only over TLS that was verified
// against the pinned CA and the server's own name, and an empty or blank one
// never; what somebody typed reaches a filter escaped once and a DN never; a
// person is the directory's own immutable identifier, never a name; exactly one
// entry may match, and referrals are not followed; "did not answer" (ErrNoAnswer)
// is never "is gone" (ErrGone); every answer, list and wait has a bound.
//
// It knows neither sessions nor roles: auth/session maps groups to roles. It may
// import nothing of Cloister and alone imports go-ldap.
package directory

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// The kinds of error. What a person is told is the same for the first two.
var (
	// ErrRefused: unknown, wrong password, or an account that may not sign in; a
	// *RefusedError says which, for the log alone.
	ErrRefused = errors.New("the directory refuses this sign-in")
	// ErrAmbiguous: several entries match one name.
	ErrAmbiguous = errors.New("several entries of the directory match")
	// ErrNoAnswer: no server answered, or none could be trusted. It says nothing
	// about the person.
	ErrNoAnswer = errors.New("no server of the directory answered")
	// ErrGone: the directory answered, and has this person no more.
	ErrGone = errors.New("the directory has this person no more")
	// ErrConfig: the settings cannot work.
	ErrConfig = errors.New("the directory's settings cannot work")
	// ErrTooMany: more groups than a person can be in.
	ErrTooMany = errors.New("too many groups")
)

// Kind is what a directory understands.
type Kind string

// The kinds; an empty one is read from the server's root entry.
const (
	ActiveDirectory Kind = "ad"
	LDAP            Kind = "ldap"
)

// Bounds.
const (
	maxServers  = 8
	maxGroups   = 2048 // of one person; Windows itself allows 1,015
	maxDepth    = 16   // of groups in groups
	dialWait    = 1500 * time.Millisecond
	answerWait  = 2 * time.Second // of one operation
	answerBytes = 16 << 20        // of one answer
	connections = 32              // to all servers, for each use
)

// Config says how to reach and read a directory.
type Config struct {
	Name         string   // [a-z0-9-]{1,40}; part of each person's id, so it must never change
	Servers      []string // ldaps://host[:port], or ldap://host[:port] with StartTLS; tried in this order
	CA           []byte   // PEM; certificates of other authorities are not trusted
	BindDN       string   // the service account that searches
	BindPassword string
	Base         string   // people are below it
	GroupBase    string   // groups are; Base when empty
	Kind         Kind     // asked of the server when empty
	LoginAttrs   []string // what people sign in with; by kind when empty
	Filter       string   // a filter that a person must match beside; none when empty
}

var nameForm = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)

// Check says in a sentence what is wrong, without asking anybody.
func (c Config) Check() error {
	bad := func(f string, a ...any) error { return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(f, a...)) }
	if !nameForm.MatchString(c.Name) {
		return bad("the name %q must have 1 to 40 small letters, digits or hyphens", c.Name)
	}
	if len(c.Servers) == 0 || len(c.Servers) > maxServers {
		return bad("give 1 to %d servers", maxServers)
	}
	for _, s := range c.Servers {
		if _, err := parseServer(s); err != nil {
			return bad("%v", err)
		}
	}
	if _, err := c.roots(); err != nil {
		return bad("%v", err)
	}
	if c.BindDN == "" || strings.TrimSpace(c.BindPassword) == "" {
		return bad("give a service account and its password: anonymous searches are not used")
	}
	for name, dn := range map[string]string{"base": c.Base, "group base": c.GroupBase} {
		if dn == "" && name != "base" {
			continue
		}
		if p, err := ldap.ParseDN(dn); err != nil || len(p.RDNs) == 0 {
			return bad("the %s %q is not a distinguished name such as dc=example,dc=org", name, dn)
		}
	}
	if c.Filter != "" {
		if _, err := ldap.CompileFilter(c.Filter); err != nil {
			return bad("the filter %q cannot be read: %v", c.Filter, err)
		}
	}
	if c.Kind != "" && c.Kind != ActiveDirectory && c.Kind != LDAP {
		return bad("the kind is %q or %q, or left out", ActiveDirectory, LDAP)
	}
	return nil
}

func (c Config) roots() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(c.CA) {
		return nil, errors.New("give the PEM certificate of the authority that signed the directory's certificates")
	}
	return pool, nil
}

// server is one of Config.Servers.
type server struct {
	address  string // host:port
	host     string // what its certificate must be for
	startTLS bool
}

func parseServer(s string) (server, error) {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.User != nil || (u.Path != "" && u.Path != "/") || u.RawQuery != "" {
		return server{}, fmt.Errorf("%q is not a server such as ldaps://dc1.example.org", s)
	}
	port := u.Port()
	switch {
	case u.Scheme == "ldaps" && port == "":
		port = "636"
	case u.Scheme == "ldap" && port == "":
		port = "389"
	case u.Scheme != "ldaps" && u.Scheme != "ldap":
		return server{}, fmt.Errorf("%q must begin with ldaps:// or, for StartTLS, ldap://", s)
	}
	return server{address: net.JoinHostPort(u.Hostname(), port), host: u.Hostname(), startTLS: u.Scheme == "ldap"}, nil
}

func (s server) tls(roots *x509.CertPool) *tls.Config {
	return &tls.Config{RootCAs: roots, ServerName: s.host, MinVersion: tls.VersionTLS12}
}

// Person is one entry of the directory.
type Person struct {
	ID     string // objectGUID or entryUUID, small letters; the person, whatever they are called
	Login  string // the directory's own spelling of the name they sign in with
	Name   string // for display
	Mail   string // for display; never an identity
	DN     string
	State  State
	Groups []Group // all of them, through groups in groups; see Directory.Groups
}

// Group is a group of the directory.
type Group struct {
	ID   string // objectGUID or entryUUID, small letters
	Name string
	DN   string
	sid  string // Active Directory's security identifier
}

// Directory is a directory in use. It is safe for concurrent use.
type Directory struct {
	cfg     Config
	roots   *x509.CertPool
	servers []*remote
	search  *pool // connections bound as the service account
	bind    *pool // connections that people are bound on
	sids    sids
}

// New opens a directory. Nothing is dialled before it is used.
func New(cfg Config) (*Directory, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.GroupBase == "" {
		cfg.GroupBase = cfg.Base
	}
	roots, err := cfg.roots()
	if err != nil {
		return nil, err
	}
	d := &Directory{cfg: cfg, roots: roots}
	for _, s := range cfg.Servers {
		parsed, err := parseServer(s)
		if err != nil {
			return nil, err
		}
		d.servers = append(d.servers, &remote{server: parsed})
	}
	d.search, d.bind = newPool(d, d.bindService), newPool(d, nil)
	d.sids.known = map[string]sidGroup{}
	return d, nil
}

// Name is the directory's name.
func (d *Directory) Name() string { return d.cfg.Name }

// Close closes every connection.
func (d *Directory) Close() error {
	d.search.close()
	d.bind.close()
	return nil
}
