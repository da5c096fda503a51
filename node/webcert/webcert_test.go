package webcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/auth/seal"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

// authority is an organisation's own: a root and one below it.
type authority struct {
	t           *testing.T
	root, below *x509.Certificate
	rootKey     *ecdsa.PrivateKey
	belowKey    *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.root, a.rootKey = a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "Meridian Root"}, IsCA: true}, nil, nil, nil)
	a.below, a.belowKey = a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "Meridian Web"}, IsCA: true}, nil, a.root, a.rootKey)
	return a
}

func (a *authority) issue(tmpl *x509.Certificate, public any, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if public == nil {
		public = &key.PublicKey
	}
	if parent == nil {
		parent, signer = tmpl, key
	}
	tmpl.SerialNumber, tmpl.BasicConstraintsValid = big.NewInt(time.Now().UnixNano()), true
	if tmpl.NotAfter.IsZero() {
		tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, public, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return c, key
}

// sign answers a request; change may alter the certificate.
func (a *authority) sign(csr []byte, change func(*x509.Certificate)) *x509.Certificate {
	a.t.Helper()
	block, _ := pem.Decode(csr)
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		a.t.Fatal(err)
	}
	if err := r.CheckSignature(); err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{Subject: r.Subject, DNSNames: r.DNSNames, IPAddresses: r.IPAddresses, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if change != nil {
		change(tmpl)
	}
	c, _ := a.issue(tmpl, r.PublicKey, a.below, a.belowKey)
	return c
}

func bundle(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

type house struct {
	*guardtest.House
	*Service
	store store.Store
	ahead time.Duration
	admin auth.Principal
	cfg   Config
}

func open(t *testing.T) *house {
	t.Helper()
	st := storetest.NewModel(nil)
	h := &house{House: guardtest.Open(t, st), store: st, admin: guardtest.Admin()}
	keys, err := seal.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ca, err := keys.CA()
	if err != nil {
		t.Fatal(err)
	}
	internal, err := ca.NodeCert(seal.Identity{Names: []string{"node-1.example"}}, 0, h.now)
	if err != nil {
		t.Fatal(err)
	}
	h.cfg = Config{
		Internal: internal.Get, Sealer: keys, Copy: filepath.Join(t.TempDir(), "web.sealed"), Names: []string{"cloister.example", "10.0.0.1"},
		Now: h.now, Logger: slog.New(slog.DiscardHandler),
	}
	h.Service = New(h.cfg)
	if err := h.Attach(t.Context(), st, h.Guard); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) now() time.Time { return time.Now().Add(h.ahead) }

// shown is the issuer of the certificate that somebody sees who asks for a name.
func shown(t *testing.T, s *Service, name string) string {
	t.Helper()
	c, err := s.Get(&tls.ClientHelloInfo{ServerName: name})
	if err != nil {
		t.Fatal(err)
	}
	return strings.SplitAfter(c.Leaf.Issuer.CommonName, " ")[0]
}

func TestTheOrganisationsCertificateIsShownForItsNamesAndWhileItIsValid(t *testing.T) {
	h, a := open(t), newAuthority(t)
	csr, err := h.Request(t.Context(), h.admin, nil, "Meridian")
	if err != nil {
		t.Fatal(err)
	}
	status, err := h.Import(t.Context(), h.admin, bundle(a.root, a.sign(csr, nil), a.below)) // in any order
	if err != nil {
		t.Fatal(err)
	}
	if !status.Organisation || !slices.Contains(status.Names, "10.0.0.1") || status.Warning != "" {
		t.Errorf("%+v", status)
	}
	if got := shown(t, h.Service, "cloister.example"); got != "Meridian " {
		t.Errorf("for its name: issued by %s", got)
	}
	if got := shown(t, h.Service, "node-1.example"); got != "Cloister " {
		t.Errorf("for another name: issued by %s", got)
	}
	c, _ := h.Get(&tls.ClientHelloInfo{ServerName: "cloister.example"})
	if len(c.Certificate) != 2 {
		t.Errorf("%d certificates are sent, not the certificate and the one that signed it", len(c.Certificate))
	}
	// The next start shows it before the store is open; another node by the store.
	if got := shown(t, New(h.cfg), "cloister.example"); got != "Meridian " {
		t.Errorf("after a restart: issued by %s", got)
	}
	cfg := h.cfg
	cfg.Copy = ""
	other := New(cfg)
	if err := other.Attach(t.Context(), h.store, h.Guard); err != nil {
		t.Fatal(err)
	}
	if got := shown(t, other, "cloister.example"); got != "Meridian " {
		t.Errorf("on another node: issued by %s", got)
	}
	h.ahead = 80 * 24 * time.Hour
	if s := h.Status(); !s.Organisation || !strings.Contains(s.Warning, "cloister cert request") {
		t.Errorf("ten days before its end: %+v", s)
	}
	h.ahead = 91 * 24 * time.Hour
	if s := h.Status(); s.Organisation || !strings.Contains(s.Warning, "ran out") {
		t.Errorf("after its end: %+v", s)
	}
	if got := shown(t, h.Service, "cloister.example"); got != "Cloister " {
		t.Errorf("after its end: issued by %s", got)
	}
}

func TestARemovedCertificateIsGone(t *testing.T) {
	h, a := open(t), newAuthority(t)
	csr, err := h.Request(t.Context(), h.admin, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Import(t.Context(), h.admin, bundle(a.sign(csr, nil), a.below, a.root)); err != nil {
		t.Fatal(err)
	}
	if err := h.Remove(t.Context(), h.admin); err != nil {
		t.Fatal(err)
	}
	if got := shown(t, New(h.cfg), "cloister.example"); got != "Cloister " {
		t.Errorf("issued by %s", got)
	}
}

func TestWhatCannotBePutInForceIsRefusedWithASentence(t *testing.T) {
	a := newAuthority(t)
	tests := []struct {
		name, want string
		chain      func(csr []byte) []byte
	}{
		{"nothing", "no certificate in PEM", func([]byte) []byte { return []byte("hello") }},
		{"another key", "of the key of the newest request", func([]byte) []byte { return bundle(a.root, a.below) }},
		{"a private key", "take it out", func([]byte) []byte {
			return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte("x")})
		}},
		{"a chain without its root", "append the certificates that signed it", func(csr []byte) []byte { return bundle(a.sign(csr, nil), a.below) }},
		{"a chain with a gap", "does not hold", func(csr []byte) []byte { return bundle(a.sign(csr, nil), a.root) }},
		{"another authority's root", "does not hold", func(csr []byte) []byte { return bundle(a.sign(csr, nil), a.below, newAuthority(t).root) }},
		{"a name left out", "not for 10.0.0.1", func(csr []byte) []byte {
			return bundle(a.sign(csr, func(c *x509.Certificate) { c.IPAddresses = nil }), a.below, a.root)
		}},
		{"run out", "ran out at", func(csr []byte) []byte {
			return bundle(a.sign(csr, func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
			}), a.below, a.root)
		}},
		{"not begun", "begins at", func(csr []byte) []byte {
			return bundle(a.sign(csr, func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
			}), a.below, a.root)
		}},
		{"not for servers", "does not hold", func(csr []byte) []byte {
			return bundle(a.sign(csr, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }), a.below, a.root)
		}},
		{"too long", "a chain has", func([]byte) []byte { return make([]byte, maxPEM+1) }},
	}
	h := open(t)
	if _, err := h.Import(t.Context(), h.admin, bundle(a.root)); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "cloister cert request") {
		t.Errorf("without a request: %v", err)
	}
	csr, err := h.Request(t.Context(), h.admin, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := h.Import(t.Context(), h.admin, tt.chain(csr))
			if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one sentence with %q", err, tt.want)
			}
			if h.Status().Organisation {
				t.Error("it is in force")
			}
		})
	}
}

func TestOnlyWhoManagesTheClusterChangesTheCertificate(t *testing.T) {
	h := open(t)
	person := guardtest.Asker()
	_, errRequest := h.Request(t.Context(), person, nil, "")
	_, errImport := h.Import(t.Context(), person, nil)
	_, errShow := h.Show(t.Context(), person)
	for name, err := range map[string]error{"request": errRequest, "import": errImport, "remove": h.Remove(t.Context(), person), "show": errShow} {
		if !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
